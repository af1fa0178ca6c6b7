"""Which scans variants are scored on, and what is asked of each; no file is opened."""

from dataclasses import replace
from pathlib import Path

import pytest

from flarenet.choice.scored_cases import cases_in
from flarenet.data.dataset import Case, Dataset
from flarenet.data.labels import HIDDEN, LabelSet
from flarenet.data.reading import Reading
from flarenet.errors import UsageError

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})
ASKED = Reading(affine="sform")


@pytest.fixture
def given(tmp_path):
    """Folders of images and truths with cases `known` and `other`."""
    for path in (f"{folder}/{name}.nii.gz" for folder in ("images", "truth") for name in ("known", "other")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    return tmp_path / "images", tmp_path / "truth"


def dataset_of(*cases):
    return Dataset("Tiny", Path("nowhere"), LABELS, cases, ())


def test_cases_of_the_set_are_read_as_they_were_planned_and_others_as_was_asked(given):
    known = Case("known", Path("i.nii.gz"), Path("l.nii.gz"), frozenset({1}), reading=ASKED)
    for reading in (Reading(), Reading(affine="qform")):
        cases = cases_in(*given, dataset_of(known), held_out=["known"], reading=reading)
        assert {case.name: case.reading for case in cases} == {"known": ASKED, "other": reading}


def test_what_is_asked_of_a_truth_that_was_drawn_elsewhere(given):
    """Of a case without a label nothing is known; one in which planning inferred that nothing was looked for is out."""
    partly = Case("known", Path("i.nii.gz"), Path("l.nii.gz"), frozenset({1}))
    bare = Case("known", Path("i.nii.gz"), None, frozenset())
    inferred_empty = Case("known", Path("i.nii.gz"), None, frozenset(), declared=False)
    for known, asked in ((partly, {1}), (bare, {1, 2}), (inferred_empty, None)):
        cases = cases_in(*given, dataset_of(known), held_out=["known"])
        assert {case.name: case.annotated for case in cases}.get("known") == asked
    (given[0] / "other.nii.gz").unlink()
    with pytest.raises(UsageError, match="searched for a label"):
        cases_in(*given, dataset_of(inferred_empty), held_out=["known"])


def test_a_case_numbered_0000_has_the_truth_of_its_number(tmp_path):
    for path in ("images/a_0000_0000.nii.gz", "truth/a_0000.nii.gz", "images/b_0000.nii.gz", "truth/b.nii.gz"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    cases = cases_in(tmp_path / "images", tmp_path / "truth", dataset_of(), held_out=())
    assert {case.name: case.label for case in cases} == {
        name: tmp_path / "truth" / f"{name}.nii.gz" for name in ("a_0000", "b")
    }


def test_a_truth_that_was_drawn_elsewhere_may_ignore_voxels_too(given):
    dataset = replace(dataset_of(), ignore=7)
    assert {case.name: case.values for case in cases_in(*given, dataset, held_out=())} == {
        name: {1: 1, 2: 2, 7: HIDDEN} for name in ("known", "other")
    }
