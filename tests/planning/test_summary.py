from flarenet.data.labels import LabelSet
from flarenet.planning.summary import say_pattern

LABELS = LabelSet(
    names=("background", "liver", "kidney", "spleen", "aorta", "tumor"),
    groups={"organ": (1, 2, 3, 4), "cancer": (5,)},
)


def test_patterns_are_said_group_by_group():
    assert say_pattern((), LABELS) == "nothing (unlabelled)"
    assert say_pattern((1, 2, 3, 4), LABELS) == "all of organ (4)"
    assert say_pattern((1, 2, 4), LABELS) == "organ (3): all but spleen"
    assert say_pattern((1, 5), LABELS) == "organ (1): liver + tumor"
    assert say_pattern((5,), LABELS) == "tumor"
