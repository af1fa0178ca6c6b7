"""NIfTI files, read strictly and written exactly: the only file that knows x-y-z order and headers.

A file is read to its last byte, so that a gzip stream's length and CRC are checked; the header says how many bytes
there are, and nothing is decompressed beyond them. Arrays come out [Z, Y, X] = (k, j, i) without being reordered.
Fields and rules: the NIfTI-1 and NIfTI-2 standards (nifti1.h, nifti2.h, https://nifti.nimh.nih.gov).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip, igzip_lib
from nibabel.spatialimages import HeaderDataError

from ..errors import DatasetError, FlarenetError, GeometryError, StorageError
from ..volume import Grid, Volume
from ..whole import whole_file
from .dataset import CHANNEL, FILE_ENDINGS
from .labels import LabelSet, list_outside, renumber
from .sniff import what_it_is

LARGEST_VOXELS = 4_000_000_000
FORMS_AGREE_MM = 0.1
"""How far sform and qform may place the same corner voxel apart."""

LARGEST_EXTENSION_BYTES = 64 << 20
LARGEST_DEFLATE_RATIO = 1032
"""No deflate stream can hold more bytes per compressed byte: 258 bytes in 2 bits."""

_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_GEOMETRY_FIELDS = (
    *("dim", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
# isal's stub calls IsalError an instance
_BROKEN: tuple[type[Exception], ...] = (EOFError, igzip.BadGzipFile, igzip_lib.IsalError)  # type: ignore[assignment]
_CHUNK = 16 << 20


@dataclass(frozen=True)
class _Header:
    """A checked header: `raw` as nibabel parsed it, the grid [k, j, i], and where the voxels lie in the file."""

    raw: nibabel.Nifti1Header
    grid: Grid
    dtype: np.dtype
    offset: int

    @property
    def data_bytes(self) -> int:
        return int(np.prod(self.grid.shape, dtype=object)) * self.dtype.itemsize

    @property
    def scaling(self) -> tuple[float, float] | None:
        """(slope, intercept), or None where the stored numbers are the values: slope 0 or NaN, or (1, 0)."""
        slope, intercept = float(self.raw["scl_slope"]), float(self.raw["scl_inter"])
        if slope == 0 or np.isnan(slope):
            return None
        intercept = 0.0 if np.isnan(intercept) else intercept
        return None if (slope, intercept) == (1, 0) else (slope, intercept)


def read_image(path: str | Path) -> Volume:
    """An image in its file's order: int16 where stored in whole numbers that fit and without scaling, else float32.

    Raises DatasetError for a file that is missing, damaged, no NIfTI, no single 3D volume, or holds a number that is
    not finite; GeometryError for a grid that cannot be trusted; StorageError when memory does not suffice.
    """
    header, stored = _read(Path(path))
    if stored.dtype.kind == "f":
        _refuse_not_finite(stored, path)
    if header.scaling is not None:
        slope, intercept = header.scaling
        if not np.isfinite([slope, intercept]).all():
            found = f"{slope}, {intercept}"
            raise DatasetError(f"{path}: scl_slope, scl_inter", found=found, expected="finite numbers")
        values = stored.astype(np.float32)
        values *= np.float32(slope)
        values += np.float32(intercept)
    elif stored.dtype.kind == "f" or not _fits_int16(stored):
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which is refused below
            values = stored.astype(np.float32, copy=False)
    else:
        return Volume(stored.astype(np.int16, copy=False), header.grid)
    _refuse_not_finite(values, path)
    return Volume(values, header.grid)


def read_grid(path: str | Path) -> Grid:
    """The grid of an image from its header alone. Raises as read_image does."""
    with _opened(Path(path)) as (stream, size):
        return _parse_header(stream, Path(path), size).grid


def read_labels(path: str | Path, labels: LabelSet, *, values: Mapping[int, int] | None = None) -> Volume:
    """A label map in the values of the table, uint8, in its file's order.

    values  value in the file -> value of the table, for every label the file may hold; empty where they are the same
    Raises DatasetError listing the values, and how many voxels have them, that the table does not hold; otherwise as
    read_image does.
    """
    header, stored = _read(Path(path))
    if header.scaling is not None:
        slope, intercept = header.scaling
        stored = stored.astype(np.float64) * slope + intercept
    if stored.dtype.kind == "f":
        _refuse_not_finite(stored, path)
    table = {0: 0, **(values or {value: value for value in labels.values})}
    whole, drawn = _whole_numbers(stored), None
    if whole and stored.min() >= 0 and stored.max() <= max(table):
        drawn = renumber(stored, table) if values else stored.astype(np.uint8, copy=False)
    if drawn is None:
        expected = f"the values of the table, {sorted(table) if values else f'0 to {max(table)}'}"
        remedy = None if whole else "were labels interpolated? resample them by nearest neighbour"
        raise DatasetError(path, found=list_outside(stored, table), expected=expected, remedy=remedy)
    return Volume(drawn, header.grid)


def write_labels(path: str | Path, labels_map: np.ndarray, *, like: str | Path) -> None:
    """Write a label map, uint8 [Z, Y, X], on exactly the grid of the image `like`, in the order of its file.

    The geometry of like's header (sizes, spacing, units, both forms) is kept byte for byte; names, dates and
    extensions are not, for they may tell of the patient. `path` ends in .nii.gz or .nii. The same map gives the same
    bytes. The file is read back and compared before it takes its name. Raises GeometryError where the shape is not
    like's, StorageError where the disk stands in the way, and as read_image does for `like`.
    """
    path, like = Path(path), Path(like)
    if labels_map.dtype != np.uint8:
        raise ValueError(f"a label map is uint8, not {labels_map.dtype}")
    if not path.name.lower().endswith(FILE_ENDINGS):
        raise DatasetError(path, found=path.name, expected="a name that ends in " + " or ".join(FILE_ENDINGS))
    with _opened(like) as (stream, size):
        source = _parse_header(stream, like, size)
    if labels_map.shape != source.grid.shape:
        expected = f"{source.grid.shape}, as {like}"
        raise GeometryError(path, found=f"a map of shape {labels_map.shape}", expected=expected)
    head = _labels_header(source.raw)
    with whole_file(path) as temporary:
        with open(temporary, "wb") as file:
            if path.name.lower().endswith(".gz"):
                # no name and no time in the gzip header: the same map gives the same bytes
                with igzip.IGzipFile(filename="", mode="wb", compresslevel=3, fileobj=file, mtime=0) as stream:
                    _write(stream, head, labels_map)
            else:
                _write(file, head, labels_map)
        _compare(temporary, head, labels_map, path)


def case_name(path: str | Path) -> str:
    """X for X_0000.nii.gz, X.nii.gz, X_0000.nii and X.nii."""
    name = Path(path).name
    for ending in FILE_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)].removesuffix(CHANNEL)
    return name


def find_images(path: str | Path) -> list[Path]:
    """The file itself, or the *.nii.gz and *.nii of a folder, sorted by name; hidden files are left out.

    Raises DatasetError where there is none, or where two are of the same case.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(path, found="no such file or folder", expected="an image, or a folder of images")
    inside = sorted(p for p in path.iterdir() if p.name.lower().endswith(FILE_ENDINGS) and p.name[0] != ".")
    if not inside:
        count = sum(1 for _ in path.iterdir())
        found = f"a folder of {count} other entries" if count else "an empty folder"
        raise DatasetError(path, found=found, expected="images: *" + " or *".join(FILE_ENDINGS))
    seen: dict[str, Path] = {}
    for image in inside:
        twin = seen.setdefault(case_name(image).lower(), image)
        if twin is not image:
            raise DatasetError(path, found=f"{twin.name} and {image.name}", expected="one image for each case")
    return inside


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedIOBase, int]]:
    """The uncompressed bytes of `path` and the largest number of them there can be."""
    if not path.exists():
        raise DatasetError(path, found="no such file", expected="a NIfTI file")
    if not path.is_file():
        raise DatasetError(path, found="a folder" if path.is_dir() else "no regular file", expected="a NIfTI file")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not zipped:
                yield file, size
                return
            with igzip.IGzipFile(fileobj=file, mode="rb") as stream:
                yield stream, size * LARGEST_DEFLATE_RATIO
    except _BROKEN as error:
        raise DatasetError(path, found=f"a damaged gzip file ({error})", expected="a complete one") from error
    except OSError as error:
        raise StorageError(path, found=error.strerror or error, expected="a file that can be read") from error


def _read(path: Path) -> tuple[_Header, np.ndarray]:
    """The checked header and the stored numbers [k, j, i] in native byte order, writable."""
    with _opened(path) as (stream, size):
        header = _parse_header(stream, path, size)
        _skip(stream, header.offset, path)
        try:
            buffer = np.empty(header.data_bytes, dtype=np.uint8)
        except MemoryError as error:
            expected = f"{header.data_bytes >> 20} MB for {header.grid.shape} voxels"
            raise StorageError(path, found="not enough memory", expected=expected) from error
        _fill(stream, buffer.data, path)
        if stream.read(1):
            raise DatasetError(path, found="more bytes than voxels", expected=f"{header.data_bytes} bytes of voxels")
    stored = buffer.view(header.dtype).reshape(header.grid.shape)
    if not header.dtype.isnative:
        stored = stored.byteswap(inplace=True).view(header.dtype.newbyteorder("="))
    return header, stored


def _fill(stream: BufferedIOBase, target: memoryview, path: Path) -> None:
    done = 0
    while done < len(target):
        count = stream.readinto(target[done : done + _CHUNK])
        if not count:
            raise DatasetError(path, found=f"{done} bytes of voxels, then the end", expected=f"{len(target)} bytes")
        done += count


def _skip(stream: BufferedIOBase, offset: int, path: Path) -> None:
    """Read on from the end of the header to the first voxel, past extensions."""
    while (here := stream.tell()) < offset:
        if not stream.read(min(_CHUNK, offset - here)):
            raise DatasetError(path, found=f"{here} bytes", expected=f"voxels from byte {offset} on")


def _parse_header(stream: BufferedIOBase, path: Path, size: int) -> _Header:
    """Read and check a header; `size` is the most bytes that the file can hold."""
    start = stream.read(348)
    kind, order = _kind(start, path)
    start += stream.read(kind.sizeof_hdr - 348)
    if len(start) < kind.sizeof_hdr:
        raise DatasetError(path, found=f"{len(start)} bytes", expected=f"a header of {kind.sizeof_hdr} bytes")
    raw = kind(start, endianness=order, check=False)
    shape, dtype, offset = _shape(raw, path), _dtype(raw, order, path), _offset(raw, path)
    header = _Header(raw, Grid(shape, _affine(raw, shape, path)), dtype, offset)
    if (needed := offset + header.data_bytes) > size:
        expected = f"{needed}, for {shape[::-1]} voxels of {dtype.itemsize} bytes"
        raise DatasetError(path, found=f"a file of at most {size} bytes, unpacked", expected=expected)
    return header


def _kind(start: bytes, path: Path) -> tuple[type[nibabel.Nifti1Header], str]:
    """The header class and the byte order, from the size field and the magic."""
    for order in "<>":
        size = int.from_bytes(start[:4][:: 1 if order == ">" else -1], "big")
        if size == 348 and start[344:348] == b"n+1\0":
            return nibabel.Nifti1Header, order
        if size == 540 and start[4:12] == b"n+2\0\r\n\x1a\n":
            return nibabel.Nifti2Header, order
    expected = "a NIfTI-1 or NIfTI-2 file in one piece (.nii or .nii.gz)"
    raise DatasetError(path, found=what_it_is(start), expected=expected)


def _shape(raw: nibabel.Nifti1Header, path: Path) -> tuple[int, int, int]:
    """(nk, nj, ni) of one 3D volume."""
    count = int(raw["dim"][0])
    sizes = [int(n) for n in raw["dim"][1 : 1 + count]] if 1 <= count <= 7 else []
    where = f"{path}: dim"
    if count not in (3, 4) or (count == 4 and sizes[3] != 1):
        raise DatasetError(where, found=" x ".join(map(str, sizes)) or f"{count} dimensions", expected="one 3D volume")
    if min(sizes) < 1:
        raise DatasetError(where, found=" x ".join(map(str, sizes)), expected="sizes of at least 1")
    if sizes[0] * sizes[1] * sizes[2] > LARGEST_VOXELS:
        raise DatasetError(where, found=" x ".join(map(str, sizes)), expected=f"at most {LARGEST_VOXELS} voxels")
    return sizes[2], sizes[1], sizes[0]


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


def _affine(raw: nibabel.Nifti1Header, shape: tuple[int, int, int], path: Path) -> np.ndarray:
    """Index (k, j, i, 1) -> RAS+ mm: the sform where its code is set, else the qform; both must agree."""
    spacing = np.array(raw["pixdim"][1:4], dtype=float)
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise GeometryError(f"{path}: pixdim", found=spacing.tolist(), expected="three finite sizes above 0 mm")
    if int(raw["xyzt_units"]) & 7 in (1, 3):
        raise GeometryError(f"{path}: xyzt_units", found="metres or micrometres", expected="mm")
    forms = {}
    if int(raw["sform_code"]) > 0:
        forms["sform"] = raw.get_sform()
    if int(raw["qform_code"]) > 0:
        forms["qform"] = _qform(raw, path)
    if not forms:
        expected = "an sform or a qform: without one nobody knows left from right"
        raise GeometryError(f"{path}: sform_code, qform_code", found="both 0", expected=expected)
    grids = {name: Grid(shape, _trusted(form, f"{path}: {name}")[:, [2, 1, 0, 3]]) for name, form in forms.items()}
    if len(grids) == 2:
        apart_mm = grids["sform"].largest_distance_mm(grids["qform"])
        if apart_mm > FORMS_AGREE_MM:
            found, expected = f"{apart_mm:.3g} mm apart at a corner", f"at most {FORMS_AGREE_MM} mm"
            raise GeometryError(f"{path}: sform and qform", found=found, expected=expected)
    return next(iter(grids.values())).affine


def _qform(raw: nibabel.Nifti1Header, path: Path) -> np.ndarray:
    copy = raw.copy()
    if copy["pixdim"][0] == 0:  # the standard: 0 counts as 1
        copy["pixdim"][0] = 1
    try:
        return copy.get_qform()
    except (HeaderDataError, ValueError) as error:
        raise GeometryError(f"{path}: qform", found=error, expected="a rotation and a handedness of 1 or -1") from error


def _trusted(affine: np.ndarray, where: str) -> np.ndarray:
    if not np.isfinite(affine).all():
        raise GeometryError(where, found=affine.tolist(), expected="finite numbers")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise GeometryError(where, found=affine[:3].tolist(), expected="three axes that span space")
    return affine


def _refuse_not_finite(values: np.ndarray, path: str | Path) -> None:
    with np.errstate(invalid="ignore"):
        extremes = values.min(), values.max()  # a NaN or inf anywhere shows in these: no mask of the whole is needed
    if not np.isfinite(extremes).all():
        found = f"{values.size - int(np.isfinite(values).sum())} voxels that are NaN or infinite"
        raise DatasetError(path, found=found, expected="finite numbers")


def _fits_int16(stored: np.ndarray) -> bool:
    if stored.dtype in (np.int16, np.int8, np.uint8):
        return True
    limits = np.iinfo(np.int16)
    return bool(stored.min() >= limits.min and stored.max() <= limits.max)


def _whole_numbers(stored: np.ndarray) -> bool:
    return stored.dtype.kind != "f" or all(bool((part == np.rint(part)).all()) for part in stored)


def _labels_header(raw: nibabel.Nifti1Header) -> bytes:
    """The header and the empty extension field of a label file with the geometry of `raw`."""
    header = type(raw)(endianness=raw.endianness)
    for name in _GEOMETRY_FIELDS:
        header[name] = raw[name]
    header["datatype"], header["bitpix"], header["scl_slope"], header["scl_inter"] = 2, 8, 1, 0
    header["vox_offset"] = header.sizeof_hdr + 4
    header["magic"] = b"n+1" if header.sizeof_hdr == 348 else b"n+2"
    return header.binaryblock + bytes(4)


def _write(stream: BufferedIOBase, head: bytes, labels_map: np.ndarray) -> None:
    stream.write(head)
    for part in labels_map:
        stream.write(np.ascontiguousarray(part).data)


def _compare(written: Path, head: bytes, labels_map: np.ndarray, path: Path) -> None:
    """Raise StorageError unless `written` holds exactly what should be in it."""
    try:
        with _opened(written) as (stream, _):
            same = stream.read(len(head)) == head
            same = same and all(stream.read(part.size) == np.ascontiguousarray(part).tobytes() for part in labels_map)
            same = same and not stream.read(1)
    except FlarenetError as error:
        raise StorageError(path, found=error.found, expected="the label map as it was written") from error
    if not same:
        raise StorageError(path, found="other bytes when read back", expected="the label map as it was written")
