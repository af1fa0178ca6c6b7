import numpy as np
import pytest
from scipy.ndimage import find_objects

from flarenet.errors import GeometryError
from flarenet.evaluation.masks import TwoMaps, label_boxes
from flarenet.volume import Grid, Volume

GRID = Grid((5, 6, 7), np.diag([1.5, 2.0, 4.0, 1.0])[:, [2, 1, 0, 3]])


def _volume(**voxels: tuple[int, int, int]) -> Volume:
    data = np.zeros(GRID.shape, dtype=np.uint8)
    for name, at in voxels.items():
        data[at] = int(name[1:])
    return Volume(data, GRID)


def test_boxes_of_all_labels():
    data = _volume(v3=(1, 2, 3), v255=(4, 5, 6)).data
    data[0, 0, 0:2] = 1
    assert label_boxes(data) == {
        1: (slice(0, 1), slice(0, 1), slice(0, 2)),
        3: (slice(1, 2), slice(2, 3), slice(3, 4)),
        255: (slice(4, 5), slice(5, 6), slice(6, 7)),
    }
    assert label_boxes(np.zeros_like(data)) == {}


@pytest.mark.parametrize("shape", [(6, 9, 11), (1, 1, 20), (20, 5, 1)])
def test_boxes_of_labels_that_go_over_into_each_other_and_over_the_border(shape):
    data = np.random.default_rng(3).choice([0, 1, 1, 1, 9, 254], shape).astype(np.uint8)
    for map_ in (data, data.transpose(2, 0, 1), np.full(shape, 7, np.uint8)):
        expected = dict(enumerate(find_objects(map_), start=1))
        assert label_boxes(map_) == {value: box for value, box in expected.items() if box is not None}


def test_masks_lie_in_the_box_of_both():
    maps = TwoMaps(_volume(v1=(1, 1, 1), v2=(0, 0, 0)), _volume(v1=(3, 2, 1)))
    truth, prediction = maps.masks(1)
    assert truth.shape == prediction.shape == (3, 2, 1)
    assert np.argwhere(truth).tolist() == [[0, 0, 0]] and np.argwhere(prediction).tolist() == [[2, 1, 0]]
    truth, prediction = maps.masks(2)
    assert truth.all() and not prediction.any()
    assert maps.masks(3) is None


def test_spacing_and_volume_of_a_voxel():
    maps = TwoMaps(_volume(), _volume())
    assert maps.spacing_mm == (4.0, 2.0, 1.5)
    assert maps.voxel_ml == 0.012


def test_a_voxel_whose_axes_lean_is_as_large_as_it_is():
    affine = GRID.affine.copy()
    affine[1, 0] = 3.0  # slices 4 mm apart, each pushed by 3 mm: a step of 5 mm
    leaning = Volume(_volume().data, Grid(GRID.shape, affine))
    maps = TwoMaps(leaning, leaning)
    assert maps.spacing_mm == (5.0, 2.0, 1.5) and maps.voxel_ml == 0.012


def test_another_grid_is_refused():
    other = Grid(GRID.shape, GRID.affine * [[1.1], [1], [1], [1]])
    with pytest.raises(GeometryError, match="mm away"):
        TwoMaps(_volume(), Volume(_volume().data, other))
    with pytest.raises(GeometryError, match="shape"):
        TwoMaps(_volume(), Volume(_volume().data[1:], Grid((4, 6, 7), GRID.affine)))


def test_where_the_truth_is_hidden_neither_map_has_a_label():
    """The box of a label shows then what lies beside it."""
    prediction = _volume(v1=(3, 2, 1), v2=(4, 5, 6))
    maps = TwoMaps(_volume(v1=(1, 1, 1), v255=(4, 5, 6)), prediction)
    truth, predicted = maps.masks(1)
    assert truth.shape == (5, 4, 3) and maps.ignored(1).shape == truth.shape and not maps.ignored(1).any()
    assert np.argwhere(truth).tolist() == [[1, 1, 1]] and np.argwhere(predicted).tolist() == [[3, 2, 1]]
    assert maps.masks(2) is None and maps.ignored(2) is None
    assert prediction.data[4, 5, 6] == 2  # what was given is not changed
    beside = TwoMaps(_volume(v1=(1, 1, 1), v255=(1, 1, 2)), _volume())
    assert np.argwhere(beside.ignored(1)).tolist() == [[1, 1, 2]]
    assert TwoMaps(_volume(v1=(1, 1, 1)), _volume()).ignored(1) is None
