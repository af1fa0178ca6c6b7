"""Writing label maps on the grid of their image, read back before they take their name."""

from __future__ import annotations

from io import BufferedIOBase
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip

from ...errors import DatasetError, FlarenetError, GeometryError, StorageError
from ...volume import SHEAR_THAT_COUNTS, Grid
from ...whole import whole_file
from ..dataset import FILE_ENDINGS
from ..reading import STRICT, Reading
from .header import parse_header
from .stream import opened

_GEOMETRY_FIELDS = (
    *("dim", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def write_labels(
    path: str | Path, labels_map: np.ndarray, *, like: str | Path | Grid, reading: Reading = STRICT
) -> None:
    """Write a label map, uint8 [Z, Y, X], on exactly the grid of the image `like`, in the order of its file.

    The geometry of like's header (sizes, spacing, units, both forms) is kept byte for byte; names, dates and
    extensions are not, for they may tell of the patient. Where `like` is a Grid, the header is made from it. `path`
    ends in .nii.gz or .nii. The same map gives the same bytes. The file is read back and compared before it takes its
    name. Raises GeometryError where the shape is not like's, StorageError where the disk stands in the way, and as
    read_image does for `like`.
    """
    path = Path(path)
    if labels_map.dtype != np.uint8:
        raise ValueError(f"a label map is uint8, not {labels_map.dtype}")
    if not path.name.lower().endswith(FILE_ENDINGS):
        raise DatasetError(path, found=path.name, expected="a name that ends in " + " or ".join(FILE_ENDINGS))
    raw, grid = (_header_of(like), like) if isinstance(like, Grid) else _header_like(Path(like), reading)
    if labels_map.shape != grid.shape:
        expected = f"{grid.shape}" if isinstance(like, Grid) else f"{grid.shape}, as {like}"
        raise GeometryError(path, found=f"a map of shape {labels_map.shape}", expected=expected)
    head = _labels_header(raw)
    with whole_file(path) as temporary:
        with open(temporary, "wb") as file:
            if path.name.lower().endswith(".gz"):
                # no name and no time in the gzip header: the same map gives the same bytes
                with igzip.IGzipFile(filename="", mode="wb", compresslevel=3, fileobj=file, mtime=0) as stream:
                    _write(stream, head, labels_map)
            else:
                _write(file, head, labels_map)
        _compare(temporary, head, labels_map, path)


def _header_like(like: Path, reading: Reading) -> tuple[nibabel.Nifti1Header, Grid]:
    with opened(like) as source:
        header = parse_header(source, like, reading)
    return header.raw, header.grid


def _header_of(grid: Grid) -> nibabel.Nifti1Header:
    """A header that says where `grid` lies: as sform, and as qform too where its axes stand at right angles."""
    header, affine = nibabel.Nifti1Header(), grid.affine[:, [2, 1, 0, 3]]
    header.set_data_shape(grid.shape[::-1])
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner" if grid.shear < SHEAR_THAT_COUNTS else "unknown", strip_shears=True)
    header.set_xyzt_units("mm")
    return header


def _labels_header(raw: nibabel.Nifti1Header) -> bytes:
    """The header and the empty extension field of a label file with the geometry of `raw`."""
    header = type(raw)(endianness=raw.endianness)
    for name in _GEOMETRY_FIELDS:
        header[name] = raw[name]
    if header["dim"][0] == 4:  # the map is of one volume, whichever of several it was made from
        header["dim"][4] = 1
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
        with opened(written) as source:
            stream = source.stream
            same = stream.read(len(head)) == head
            same = same and all(stream.read(part.size) == np.ascontiguousarray(part).tobytes() for part in labels_map)
            same = same and not stream.read(1)
    except FlarenetError as error:
        raise StorageError(path, found=error.found, expected="the label map as it was written") from error
    if not same:
        raise StorageError(path, found="other bytes when read back", expected="the label map as it was written")
