"""Is a case what dataset.json says it is? Every problem of a case is found, not only the first."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..errors import DatasetError, FlarenetError, GeometryError
from ..volume import Grid, Volume
from .cases import Pool, map_cases
from .dataset import Case, Dataset
from .labels import LabelSet
from .nifti import read_image, read_labels

SAME_GRID_MM = 0.1
"""How far a label's corner voxel may lie from its image's."""


def check_dataset(dataset: Dataset, *, workers: int | Pool = 1) -> list[tuple[Case, FlarenetError]]:
    """Every problem of every case, training and test, in order; an empty list is a sound data set.

    workers  processes, as in map_cases
    """
    cases = [*dataset.cases, *dataset.test]
    found, failed = map_cases(
        partial(_with_case, labels=dataset.labels), cases, workers=workers, describe=f"check {dataset.name}"
    )
    problems = {case.image: errors for case, errors in found} | {case.image: [error] for case, error in failed}
    return [(case, error) for case in cases for error in problems[case.image]]


def check_case(case: Case, labels: LabelSet) -> list[FlarenetError]:
    """Every problem of one case; an empty list is a sound case.

    Image and label must be readable to their last byte and lie on one grid; the label must hold no value outside
    the table (then read_labels says which) and none that nobody looked for.
    """
    problems: list[FlarenetError] = []
    image = _grid(case, problems)
    if case.label is None:
        return problems
    try:
        drawn = read_labels(case.label, labels, values=case.values)
    except FlarenetError as error:
        return [*problems, error]
    if image is not None:
        problems += _check_grids(case, image, drawn.grid)
    return problems + _check_annotated(case, drawn, labels)


def _with_case(case: Case, *, labels: LabelSet) -> tuple[Case, list[FlarenetError]]:
    return case, check_case(case, labels)


def _grid(case: Case, problems: list[FlarenetError]) -> Grid | None:
    try:
        return read_image(case.image).grid
    except FlarenetError as error:
        problems.append(error)
        return None


def _check_grids(case: Case, image: Grid, label: Grid) -> list[FlarenetError]:
    if label.shape != image.shape:
        return [
            GeometryError(
                case.label,
                found=f"shape {label.shape} (z, y, x)",
                expected=f"{image.shape}, as {case.image}",
                remedy="resample the label onto the image's grid by nearest neighbour",
            )
        ]
    apart_mm = image.largest_distance_mm(label)
    if apart_mm <= SAME_GRID_MM:
        return []
    return [
        GeometryError(
            case.label,
            found=f"voxels up to {apart_mm:.3g} mm away from those of {case.image}",
            expected=f"at most {SAME_GRID_MM} mm",
            remedy="find out which of the two headers is right",
        )
    ]


def _check_annotated(case: Case, drawn: Volume, labels: LabelSet) -> list[FlarenetError]:
    counts = np.bincount(drawn.data.ravel(), minlength=len(labels.names))
    surplus = [value for value in labels.values if counts[value] and value not in case.annotated]
    if not surplus:
        return []
    allowed = ", ".join(f"{value} {labels.names[value]}" for value in sorted(case.annotated))
    listed = ", ".join(f"{value} {labels.names[value]} ({counts[value]} voxels)" for value in surplus)
    return [
        DatasetError(
            case.label,
            found=f"drawn: {listed}",
            expected="only values of 'annotated': " + allowed,
            remedy="add the values to 'annotated' of this case if they were looked for, else clear them from the label",
        )
    ]
