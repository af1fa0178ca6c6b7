import numpy as np

from flarenet.data.components import find_components
from flarenet.data.labels import HIDDEN
from flarenet.volume import Grid


def test_parts_touch_by_corners_and_neighbouring_labels_are_apart():
    drawn = np.zeros((3, 3, 3), dtype=np.uint8)
    drawn[0, 0, 0] = drawn[1, 1, 1] = 1
    drawn[2, 2, 2] = 2
    parts = find_components(drawn)
    assert sorted(zip(parts.label[1:].tolist(), parts.voxels[1:].tolist())) == [(1, 2), (2, 1)]
    assert parts.voxels.sum() == 27


def test_a_map_without_labels_has_no_parts():
    empty = np.array([[[0, HIDDEN, 0]]], dtype=np.uint8)
    assert find_components(empty).label.tolist() == [0]


def test_the_parts_that_are_named_are_painted_and_nothing_else():
    drawn = np.array([[[1, 0, 1, 1, 0, 2, HIDDEN]]], dtype=np.uint8)
    parts = find_components(drawn)
    parts.paint(drawn, parts.voxels == 1, 7)
    assert drawn.ravel().tolist() == [7, 0, 1, 1, 0, 7, HIDDEN]


def test_parts_touch_what_lies_under_or_beside_them_by_a_corner_too():
    drawn, mask = np.zeros((4, 4, 9), dtype=np.uint8), np.zeros((4, 4, 9), dtype=bool)
    drawn[0, 0, 0] = drawn[1, 1, 3] = drawn[3, 3, 6:] = 1
    mask[2, 2, 4] = mask[3, 3, 8] = True  # by a corner of the second, in the third, two voxels from the first
    parts = find_components(drawn)
    assert parts.touching(mask).tolist() == [False, False, True, True]
    assert [values.sum() for values in parts.surroundings(mask)] == [0, 1, 1]
    assert parts.mm3(Grid(drawn.shape, np.diag([1.0, 2.0, 4.0, 1.0])))[1:].tolist() == [8, 8, 24]
