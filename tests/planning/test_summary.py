import numpy as np
import pytest

from flarenet.data.labels import LabelSet
from flarenet.planning.cost.memory import gb_in_words
from flarenet.planning.measuring.fingerprint import summarise
from flarenet.planning.measuring.measure import CaseFingerprint, pack_histogram
from flarenet.planning.summary import MOST_SENTENCES, _duration, remarks, say_pattern

LABELS = LabelSet(
    names=("background", "liver", "kidney", "spleen", "aorta", "tumor"),
    groups={"organ": (1, 2, 3, 4), "cancer": (5,)},
)
FACTS = {
    "shape": (1, 1, 1), "spacing_mm": (1.0, 1.0, 1.0), "body_shape": (1, 1, 1), "min_hu": -1000.0, "max_hu": 100.0,
    "annotated": (1, 2), "inferred": True, "voxels": {1: 9, 2: 0}, "histogram_of": "foreground", "key": "",
    "histogram": pack_histogram(np.ones(4096)),
}  # fmt: skip


def test_patterns_are_said_group_by_group():
    assert say_pattern((), LABELS) == "nothing (unlabelled)"
    assert say_pattern((1, 2, 3, 4), LABELS) == "all of organ (4)"
    assert say_pattern((1, 2, 4), LABELS) == "organ (3): all but spleen"
    assert say_pattern((1, 5), LABELS) == "organ (1): liver + tumor"
    assert say_pattern((5,), LABELS) == "tumor"


@pytest.mark.parametrize(
    "seconds, said, rough",
    [(0.4, "0 s", "0 s"), (59, "59 s", "59 s"), (90, "2 min", "2 min"), (3599, "60 min", "60 min")]
    + [(5400, "1.5 h", "2 h"), (360000, "100.0 h", "100 h")],
)
def test_a_time_is_told_in_the_unit_that_it_fills(seconds, said, rough):
    assert (_duration(seconds), _duration(seconds, digits=0)) == (said, rough)


@pytest.mark.parametrize(
    "gb, said", [(0.0004, "0 MB"), (0.0346, "35 MB"), (0.96, "960 MB"), (1.0, "1.0 GB"), (12.34, "12.3 GB")]
)
def test_a_size_below_a_gigabyte_is_told_in_megabytes(gb, said):
    assert gb_in_words(gb) == said


def test_long_lists_are_cut_short_and_say_where_the_rest_is():
    cases = [CaseFingerprint(name=f"case{i:02d}", image_sha256=str(i), **FACTS) for i in range(20)]
    said = remarks(summarise("set", LABELS, cases, ambiguous={"case03": "fits two"}))
    assert sum("absent: kidney" in sentence for sentence in said) == MOST_SENTENCES
    assert f"and {20 - MOST_SENTENCES} more in fingerprint.json, under 'absent'" in said
    assert "case03: fits two" in said and any("in 20 cases: it was inferred" in sentence for sentence in said)


def test_a_set_that_may_be_annotated_evenly_is_told_how_to_say_so():
    """Nine cases of liver and kidney, and one of the liver alone: another cohort, or a patient without kidney."""
    cases = [CaseFingerprint(name=f"case{i}", image_sha256=str(i), **FACTS) for i in range(9)]
    assert not any('"patterns"' in sentence for sentence in remarks(summarise("set", LABELS, cases)))
    cases.append(CaseFingerprint(name="case9", image_sha256="9", **{**FACTS, "annotated": (1,), "voxels": {1: 9}}))
    line = '"patterns": {"all": {"annotated": ["liver", "kidney", "spleen", "aorta", "tumor"], "cases": ["*"]}}'
    assert any(sentence.endswith(line) for sentence in remarks(summarise("set", LABELS, cases)))


@pytest.mark.parametrize(
    "voxel_mm, tolerance_mm, said",
    [
        (0.1, {}, ["for liver, kidney, spleen, aorta, tumor, 20 voxels", "65000 voxels"]),
        (0.1, {name: 0.2 for name in LABELS.names[1:]}, ["65000 voxels"]),
        (0.4, {}, []),  # 5 voxels
    ],
)
def test_tolerances_and_sizes_that_are_many_voxels_are_told(voxel_mm, tolerance_mm, said):
    facts = {**FACTS, "spacing_mm": (voxel_mm,) * 3}
    cases = [CaseFingerprint(name="a", image_sha256="a", **facts)]
    cases.append(CaseFingerprint(name="b", image_sha256="b", **{**facts, "annotated": (1,), "voxels": {1: 9}}))
    labels = LABELS.model_copy(update={"tolerance_mm": tolerance_mm})
    found = [sentence for sentence in remarks(summarise("set", labels, cases)) if "can lower it" in sentence]
    assert len(found) == len(said) and all(words in sentence for words, sentence in zip(said, found))


@pytest.mark.parametrize(
    "spacing_mm, said",
    [
        ((0.5, 0.5, 4.0), ["sagittal, with voxels of 0.50 x 0.50 x 4.00 mm"]),
        ((0.5, 4.0, 0.5), ["coronal, with voxels of 0.50 x 4.00 x 0.50 mm"]),
        ((4.0, 0.5, 0.5), []),
        ((0.7, 0.8, 0.8), []),  # pixels are the coarsest, but no slices are cut
    ],
)
def test_scans_whose_axial_slices_are_cut_from_others_are_named(spacing_mm, said):
    case = CaseFingerprint(name="a", image_sha256="a", **{**FACTS, "spacing_mm": spacing_mm})
    found = [sentence for sentence in remarks(summarise("set", LABELS, [case])) if "3D trainers" in sentence]
    assert len(found) == len(said) and all(words in sentence for words, sentence in zip(said, found))
