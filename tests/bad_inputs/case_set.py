"""A data set of one good case and a bad one beside it, checked by the command as a person would."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np

from flarenet.cli.plan import main
from flarenet.data.findings import Finding
from flarenet.data.verify import Check
from flarenet.errors import DatasetError
from flarenet.schema import load

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 5, 7], [0, 0, 0, 1]])
"""Index (i, j, k) to RAS mm: an LAS file."""

SHAPE = (12, 16, 20)
GEOMETRY = ("dim", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d")
GEOMETRY += ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """Image (HU) and labels [x, y, z]: a body with a bright liver on one side and a dark spleen on the other."""
    image = np.random.default_rng(0).normal(-1000, 10, SHAPE)
    image[1:11, 2:14, 1:19] += 1040
    image[2:6, 4:11, 4:14] += 120
    image[8:10, 8:12, 8:14] -= 90
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[2:6, 4:11, 4:14], drawn[8:10, 8:12, 8:14] = 1, 2
    return np.rint(image).astype(np.int16), drawn


def nifti_bytes(array: np.ndarray, affine: np.ndarray = AFFINE, *, kind=nibabel.Nifti1Image, order="<", **fields):
    """A file with both forms and mm; `fields` are changed in the header afterwards, whatever they are worth."""
    dtype = array.dtype.newbyteorder(order) if array.dtype.names is None else array.dtype
    image = kind(array.astype(dtype), affine, kind.header_class(endianness=order), dtype=dtype)
    image.set_qform(affine, 1, strip_shears=True)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    size = kind.header_class.sizeof_hdr
    header = kind.header_class(content[:size], endianness=order, check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + content[size:]


def geometry_of(path: Path) -> dict[str, bytes]:
    """The fields of a header that say where its voxels lie."""
    header = nibabel.load(path).header
    return {name: header[name].tobytes() for name in GEOMETRY}


class Set:
    """A data set of one good case, and of `bad` beside it once its files are written."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "raw" / "Rows"
        self.scan, self.drawn = phantom()
        self.modality, self.ending = "CT", ".nii.gz"
        self.table: dict[str, dict] = {}
        self.test: dict[str, dict] = {}
        self.good("good")

    @property
    def image(self) -> Path:
        return self.folder / f"imagesTr/bad_0000{self.ending}"

    @property
    def label(self) -> Path:
        return self.folder / "labelsTr/bad.nii.gz"

    def good(self, name: str) -> None:
        image = self.scan.copy()
        image[0, 0, 0] = -900 - len(self.table)  # no copy of another case
        self.write(self.folder / f"imagesTr/{name}_0000.nii.gz", nifti_bytes(image))
        self.write(self.folder / f"labelsTr/{name}.nii.gz", nifti_bytes(self.drawn))
        files = {"images": [f"imagesTr/{name}_0000.nii.gz"], "label": f"labelsTr/{name}.nii.gz"}
        self.table[name] = {**files, "annotated": [1, 2]}

    def write(self, path: Path, content: bytes, *, zipped: bool | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        zipped = path.name.endswith(".gz") if zipped is None else zipped
        path.write_bytes(gzip.compress(content, 1, mtime=0) if zipped else content)
        return path

    def bad_image(self, array: np.ndarray | None = None, affine: np.ndarray = AFFINE, **words) -> Path:
        return self.write(self.image, nifti_bytes(self.scan if array is None else array, affine, **words))

    def bad_label(self, array: np.ndarray | None = None, affine: np.ndarray = AFFINE, **words) -> Path:
        if not self.image.exists():
            self.bad_image()
        return self.write(self.label, nifti_bytes(self.drawn if array is None else array, affine, **words))

    def check(self, *words: str, alone: bool = False, annotated=(1, 2)) -> tuple[int, list[Finding]]:
        """Exit code and findings of flarenet_plan --check, with the good case or without it."""
        entry = {"images": [str(self.image.relative_to(self.folder))]}
        if self.label.exists():
            entry |= {"label": "labelsTr/bad.nii.gz"} | ({} if annotated is None else {"annotated": list(annotated)})
        table = {"bad": entry} if alone else {**self.table, "bad": entry}
        content = {
            "channel_names": {"0": self.modality},
            "labels": {"background": 0, "liver": 1, "spleen": 2},
            "numTraining": len(table),
            "file_ending": ".nii.gz",
            "dataset": table,
            "test": self.test,
        }
        (self.folder / "dataset.json").write_text(json.dumps(content))
        report = self.root / "report.json"
        command = ["-d", "Rows", "--root", str(self.root), "--workers", "1", "--check", "--json", str(report)]
        code = main([*command, *words])
        return code, list(load(Check, report, DatasetError).findings)
