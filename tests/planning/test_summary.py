import numpy as np

from flarenet.data.labels import LabelSet
from flarenet.planning.fingerprint import summarise
from flarenet.planning.measure import CaseFingerprint, pack_histogram
from flarenet.planning.summary import MOST_SENTENCES, remarks, say_pattern

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


def test_long_lists_are_cut_short_and_say_where_the_rest_is():
    facts = {
        "shape": (1, 1, 1), "spacing_mm": (1.0, 1.0, 1.0), "body_shape": (1, 1, 1), "min_hu": -1000.0, "max_hu": 100.0,
        "annotated": (1, 2), "inferred": True, "voxels": {1: 9, 2: 0}, "histogram_of": "foreground", "key": "",
        "histogram": pack_histogram(np.ones(4096)),
    }  # fmt: skip
    cases = [CaseFingerprint(name=f"case{i:02d}", image_sha256=str(i), **facts) for i in range(20)]
    said = remarks(summarise("set", LABELS, cases, ambiguous={"case03": "fits two"}))
    assert sum("absent: kidney" in sentence for sentence in said) == MOST_SENTENCES
    assert f"and {20 - MOST_SENTENCES} more in fingerprint.json, under 'absent'" in said
    assert "case03: fits two" in said and any("in 20 cases: it was inferred" in sentence for sentence in said)
