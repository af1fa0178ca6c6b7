"""Reading NIfTI files strictly. Arrays come out [Z, Y, X] = (k, j, i) of the file, without being reordered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DatasetError, StorageError, counted, some_of
from ...volume import Grid, Volume
from ..findings import Finding, remark
from ..labels import LabelSet
from ..reading import STRICT, Reading
from .header import Header, parse_header
from .stream import Source, opened, parts, skip
from .voxels import LookupTable, VoxelStats, check_voxels, fill, image_values, in_range, label_values, lookup_table

LARGEST_IMAGE_RATIO, RATIO_FROM_BYTES = 250, 512 << 20
"""gzip makes a scan that is larger than RATIO_FROM_BYTES at most so many times smaller: its noise cannot be packed."""


def read_image(path: str | Path, reading: Reading = STRICT) -> Volume:
    """An image in its file's order: int16 where it is stored in whole numbers that fit, without scaling, else float32.

    Raises DatasetError for a file that is missing, damaged, no NIfTI, no single 3D volume, or holds numbers that are
    no scan; GeometryError for a grid that cannot be trusted; StorageError where the file cannot be read or memory does
    not suffice. inspect_image also gives the warnings about a file.
    """
    return inspect_image(path, reading)[0]


def inspect_image(path: str | Path, reading: Reading = STRICT) -> tuple[Volume, Header, tuple[Finding, ...]]:
    """As read_image, with the header of the file and the warnings about it."""
    path, stats = Path(path), VoxelStats()
    with opened_image(path, reading) as (source, header), _enough_memory(header, path):
        whole = header.scaling is None and header.dtype.kind != "f"
        out = np.empty(header.voxels, np.int16 if whole else np.float32)
        same = out.dtype == header.dtype.newbyteorder("=")
        out = image_values(stored(source, header, path, into=out if same else None), out, header.scaling, stats)
    if remarks := check_voxels(stats, out.size, header.scaling, path):
        fill(out, in_range(stats, header.scaling)[0])
    volume = Volume(out.reshape(header.grid.shape), header.grid)
    return volume, header, (*header.about_file, *header.about_grid, *remarks)


@contextmanager
def opened_image(path: Path, reading: Reading) -> Iterator[tuple[Source, Header]]:
    """Open an image file and read its header. The block must read all voxels: at its end the file must end too."""
    with opened(path) as source:
        header = parse_header(source, path, reading)
        _refuse_line(header, path)
        _refuse_bomb(source, header, path)
        yield source, header
        _refuse_more(source, header, path)


def read_grid(path: str | Path, reading: Reading = STRICT) -> Grid:
    """The grid of an image from its header alone. Raises as read_image does."""
    return read_header(path, reading).grid


def read_header(path: str | Path, reading: Reading = STRICT) -> Header:
    """The header of an image. Raises as read_image does."""
    with opened(Path(path)) as source:
        return parse_header(source, Path(path), reading)


@dataclass(frozen=True, eq=False)
class ReadLabels:
    """A label map and what else its file states.

    volume      uint8, in the order of the file; HIDDEN in voxels that nobody annotated
    spacing_mm  (k, j, i), as the header states it; see geometry.stated_spacing_mm
    remarks     warnings about the file; none about its grid, for which those of the image are enough
    """

    volume: Volume
    spacing_mm: tuple[float, float, float]
    remarks: tuple[Finding, ...]


def read_labels(
    path: str | Path, labels: LabelSet, *, values: Mapping[int, int] | None = None, reading: Reading = STRICT
) -> Volume:
    """A label map, uint8, in its file's order.

    values  value in the file -> value of the table, or HIDDEN, for every value the file may hold; empty where they are
            those of the table
    Raises DatasetError listing the values, and how many voxels have them, that stand for no label; otherwise as
    read_image does.
    """
    return inspect_labels(path, labels, values=values, reading=reading).volume


def inspect_labels(
    path: str | Path, labels: LabelSet, *, values: Mapping[int, int] | None = None, reading: Reading = STRICT
) -> ReadLabels:
    """As read_labels, with what else the file states."""
    path, values, top = Path(path), values or {}, len(labels.names) - 1
    table = lookup_table(top, values)
    with opened(path) as source:
        header = parse_header(source, path, reading.of_labels())
        with _enough_memory(header, path):
            out = label_values(stored(source, header, path), header.voxels, header.scaling, table)
            _refuse_more(source, header, path)
    if table.wrong:
        raise _no_labels(path, table, top, values)
    volume = Volume(out.reshape(header.grid.shape), header.grid)
    return ReadLabels(volume, header.spacing_mm, (*header.about_file, *_scaling_remark(header, path)))


def stored(
    source: Source, header: Header, path: Path, *, into: np.ndarray | None = None, at_once: int | None = None
) -> Iterator[np.ndarray]:
    """The stored numbers of the volume that is the image, part by part, as stream.parts gives them.

    into, at_once  as in stream.parts
    The other volumes of the file are read and dropped.
    """
    skip(source.stream, header.offset, path)
    for volume in range(header.volumes):
        counts = volume == header.volume
        where = into if counts else None
        for part in parts(source.stream, header.voxels, header.dtype, path=path, into=where, at_once=at_once):
            if counts:
                yield part


def _refuse_line(header: Header, path: Path) -> None:
    if sum(n == 1 for n in header.grid.shape) > 1:
        found = " x ".join(str(n) for n in header.grid.shape[::-1])
        raise DatasetError(f"{path}: dim", found=f"{found} voxels", expected="a scan, or one slice of it")


def _refuse_bomb(source: Source, header: Header, path: Path) -> None:
    if header.data_bytes <= RATIO_FROM_BYTES or header.data_bytes <= LARGEST_IMAGE_RATIO * source.size:
        return
    raise DatasetError(
        path,
        found=f"{header.data_bytes >> 20} MB of voxels in a file of {source.size} bytes",
        expected=f"a scan, which gzip makes at most {LARGEST_IMAGE_RATIO} times smaller",
        remedy="to read it anyway, unpack it to .nii",
    )


def _refuse_more(source: Source, header: Header, path: Path) -> None:
    """Raise DatasetError where bytes follow the voxels. Reading to the end also makes gzip check CRC and length."""
    if source.stream.read(1):
        raise DatasetError(path, found="more bytes than voxels", expected=f"{header.data_bytes} bytes of voxels")


@contextmanager
def _enough_memory(header: Header, path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        expected = f"{header.data_bytes >> 20} MB for {header.grid.shape} voxels"
        raise StorageError(path, found="not enough memory", expected=expected) from error


def _no_labels(path: Path, table: LookupTable, top: int, values: Mapping[int, int]) -> DatasetError:
    listed = sorted(table.wrong.items(), key=lambda item: float(item[0]))
    found = some_of([f"{value} ({counted(count, 'voxel')})" for value, count in listed])
    expected = str(sorted({0, *values})) if values else f"0 to {top}"
    remedy = "were labels interpolated? resample them by nearest neighbour" if table.fractions else None
    return DatasetError(path, found=found, expected=f"the values of the table, {expected}", remedy=remedy)


def _scaling_remark(header: Header, path: Path) -> list[Finding]:
    if header.scaling is None:
        return []
    found = "scl_slope {:g}, scl_inter {:g} on labels".format(*header.scaling)
    return [remark(path, found=found, expected="no scaling", remedy="applied; it gives values of the table")]
