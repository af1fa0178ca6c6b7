import numpy as np

from flarenet.data.components import find_components
from flarenet.data.labels import HIDDEN


def test_parts_touch_by_corners_and_neighbouring_labels_are_apart():
    drawn = np.zeros((3, 3, 3), dtype=np.uint8)
    drawn[0, 0, 0] = drawn[1, 1, 1] = 1
    drawn[2, 2, 2] = 2
    parts = find_components(drawn)
    assert sorted(zip(parts.label[1:].tolist(), parts.voxels[1:].tolist())) == [(1, 2), (2, 1)]
    assert parts.voxels.sum() == 27
    assert find_components(drawn, 2).label.tolist() == [0, 2]


def test_a_map_without_labels_has_no_parts():
    empty = np.array([[[0, HIDDEN, 0]]], dtype=np.uint8)
    assert find_components(empty).label.tolist() == [0]
    assert find_components(empty, 1).label.tolist() == [0]


def test_the_parts_that_are_named_are_painted_and_nothing_else():
    drawn = np.array([[[1, 0, 1, 1, 0, 2, HIDDEN]]], dtype=np.uint8)
    parts = find_components(drawn)
    parts.paint(drawn, parts.voxels == 1, 7)
    assert drawn.ravel().tolist() == [7, 0, 1, 1, 0, 7, HIDDEN]
