"""A folder of DICOM slices as one scan in HU (extra `dicom`).

Geometry comes from ImagePositionPatient, ImageOrientationPatient and PixelSpacing (DICOM PS3.3, C.7.6.2), never from
file names or slice numbers. Only the elements named here are read; nothing of the patient is among them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError, GeometryError, StorageError, needs_extra
from ..silence import silent
from ..volume import Grid, Volume
from ..whole import reading
from .findings import Finding
from .names import FILE_ENDINGS, files_in, find_images, no_image
from .nifti.geometry import check_shear
from .nifti.header import LARGEST_VOXELS

UNEVEN = 0.02
"""How far, relatively, the distance of two slices may be from that of the others: scanners round positions."""

MOST_FOLDERS, MOST_ENTRIES = 1000, 100
"""How many folders are searched for series that lie too deep, as in PATIENT/STUDY/SERIES, and how many entries of each
folder."""

MOST_HEADER_BYTES = 16 << 20
"""How much of a file is read where its pixels are not wanted: a file of several frames, which is refused, may be as
large as a whole scan."""

ALIKE = 1e-3
"""How far orientations and pixel sizes of slices may differ: they are written with few digits."""

_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_PIXELS = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
)
_ALL = ("SeriesInstanceUID", *_GEOMETRY, *_PIXELS)
_GREY = "MONOCHROME2"


@dataclass(frozen=True)
class _Slice:
    """The header of one file: orientation [2, 3] is the direction of a row and of a column, in LPS; mm along each."""

    path: Path
    series: str
    shape: tuple[int, int]
    position: np.ndarray
    orientation: np.ndarray
    spacing_mm: np.ndarray
    thickness_mm: float


def is_series(path: str | Path) -> bool:
    """Whether `path` is a folder with DICOM files in it."""
    path = Path(path)
    return path.is_dir() and next(_files(path), None) is not None


def find_scans(path: str | Path) -> list[Path]:
    """As names.find_images; of a folder without such images, the series in it. What cannot be looked into counts as a
    series, so that it fails by its name and the others are read.

    Raises DatasetError as find_images does, and where there is no series either; its remedy then names a folder of
    series that lie deeper.
    """
    path = Path(path)
    if not path.is_dir() or files_in(path):
        return find_images(path)
    seen = {inner: _seems_series(inner) for inner in (path, *sorted(path.iterdir()))}
    found = [inner for inner, answer in seen.items() if answer is not False]
    if any(seen.values()):
        return found
    deeper = _deeper_series(path)
    if found and deeper is None:
        return found
    remedy = None if deeper is None else f"-i {deeper.parent}, and one command for every other folder of series"
    raise no_image(path, besides=", or DICOM slices in it or in its folders, not deeper", remedy=remedy)


def _seems_series(path: Path) -> bool | None:
    """is_series; None where it cannot be looked into."""
    try:
        return is_series(path)
    except (OSError, StorageError):
        return None


def series_in(folder: Path) -> list[Path]:
    """The folder itself and the folders in it, by name, as far as they hold DICOM slices. Raises StorageError or
    OSError where one cannot be looked into."""
    return [inner for inner in (folder, *sorted(folder.iterdir())) if is_series(inner)]


def _deeper_series(folder: Path) -> Path | None:
    """The first folder below with DICOM slices, of the first MOST_FOLDERS."""
    for place, inner, _ in islice(os.walk(folder), MOST_FOLDERS):
        inner.sort()
        with suppress(OSError, StorageError):  # what cannot be read is left out: only a remedy is looked for
            if next(_files(Path(place), most=MOST_ENTRIES), None):
                return Path(place)
    return None


def inspect_series(folder: str | Path) -> tuple[Volume, tuple[Finding, ...]]:
    """The scan of a folder [Z, Y, X] = (slice, row, column), in HU: int16 where whole numbers fit, else float32; and
    the warnings about it.

    Slices are ordered along their normal, whatever their names and numbers. Raises DatasetError or GeometryError, with
    what was found, for a folder of several series, of slices that are not alike, doubled, missing or unevenly spaced.
    """
    folder = Path(folder)
    slices = _ordered(folder)
    step = _step(slices, np.cross(*slices[0].orientation), folder)
    grid = Grid((len(slices), *slices[0].shape), _affine(slices, step))
    if np.prod(grid.shape, dtype=object) > LARGEST_VOXELS:
        raise DatasetError(folder, found=f"{grid.shape} voxels", expected=f"at most {LARGEST_VOXELS}")
    return Volume(_voxels(slices, grid), grid), tuple(check_shear(grid, folder))


def series_files(folder: str | Path) -> list[Path]:
    """The file of each slice, in the order of inspect_series. Raises as it does."""
    return [one.path for one in _ordered(Path(folder))]


def file_in_memory(path: Path, *, pixels: bool = False) -> BytesIO:
    """The bytes of a file, without `pixels` at most the first MOST_HEADER_BYTES.

    They are read before pydicom is silenced: other threads wait for `silent`, and a read from a disk that is gone may
    never end. Raises StorageError where the disk fails.
    """
    with reading(path), open(path, "rb") as file:
        return BytesIO(file.read(-1 if pixels else MOST_HEADER_BYTES))


def _ordered(folder: Path) -> list[_Slice]:
    """The slices of a series along their normal."""
    slices = [_slice(path) for path in sorted(_files(folder))]
    if not slices:
        raise DatasetError(folder, found="a folder without a DICOM file", expected="the slices of a scan")
    _check_alike(slices, folder)
    normal = np.cross(*slices[0].orientation)
    return sorted(slices, key=lambda one: float(one.position @ normal))


def _files(folder: Path, *, most: int | None = None) -> Iterator[Path]:
    """The DICOM files of a folder, of its first `most` entries where that is given."""
    for path in islice(folder.iterdir(), most):
        if path.name[0] == "." or path.name.lower().endswith(FILE_ENDINGS) or path.name.upper() == "DICOMDIR":
            continue
        if path.is_file() and _is_dicom(path):
            yield path


def _is_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise StorageError(path, found=error.strerror or error, expected="a file that can be read") from error


def _read(path: Path, names: Sequence[str]) -> Any:
    """The elements `names` of a file. pydicom's warnings are silenced: they quote values, maybe the patient's."""
    with needs_extra("dicom", "a DICOM series"):
        from pydicom import dcmread
        from pydicom.filereader import _read_file_meta_info, read_preamble  # the public one takes only a file's name
        from pydicom.uid import DeflatedExplicitVRLittleEndian
    pixels = "PixelData" in names
    try:
        with file_in_memory(path, pixels=pixels) as stream, silent():
            read_preamble(stream, force=False)
            if _read_file_meta_info(stream).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
                stream.seek(0)
                return dcmread(stream, specific_tags=list(names), stop_before_pixels=not pixels)
    except (StorageError, MemoryError):  # not for the scan's own fault
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file may raise anything, and the text may quote the patient
        raise DatasetError(path, found=f"no readable DICOM ({type(error).__name__})", expected="a slice") from error
    # pydicom would unpack all of it; a malicious file can unpack to a thousand times its size
    expected, remedy = "one that is not compressed as a whole", "unpack it (dcmconv +te)"
    raise DatasetError(path, found="a deflated file", expected=expected, remedy=remedy)


def _slice(path: Path) -> _Slice:
    content = _read(path, _ALL)
    numbers = {name: _numbers(content, name, path) for name in (*_GEOMETRY[:3], "Rows", "Columns")}
    if lacking := [name for name, found in numbers.items() if not found.size]:
        raise DatasetError(path, found=f"no {', '.join(lacking)}", expected="a slice of a scan")
    if _number(content, "NumberOfFrames", path, empty=1) > 1:
        remedy = "convert it to .nii.gz, by dcm2niix for example"
        raise DatasetError(path, found="several frames in one file", expected="a file for each slice", remedy=remedy)
    kind = content.get("PhotometricInterpretation") or _GREY
    if _number(content, "SamplesPerPixel", path, empty=1) != 1 or kind != _GREY:
        raise DatasetError(path, found=f"pixels of kind {kind}", expected=f"{_GREY}: grey, larger is brighter")
    position, orientation, spacing_mm = (numbers[name] for name in _GEOMETRY[:3])
    place = np.concatenate([position, orientation, spacing_mm])
    sizes = position.size, orientation.size, spacing_mm.size
    if sizes != (3, 6, 2) or not np.isfinite(place).all() or (spacing_mm <= 0).any():
        raise GeometryError(path, found=place.tolist(), expected="a position, an orientation and two sizes in mm")
    return _Slice(
        path,
        str(content.get("SeriesInstanceUID")),
        (int(_number(content, "Rows", path)), int(_number(content, "Columns", path))),
        position,
        _rectangular(orientation.reshape(2, 3), path),
        spacing_mm,
        _number(content, "SliceThickness", path),
    )


def _number(content: Any, name: str, path: Path, *, empty: float = 0) -> float:
    """The number of an element, `empty` where it is missing or has no value. Raises DatasetError unless it is one
    finite number."""
    found = _numbers(content, name, path)
    if found.size > 1 or not np.isfinite(found).all():
        raise DatasetError(path, found=f"{name} {found.tolist()}", expected="one finite number")
    return float(found[0]) if found.size else empty


def _numbers(content: Any, name: str, path: Path) -> np.ndarray:
    """The numbers of an element, float [n]; n = 0 where it is missing or has no value."""
    try:
        value = content.get(name)
        return np.array([] if value in (None, "") else value, dtype=float).ravel()
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom may raise anything here, and the text quotes what stands there
        found = f"{name} that is not a number ({type(error).__name__})"
        raise DatasetError(path, found=found, expected="one") from error


def _rectangular(orientation: np.ndarray, path: Path) -> np.ndarray:
    if np.abs(orientation @ orientation.T - np.eye(2)).max() > ALIKE:
        found = orientation.ravel().tolist()
        raise GeometryError(path, found=found, expected="two directions of length 1 at right angles")
    return orientation


def _check_alike(slices: Sequence[_Slice], folder: Path) -> None:
    series = {one.series for one in slices}
    if len(series) > 1:
        counts = sorted((sum(one.series == name for one in slices) for name in series), reverse=True)
        found = f"{len(series)} series of {', '.join(map(str, counts[:10]))} files"
        raise DatasetError(folder, found=found, expected="one series", remedy="a folder for each series")
    first = slices[0]
    for one in slices[1:]:
        if one.shape != first.shape:
            raise DatasetError(one.path, found=f"{one.shape} pixels", expected=f"{first.shape}, as {first.path.name}")
        for name in ("orientation", "spacing_mm"):
            mine, other = getattr(one, name).ravel(), getattr(first, name).ravel()
            if np.abs(mine - other).max() > ALIKE:
                expected = f"{other.tolist()}, as {first.path.name}"
                raise GeometryError(one.path, found=f"{name} {mine.tolist()}", expected=expected)


def _step(slices: Sequence[_Slice], normal: np.ndarray, folder: Path) -> np.ndarray:
    """The vector from a slice to the next, in LPS mm; for a tilted gantry it is not along the normal."""
    if len(slices) == 1:
        if slices[0].thickness_mm <= 0:
            raise GeometryError(folder, found="one slice without a thickness", expected="SliceThickness")
        return normal * slices[0].thickness_mm
    places = np.array([one.position for one in slices])
    along_mm = np.diff(places @ normal)
    usual_mm = float(np.median(along_mm))
    worst = int(np.argmax(np.abs(along_mm - usual_mm)))
    pair = f"{slices[worst].path.name} and {slices[worst + 1].path.name}"
    if along_mm.min() <= ALIKE:
        twins = int(np.argmin(along_mm))
        found = f"{slices[twins].path.name} and {slices[twins + 1].path.name} at one place"
        raise DatasetError(folder, found=found, expected="one slice at each place")
    if abs(along_mm[worst] - usual_mm) > UNEVEN * usual_mm:
        missing = "; is a slice missing?" if along_mm[worst] > 1.5 * usual_mm else ""
        found = f"{along_mm[worst]:.4g} mm between {pair}{missing}"
        raise GeometryError(folder, found=found, expected=f"{usual_mm:.4g} mm, as between the others")
    step = (places[-1] - places[0]) / (len(slices) - 1)
    off_mm = np.linalg.norm(places - places[0] - np.arange(len(slices))[:, None] * step, axis=1)
    if off_mm.max() > max(slices[0].spacing_mm.max(), UNEVEN * usual_mm):
        found = f"{slices[int(off_mm.argmax())].path.name} {off_mm.max():.3g} mm off the line of the others"
        raise GeometryError(folder, found=found, expected="slices along one line")
    return step


def _affine(slices: Sequence[_Slice], step: np.ndarray) -> np.ndarray:
    """(slice, row, column, 1) -> RAS+ mm; DICOM's axes are LPS. A row index grows along the columns' direction."""
    along_row, along_column = slices[0].orientation
    between_rows_mm, between_columns_mm = slices[0].spacing_mm
    affine = np.eye(4)
    affine[:3] = np.stack(
        [step, along_column * between_rows_mm, along_row * between_columns_mm, slices[0].position], axis=1
    )
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _voxels(slices: Sequence[_Slice], grid: Grid) -> np.ndarray:
    voxels = np.empty(grid.shape, dtype=np.int16)
    limits = np.iinfo(np.int16)
    for z, one in enumerate(slices):
        values = _hounsfield(one.path)
        whole = values.dtype.kind == "i" and limits.min <= values.min() and values.max() <= limits.max
        if voxels.dtype == np.int16 and not whole:
            voxels = voxels.astype(np.float32)
        voxels[z] = values
    return voxels


def _hounsfield(path: Path) -> np.ndarray:
    """The pixels of a file [rows, columns] by its slope and intercept: int64 where both are whole numbers."""
    content = _read(path, (*_PIXELS, "PixelData"))
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, _GREY  # as _slice took them, said or not
    try:
        with silent():
            pixels = content.pixel_array
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged or compressed pixels raise whatever the decoder raises
        remedy = "copy it again; if its pixels are compressed, unpack them (gdcmconv --raw)"
        found = f"pixels that cannot be read ({type(error).__name__})"
        raise DatasetError(path, found=found, expected="uncompressed pixels", remedy=remedy) from error
    slope = _number(content, "RescaleSlope", path, empty=1)
    intercept = _number(content, "RescaleIntercept", path)
    if slope == int(slope) and intercept == int(intercept):
        return pixels.astype(np.int64) * int(slope) + int(intercept)
    return pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept)
