"""What the tests of the data room share: small NIfTI files, a small data set, the real one where it is at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flarenet.data.labels import LabelSet

AFFINE_XYZ = np.array([[-2.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 5, 7], [0, 0, 0, 1]])


@pytest.fixture
def labels() -> LabelSet:
    """Two organs and a tumour that is drawn over them."""
    return LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})


@pytest.fixture
def save_nifti():
    """Write an array [x, y, z] by nibabel, with sform and qform; returns the path."""

    def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE_XYZ, kind=nibabel.Nifti1Image) -> Path:
        image = kind(array, affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        image.header.set_xyzt_units("mm")
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, path)
        return path

    return save


@pytest.fixture
def small_set(tmp_path: Path, save_nifti) -> Path:
    """Three cases: `full` with everything looked for, `part` with the liver only, `bare` without a label."""
    folder = tmp_path / "Small"
    scan = np.arange(60, dtype=np.int16).reshape(3, 4, 5) * 20 - 1000
    drawn = np.zeros((3, 4, 5), np.uint8)
    drawn[0, 0, :2], drawn[1, 1, 1] = 1, 3
    for number, name in enumerate(("full", "part", "bare")):
        save_nifti(folder / f"imagesTr/{name}_0000.nii.gz", scan + np.int16(number))
    save_nifti(folder / "labelsTr/full.nii.gz", drawn)
    save_nifti(folder / "labelsTr/part.nii.gz", np.where(drawn == 3, 0, drawn).astype(np.uint8))
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "spleen": 2, "tumor": 3},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        "tolerance_mm": {"liver": 5, "tumor": 2.5},
        "dataset": {
            "full": {"images": ["imagesTr/full_0000.nii.gz"], "label": "labelsTr/full.nii.gz"},
            "part": {"images": ["imagesTr/part_0000.nii.gz"], "label": "labelsTr/part.nii.gz", "annotated": [1]},
            "bare": {"images": ["imagesTr/bare_0000.nii.gz"], "annotated": []},
        },
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def edit_json():
    """Change dataset.json of a folder by a function of its content."""

    def edit(folder: Path, change) -> None:
        path = folder / "dataset.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


@pytest.fixture
def flaremini() -> Path:
    """The folder of the real partially labelled set."""
    root = Path(os.environ.get("FLARENET_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (root / "FLAREmini" / "dataset.json").is_file():
        pytest.skip(f"no FLAREmini below {root}; set FLARENET_TEST_DATA to the folder that holds it")
    return root / "FLAREmini"
