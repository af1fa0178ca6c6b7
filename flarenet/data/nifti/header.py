"""A NIfTI header, parsed and checked before any voxel is read or memory is taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from ...errors import DatasetError
from ...volume import Grid
from ..findings import Finding, remark
from ..reading import Reading
from ..sniff import PAIR_REMEDY, what_it_is
from .geometry import locate, stated_spacing_mm
from .stream import Source

LARGEST_VOXELS = 4_000_000_000
LARGEST_EXTENSION_BYTES = 64 << 20

_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


@dataclass(frozen=True)
class Header:
    """A checked header.

    raw         the header as nibabel parsed it
    grid        [k, j, i]
    dtype       of the stored numbers, in the file's byte order
    offset      where the voxels begin in the file, in bytes
    volumes     how many volumes the file holds
    volume      the number of the volume that is the image
    about_file  warnings about the file
    about_grid  warnings about the grid
    """

    raw: nibabel.Nifti1Header
    grid: Grid
    dtype: np.dtype
    offset: int
    volumes: int
    volume: int
    about_file: tuple[Finding, ...]
    about_grid: tuple[Finding, ...]

    @property
    def voxels(self) -> int:
        """How many voxels one volume has."""
        nk, nj, ni = self.grid.shape
        return nk * nj * ni

    @property
    def data_bytes(self) -> int:
        """The size of all volumes."""
        return self.volumes * self.voxels * self.dtype.itemsize

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The spacing (k, j, i), see stated_spacing_mm."""
        return stated_spacing_mm(self.raw, self.grid)

    @property
    def scaling(self) -> tuple[float, float] | None:
        """(slope, intercept), or None where the stored numbers are the values, because of slope 0 or (1, 0)."""
        slope, intercept = float(self.raw["scl_slope"]), float(self.raw["scl_inter"])
        return None if slope == 0 or (slope, intercept) == (1, 0) else (slope, intercept)


def parse_header(source: Source, path: Path, reading: Reading) -> Header:
    """Read and check a header. Raises DatasetError and GeometryError naming the field."""
    start = source.stream.read(348)
    kind, order = _kind(start, path)
    start += source.stream.read(kind.sizeof_hdr - 348)
    if len(start) < kind.sizeof_hdr:
        raise DatasetError(path, found=f"{len(start)} bytes", expected=f"a header of {kind.sizeof_hdr} bytes")
    raw = kind(start, endianness=order, check=False)
    shape, volumes = _shape(raw, path)
    volume = _volume(volumes, reading, path)
    dtype, offset = _dtype(raw, order, path), _offset(raw, path)
    _check_scaling(raw, path)
    grid, about_grid = locate(raw, shape, path, reading)
    about_file = tuple(_name_remarks(source, path))
    header = Header(raw, grid, dtype, offset, volumes, volume, about_file, tuple(about_grid))
    if (needed := offset + header.data_bytes) > source.most_bytes:
        expected = f"{needed}, for {shape[::-1]} voxels of {dtype.itemsize} bytes"
        raise DatasetError(path, found=f"a file of at most {source.most_bytes} bytes, unpacked", expected=expected)
    return header


def _kind(start: bytes, path: Path) -> tuple[type[nibabel.Nifti1Header], str]:
    """The header class and the byte order, found by the size field and the magic number."""
    for order in "<>":
        size = int.from_bytes(start[:4][:: 1 if order == ">" else -1], "big")
        if size == 348 and start[344:348] == b"n+1\0":
            return nibabel.Nifti1Header, order
        if size == 540 and start[4:12] == b"n+2\0\r\n\x1a\n":
            return nibabel.Nifti2Header, order
    found, expected = what_it_is(start), "a NIfTI-1 or NIfTI-2 file in one piece (.nii or .nii.gz)"
    is_pair = "pair" in found or path.suffix.lower() in (".hdr", ".img")
    raise DatasetError(path, found=found, expected=expected, remedy=PAIR_REMEDY if is_pair else None)


def _shape(raw: nibabel.Nifti1Header, path: Path) -> tuple[tuple[int, int, int], int]:
    """The shape (nk, nj, ni) of one volume, and how many volumes there are."""
    count = int(raw["dim"][0])
    sizes = [int(n) for n in raw["dim"][1 : 1 + count]] if 1 <= count <= 7 else []
    where, found = f"{path}: dim", " x ".join(map(str, sizes)) or f"{count} dimensions"
    if count not in (3, 4):
        raise DatasetError(where, found=found, expected="one 3D volume")
    if min(sizes) < 1:
        raise DatasetError(where, found=found, expected="sizes of at least 1")
    if sizes[0] * sizes[1] * sizes[2] > LARGEST_VOXELS:
        raise DatasetError(where, found=found, expected=f"at most {LARGEST_VOXELS} voxels")
    return (sizes[2], sizes[1], sizes[0]), sizes[3] if count == 4 else 1


def _volume(volumes: int, reading: Reading, path: Path) -> int:
    if volumes == 1:
        return 0
    if reading.volume is None:
        remedy = "name the volume that is the image, as in --volume 0"
        raise DatasetError(f"{path}: dim", found=f"{volumes} volumes", expected="one 3D volume", remedy=remedy)
    if reading.volume >= volumes:
        expected = f"a volume from 0 to {volumes - 1}"
        raise DatasetError(f"{path}: dim", found=f"--volume {reading.volume}", expected=expected)
    return reading.volume


def _dtype(raw: nibabel.Nifti1Header, order: str, path: Path) -> np.dtype:
    code = int(raw["datatype"])
    if code not in _DTYPES:
        expected = "whole or real numbers (no colour, no complex)"
        raise DatasetError(f"{path}: datatype", found=f"code {code}", expected=expected)
    dtype = np.dtype(order + _DTYPES[code])
    if int(raw["bitpix"]) != dtype.itemsize * 8:
        expected = f"{dtype.itemsize * 8}, as datatype {code} says"
        raise DatasetError(f"{path}: bitpix", found=int(raw["bitpix"]), expected=expected)
    return dtype


def _offset(raw: nibabel.Nifti1Header, path: Path) -> int:
    offset, least = float(raw["vox_offset"]), raw.sizeof_hdr + 4
    if not least <= offset <= least + LARGEST_EXTENSION_BYTES or offset != int(offset):
        expected = f"a whole number from {least} to {least + LARGEST_EXTENSION_BYTES}"
        raise DatasetError(f"{path}: vox_offset", found=offset, expected=expected)
    return int(offset)


def _check_scaling(raw: nibabel.Nifti1Header, path: Path) -> None:
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    where, found = f"{path}: scl_slope, scl_inter", f"{slope:g}, {intercept:g}"
    if not np.isfinite(slope) or (slope != 0 and not np.isfinite(intercept)):
        raise DatasetError(where, found=found, expected="finite numbers")
    if slope == 0 and intercept != 0:
        raise DatasetError(
            where,
            found=found,
            expected="a slope that is not 0, or both 0",
            remedy="readers differ on whether the intercept counts; write slope 1 if it does, intercept 0 if not",
        )


def _name_remarks(source: Source, path: Path) -> list[Finding]:
    if source.zipped == path.name.lower().endswith(".gz"):
        return []
    found = "a gzip file" if source.zipped else "a file that is not compressed"
    ending = ".nii.gz" if source.zipped else ".nii"
    return [remark(path, found=found, expected=f"what its name says: {ending}", remedy="rename it; other readers fail")]
