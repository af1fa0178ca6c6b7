"""A whole phantom data set in the library's own format."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np

from ..schema import to_json
from ..volume import Volume
from ..whole import whole_file, write_text
from .anatomy import LABELS
from .case import phantom_case

_ALL_ORGANS, _FIVE = tuple(range(1, 14)), (1, 2, 3, 4, 13)

PATTERNS: tuple[tuple[int, ...], ...] = (
    _ALL_ORGANS, (*_FIVE, 14), (14,), (), _FIVE, _ALL_ORGANS,
    (*_FIVE, 14), _ALL_ORGANS, (14,), (*_FIVE, 14), (), _ALL_ORGANS,
)  # fmt: skip
"""The patterns of the cases, assigned in turn and repeated: the five of FLARE23.

A third of the cases has all organs annotated, against one in sixteen of FLARE23, so that a few dozen cases can be
trained on.
"""

_FIRST_TEST_INDEX = 1_000_000  # the test cases do not depend on the number of training cases


def write_phantom_set(folder: str | Path, *, cases: int, test_cases: int, seed: int, detail: float = 1.0) -> None:
    """Write a data set to `folder`: dataset.json, imagesTr, labelsTr, imagesTs, labelsTs.

    A label file holds only the labels annotated in its case; an unlabelled case has no label file. The test cases are
    fully annotated, tumours included.

    detail  as in phantom_case
    """
    folder = Path(folder)
    training = {
        f"phantom{index:04d}": _write_case(folder, "Tr", index, PATTERNS[index % len(PATTERNS)], seed, detail)
        for index in range(cases)
    }
    test = {
        f"phantom{index}": _write_case(folder, "Ts", index, LABELS.values, seed, detail)
        for index in range(_FIRST_TEST_INDEX, _FIRST_TEST_INDEX + test_cases)
    }
    # written last: a folder with a dataset.json is complete
    write_text(folder / "dataset.json", to_json(_description(folder.name, training, test)) + "\n")


def _description(name: str, training: dict[str, dict], test: dict[str, dict]) -> dict:
    return {
        "name": name,
        "description": "Synthetic abdominal CT, partially annotated in the five patterns of FLARE23.",
        "channel_names": {"0": "CT"},
        "labels": {label: value for value, label in enumerate(LABELS.names)},
        "groups": {group: list(values) for group, values in LABELS.groups.items()},
        "tolerance_mm": {LABELS.names[value]: LABELS.tolerance_of(value) for value in LABELS.values},
        "numTraining": len(training),
        "file_ending": ".nii.gz",
        "dataset": training,
        "test": test,
    }


def _write_case(folder: Path, part: str, index: int, annotated: tuple[int, ...], seed: int, detail: float) -> dict:
    """Write image and labels of one case; returns its entry in dataset.json."""
    case = phantom_case(seed, index, detail=detail)
    name = f"phantom{index:04d}"
    entry: dict = {"images": [f"images{part}/{name}_0000.nii.gz"]}
    _write(folder / entry["images"][0], case.image)
    if annotated:
        entry["label"] = f"labels{part}/{name}.nii.gz"
        _write(folder / entry["label"], case.labels(annotated))
    return {**entry, "annotated": list(annotated)}


def _write(path: Path, volume: Volume) -> None:
    """Write `volume` as NIfTI; the same volume gives the same bytes."""
    affine = volume.grid.affine[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(np.ascontiguousarray(volume.data.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    with whole_file(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
