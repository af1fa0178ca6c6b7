import numpy as np
import pytest

from flarenet.data.labels import LabelSet
from flarenet.evaluation.lesions import SIZES_ML, Lesion, LesionCount, count_lesions, find_lesions, match_lesions
from flarenet.evaluation.masks import TwoMaps
from flarenet.volume import Grid, Volume

LABELS = LabelSet(names=("background", "liver", "cyst", "tumor"), groups={"organ": (1,), "lesion": (2, 3)})
SHAPE = (6, 12, 20)


def _mask(*boxes) -> np.ndarray:
    """Boxes (y, x, extent): cubes that begin at slice 1."""
    mask = np.zeros(SHAPE, dtype=bool)
    for y, x, n in boxes:
        mask[1 : 1 + n, y : y + n, x : x + n] = True
    return mask


def _match(truth: np.ndarray, prediction: np.ndarray) -> list[tuple[str, float, float | None]]:
    lesions = match_lesions(truth, prediction, label="tumor", voxel_ml=0.5)
    return [(lesion.outcome, lesion.volume_ml, lesion.dsc) for lesion in lesions]


def test_found_missed_and_false_by_hand():
    truth, prediction = _mask((1, 1, 2), (6, 6, 3)), _mask((1, 2, 2), (8, 15, 2))
    assert _match(truth, prediction) == [("found", 4.0, 0.5), ("missed", 13.5, 0.0), ("false", 4.0, None)]


def test_one_voxel_is_enough_to_be_found():
    assert _match(_mask((1, 1, 3)), _mask((3, 3, 1)) & False) == [("missed", 13.5, 0.0)]
    single = np.zeros(SHAPE, dtype=bool)
    single[3, 3, 3] = True
    assert _match(_mask((1, 1, 3)), single) == [("found", 13.5, pytest.approx(2 / 28))]


def test_voxels_that_touch_at_a_corner_are_one_lesion():
    truth = np.zeros(SHAPE, dtype=bool)
    truth[1, 1, 1] = truth[2, 2, 2] = True
    assert _match(truth, truth) == [("found", 1.0, 1.0)]
    truth[2, 2, 2], truth[3, 1, 1] = False, True
    assert _match(truth, truth) == [("found", 0.5, 1.0)] * 2


def test_a_prediction_over_two_lesions_finds_both_and_is_weighed_against_each():
    truth, prediction = _mask((1, 1, 2), (1, 5, 2)), np.zeros(SHAPE, dtype=bool)
    prediction[1:3, 1:3, 1:7] = True  # 24 voxels over two lesions of 8
    assert _match(truth, prediction) == [("found", 4.0, 0.5)] * 2


def test_two_predictions_in_one_lesion_are_both_right():
    truth, prediction = _mask((1, 1, 4)), _mask((1, 1, 1), (4, 4, 1))
    assert _match(truth, prediction) == [("found", 32.0, pytest.approx(2 * 2 / (64 + 2)))]


def test_nothing_on_either_side():
    empty, one = _mask(), _mask((1, 1, 1))
    assert _match(empty, empty) == []
    assert _match(empty, one) == [("false", 0.5, None)]
    assert _match(one, empty) == [("missed", 0.5, 0.0)]


def test_only_labels_of_later_groups_that_are_asked_for():
    data = _mask((1, 1, 2)) * 1 + _mask((6, 6, 2)) * 2 + _mask((6, 12, 2)) * 3
    grid = Grid(SHAPE, np.diag([10.0, 10.0, 10.0, 1.0])[:, [2, 1, 0, 3]])
    maps = TwoMaps(*(Volume(array.astype(np.uint8), grid) for array in (data, np.minimum(data, 2))))
    found = find_lesions(maps, labels=LABELS, to_score={1, 2, 3})
    assert [(lesion.label, lesion.outcome, lesion.volume_ml) for lesion in found] == [
        ("cyst", "found", 8.0),  # the tumor is called a cyst: missed as the one and false as the other
        ("cyst", "false", 8.0),
        ("tumor", "missed", 8.0),
    ]
    assert find_lesions(maps, labels=LABELS, to_score={1, 3}) == found[2:]


def test_a_class_of_volume_begins_at_its_bound():
    sizes = [Lesion(label="tumor", outcome="found", volume_ml=v, dsc=1.0).size for v in (0.1, 0.4999, 0.5, 4.9, 5.0)]
    first, second, third = SIZES_ML
    assert sizes == [first, first, second, second, third]
    counts = count_lesions([Lesion(label="tumor", outcome="missed", volume_ml=0.1, dsc=0.0)], LABELS)
    assert list(counts) == ["cyst", "tumor"]
    assert counts["tumor"][first] == LesionCount(missed=1) and counts["tumor"][third] == LesionCount()


def test_a_predicted_lesion_beside_what_nobody_annotated_is_not_false():
    """Two predicted ones, of which one touches an ignored voxel at a corner; a missed one of the truth stays missed."""
    truth, prediction, ignored = _mask((1, 1, 2)), _mask((6, 6, 2), (8, 15, 2)), _mask() & False
    ignored[3, 8, 8] = True
    lesions = match_lesions(truth, prediction, label="tumor", voxel_ml=0.5, ignored=ignored)
    assert [(lesion.outcome, lesion.volume_ml) for lesion in lesions] == [("missed", 4.0), ("false", 4.0)]
    ignored[3, 8, 8], ignored[4, 8, 8] = False, True  # two slices away
    lesions = match_lesions(truth, prediction, label="tumor", voxel_ml=0.5, ignored=ignored)
    assert [lesion.outcome for lesion in lesions] == ["missed", "false", "false"]
