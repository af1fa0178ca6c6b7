"""The cases that variants are scored on: labelled cases from which no model learns."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..data.dataset import Case, Dataset
from ..data.names import case_name, files_by_case, find_images
from ..data.reading import STRICT, Reading
from ..errors import DatasetError, UsageError
from ..evaluation.rules import PLAIN


def labelled_test_cases(dataset: Dataset) -> list[Case]:
    """The test cases that have a label file. Raises UsageError where there is none."""
    return _some([case for case in dataset.test if case.label is not None], "a labelled test case in dataset.json")


def held_out_cases(dataset: Dataset, held_out: Collection[str]) -> list[Case]:
    """The annotated cases among `held_out`. Raises UsageError where there is none."""
    cases = [case for case in dataset.cases if case.name in held_out and case.label is not None]
    return _some(cases, "an annotated case that the fold holds out")


def cases_in(
    images: Path, truth: Path, dataset: Dataset, *, held_out: Collection[str], reading: Reading = STRICT
) -> list[Case]:
    """The scans in the folder `images`, with their label maps in `truth` and the labels annotated in them.

    Where the data set does not state these, they are all labels. Scans annotated for none are left out.
    held_out  names of cases of the data set that no model learns from
    reading   how files of other cases are read; cases of the data set are read as planned
    Raises DatasetError for a scan without a truth, UsageError for a scan that models learn from, or where none is left.
    """
    scans = {case_name(image): image for image in find_images(images)}
    truths = files_by_case(truth, scans)
    known = dataset.by_name
    learned = {case.name for case in dataset.cases} - set(held_out)
    cases = []
    for name, image in scans.items():
        if name not in truths:
            raise DatasetError(image, found=f"no {name}.nii.gz in {truth}", expected="a truth for every scan")
        if name in learned:
            raise UsageError(image, found=f"{name}, which the models learn from", expected="cases that they never see")
        to_score = PLAIN.to_score(known[name].looked_for if name in known else None, dataset.labels)
        how = known[name].reading if name in known else reading
        cases.append(Case(name, image, truths[name], to_score, values=dataset.values_of(truths[name]), reading=how))
    return _some([case for case in cases if case.annotated], f"a scan of {images} that was searched for a label")


def _some(cases: list[Case], expected: str) -> list[Case]:
    if not cases:
        raise UsageError(
            "the cases to score on", found="none", expected=expected, remedy="-i IMAGES -g TRUTH, or --held-out"
        )
    return cases
