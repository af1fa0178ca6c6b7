"""Writing label maps on the grid of their image. A file is read back before it takes its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip, isal_zlib

from ...errors import DatasetError, FlarenetError, GeometryError, StorageError
from ...volume import Grid, Triple
from ...whole import not_written, whole_file
from ..names import FILE_ENDINGS
from ..reading import STRICT, Reading
from .header import Header
from .read import read_header
from .stream import CHUNK_BYTES, opened

QFORM_NEAR_MM = 0.01
"""How far the qform of a made header may place a corner voxel from its sform; readers refuse ten times as much."""

_GEOMETRY_FIELDS = (
    *("dim", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def write_labels(
    path: str | Path, labels_map: np.ndarray, *, like: str | Path | Grid, reading: Reading = STRICT
) -> None:
    """Write a label map, uint8 [Z, Y, X] in the order of like's file, on exactly the grid of the image `like`.

    like     the file of the image, or a Grid
    reading  how the header of that file is read
    See labels_file for how it is written. Raises GeometryError where the shape is not like's, and as read_image does
    for `like`.
    """
    if labels_map.dtype != np.uint8:
        raise ValueError(f"a label map is uint8, not {labels_map.dtype}")
    geometry = like if isinstance(like, Grid) else read_header(like, reading)
    with labels_file(path, like=geometry) as (shape, write):
        if labels_map.shape != shape:
            expected = f"{shape}" if isinstance(like, Grid) else f"{shape}, as {like}"
            raise GeometryError(path, found=f"a map of shape {labels_map.shape}", expected=expected)
        for plane in labels_map:
            write(plane)


@contextmanager
def labels_file(path: str | Path, *, like: Header | Grid) -> Iterator[tuple[Triple, Callable[[np.ndarray], None]]]:
    """Write the label file of an image: yields its shape (z, y, x) and a function that takes its slices one by one, the
    first one first.

    path  ends in .nii.gz or .nii
    like  the header of the image's file, or a Grid

    A slice is uint8 [Y, X] in the order of the image's file. The geometry of its header (sizes, spacing, units, both
    forms) is kept byte for byte; names, dates and extensions are not, because they may tell of the patient. For a Grid
    the header is made from it. The same slices give the same bytes. The file is read back, and compared by CRC, before
    it takes its name; after an error there is none.
    Raises StorageError where the file cannot be written, ValueError for too few slices or a slice of another shape.
    """
    path = Path(path)
    if not path.name.lower().endswith(FILE_ENDINGS):
        raise DatasetError(path, found=path.name, expected="a name that ends in " + " or ".join(FILE_ENDINGS))
    header, grid = geometry_like(like)
    with whole_file(path) as temporary:
        with gzipped(temporary) if path.name.lower().endswith(".gz") else open(temporary, "wb") as stream:
            writer = PlaneWriter(stream, path, grid.shape)
            writer.put(header.binaryblock + bytes(4))  # no extension
            yield grid.shape, writer.take
        if writer.planes != grid.shape[0]:
            raise ValueError(f"{writer.planes} slices of {grid.shape[0]}")
        check_written(temporary, [writer], path, expected="the label map as it was written")


@dataclass
class PlaneWriter:
    """Writes planes to a stream, and counts what it writes.

    path    what errors call the file
    shape   (z, y, x) of the file
    planes  how many planes were written
    count   how many bytes were written
    crc     their CRC
    """

    stream: BufferedIOBase
    path: Path
    shape: Triple
    planes: int = 0
    count: int = 0
    crc: int = 0

    def take(self, plane: np.ndarray) -> None:
        if plane.shape != self.shape[1:] or plane.dtype != np.uint8:
            raise ValueError(f"a slice {plane.dtype} {plane.shape}, not uint8 {self.shape[1:]}")
        self.put(np.ascontiguousarray(plane).data)
        self.planes += 1

    def put(self, content: bytes | memoryview) -> None:
        flat = memoryview(content).cast("B")
        self.crc, self.count = isal_zlib.crc32(flat, self.crc), self.count + len(flat)
        try:
            self.stream.write(flat)
        except OSError as error:  # raised where the slices come from, which is not inside whole_file
            raise not_written(self.path, error) from error


@contextmanager
def gzipped(path: Path) -> Iterator[BufferedIOBase]:
    """A stream into a gzip file that holds no name and no time, so that the same content gives the same bytes.

    isal's level 1 packs label maps, and probabilities too, into fewer bytes than its level 3, in half of the time or
    less.
    """
    with open(path, "wb") as file:
        with igzip.IGzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as stream:
            yield stream


def geometry_like(like: Header | Grid) -> tuple[nibabel.Nifti1Header, Grid]:
    """The header of a uint8 file of one volume, with the geometry of `like`; and the grid."""
    if isinstance(like, Grid):
        return _labels_header(_header_of(like)), like
    return _labels_header(like.raw), like.grid


def _header_of(grid: Grid) -> nibabel.Nifti1Header:
    """A header that states `grid` as its sform, and as its qform too where a rotation can express the grid."""
    header, affine = nibabel.Nifti1Header(), grid.affine[:, [2, 1, 0, 3]]
    header.set_data_shape(grid.shape[::-1])
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner", strip_shears=True)
    # over many slices the least shear, or the rounding of a quaternion, adds up to a difference that readers refuse
    if grid.largest_distance_mm(Grid(grid.shape, header.get_qform()[:, [2, 1, 0, 3]])) > QFORM_NEAR_MM:
        header["qform_code"] = 0
    header.set_xyzt_units("mm")
    return header


def _labels_header(raw: nibabel.Nifti1Header) -> nibabel.Nifti1Header:
    """The header of a label file, without extensions, with the geometry of `raw`."""
    header = type(raw)(endianness=raw.endianness)
    for name in _GEOMETRY_FIELDS:
        header[name] = raw[name]
    if header["dim"][0] == 4:  # the map is of one volume, whichever of several it was made from
        header["dim"][4] = 1
    header["datatype"], header["bitpix"], header["scl_slope"], header["scl_inter"] = 2, 8, 1, 0
    header["vox_offset"] = header.sizeof_hdr + 4
    header["magic"] = b"n+1" if header.sizeof_hdr == 348 else b"n+2"
    return header


def check_written(written: Path, writers: Sequence[PlaneWriter], path: Path, *, expected: str) -> None:
    """Raise StorageError unless `written` holds exactly what the writers put into it, one after the other.

    path      what the error calls the file, which still has its temporary name
    expected  what should have been read, in words for the error
    """
    try:
        with opened(written) as source:
            same = all(_crc(source.stream.read, writer.count) == (writer.crc, 0) for writer in writers)
            same = same and not source.stream.read(1)
    except FlarenetError as error:
        raise StorageError(path, found=error.found, expected=expected) from error
    if not same:
        raise StorageError(path, found="other bytes when read back", expected=expected)


def _crc(read: Callable[[int], bytes], count: int) -> tuple[int, int]:
    """The CRC of the next `count` bytes, and how many of them are missing because the file ends before."""
    crc = 0
    while count and (chunk := read(min(CHUNK_BYTES, count))):
        crc, count = isal_zlib.crc32(chunk, crc), count - len(chunk)
    return crc, count
