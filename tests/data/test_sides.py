import pytest

from flarenet.data.sides import left_and_right, mirrored
from flarenet.errors import PlanError


@pytest.mark.parametrize(
    "names, expected",
    [
        (["liver", "right kidney", "spleen", "left kidney"], [0, 3, 2, 1]),
        (["kidney_left", "kidney_right", "aorta"], [1, 0, 2]),
        (["KidneyLeft", "Leftover", "KidneyRight"], [2, 1, 0]),
        (["RAG", "IVC", "LAG", "RK", "LK"], [2, 1, 0, 4, 3]),
        (["L kidney", "R kidney", "lung"], [1, 0, 2]),
        (["vertebra L1", "vertebra L2", "right lung", "left lung"], [0, 1, 3, 2]),
        (["rectum", "lectern"], [0, 1]),
        (["L lung", "R lung", "RRL", "LRL"], [1, 0, 3, 2]),
        (["печень", "селезёнка", "肝脏", "脾脏"], [0, 1, 2, 3]),
        (["Niere left", "Ärmchen right", "Niere right", "ärmchen_left"], [2, 3, 0, 1]),
        (["kidney+", "kidney-", "+", "-"], [0, 1, 2, 3]),
        ([], []),
    ],
)
def test_labels_of_the_two_sides_are_pairs_and_the_others_their_own(names, expected):
    assert mirrored(names) == expected


@pytest.mark.parametrize(
    "names, expected",
    [
        (["background", "right kidney", "liver", "Left Kidney"], [(3, 1)]),
        (["kidney_right", "kidney_left", "R lung", "L lung", "RAG", "LAG"], [(1, 0), (3, 2), (5, 4)]),
        (["left kidney", "right kidney", "left lung"], [(0, 1)]),
        (["LK", "RK+", "RK-", "left eye", "right eye"], [(3, 4)]),
        (["liver", "rectum"], []),
    ],
)
def test_pairs_are_those_that_have_one_counterpart(names, expected):
    assert left_and_right(names) == expected


def test_a_side_without_its_counterpart_is_refused():
    with pytest.raises(PlanError, match="'left kidney' in the same group"):
        mirrored(["liver", "right kidney"])


@pytest.mark.parametrize(
    "names, said",
    [
        (["left kidney", "right kidney", "kidney", "right (kidney)"], "'right kidney', 'right \\(kidney\\)'"),
        (["LK", "RK+", "RK-"], "'RK\\+', 'RK-'"),
    ],
)
def test_a_side_with_several_counterparts_is_refused(names, said):
    with pytest.raises(PlanError, match=f"counterparts {said}"):
        mirrored(names)
