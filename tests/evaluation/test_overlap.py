import numpy as np

from flarenet.evaluation.overlap import dice


def test_half_overlap():
    assert dice(np.array([True, True, False]), np.array([False, True, True])) == 0.5


def test_empty_masks():
    empty, full = np.zeros(3, dtype=bool), np.ones(3, dtype=bool)
    assert dice(empty, empty) == 1
    assert dice(empty, full) == 0 == dice(full, empty)
    assert dice(full, full) == 1
