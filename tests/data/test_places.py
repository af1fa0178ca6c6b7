"""Places of labels: all of a small one, a spread of a large one, never a hidden voxel."""

import numpy as np

from flarenet.data.places import PER_SLICE, places_of


def test_by_hand():
    group_map = np.zeros((3, 2, 4), dtype=np.uint8)
    group_map[0, 1, 2] = 2
    group_map[2, 0, :2] = 1
    group_map[2, 1, 3] = 2
    group_map[1] = 255
    places, voxels = places_of(group_map)
    np.testing.assert_array_equal(places, [[1, 16], [1, 17], [2, 6], [2, 23]])
    assert voxels == {1: 2, 2: 2}
    assert places.dtype == np.uint32


def test_nothing_drawn():
    places, voxels = places_of(np.full((2, 3, 3), 255, dtype=np.uint8))
    assert places.shape == (0, 2) and voxels == {}


def test_a_large_label_is_sampled_evenly_in_each_slice():
    group_map = np.ones((4, 50, 60), dtype=np.uint8)
    group_map[:, :5] = 3
    places, voxels = places_of(group_map)
    assert voxels == {1: 4 * 45 * 60, 3: 4 * 5 * 60}
    for label in (1, 3):
        z, y, x = np.unravel_index(places[places[:, 0] == label, 1], group_map.shape)
        assert np.bincount(z).tolist() == [PER_SLICE] * 4
        assert (group_map[z, y, x] == label).all()
        rows = y[z == 2] if label == 1 else y[z == 2] + 5
        assert np.ptp(rows) >= (40 if label == 1 else 3)  # from one end to the other
    np.testing.assert_array_equal(places, places_of(group_map)[0])


def test_what_is_kept_of_a_label_grows_to_all_of_it():
    for count in (1, 15, 16, 17, 100):
        group_map = np.zeros((1, 10, 10), dtype=np.uint8)
        group_map.reshape(-1)[:count] = 5
        kept = places_of(group_map)[0][:, 1]
        assert len(np.unique(kept)) == len(kept) == min(count, PER_SLICE)
        assert kept.max() < count
