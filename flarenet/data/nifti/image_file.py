"""An image that stays in its file. It is read once to check all of it, then plane by plane as often as wanted."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DatasetError
from ...volume import Box, BoxOf, Grid
from ..findings import Finding
from ..plausible import Values, sample_of
from ..reading import STRICT, Reading
from .header import Header
from .read import opened_image, stored
from .stream import Source
from .voxels import VoxelStats, check_voxels, fill, in_range, plane_values


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image that inspect_file found sound.

    remarks     warnings about the file
    values      the ends of its range, and a sample
    boxes       floor -> the smallest box, in the file's order, of all voxels above it; None where there are none
    not_finite  whether some voxels are not finite; they are read as the lowest value
    """

    path: Path
    reading: Reading
    header: Header
    remarks: tuple[Finding, ...]
    values: Values
    boxes: dict[float, Box | None]
    not_finite: bool

    @property
    def grid(self) -> Grid:
        return self.header.grid

    def planes(self) -> Iterator[np.ndarray]:
        """The planes [Y, X] in the file's order, int16 or float32, with the numbers that read_image gives.

        A plane is valid until the next one is asked for, which may overwrite it.
        Raises DatasetError where the file has changed since inspect_file, StorageError where it cannot be read.
        """
        with opened_image(self.path, self.reading) as (source, header):
            if header.raw.binaryblock != self.header.raw.binaryblock:
                remedy = "predict it again once nothing writes to it"
                found = "a different header than a moment ago"
                raise DatasetError(self.path, found=found, expected="the same file", remedy=remedy)
            for part in _planes(source, header, self.path):
                plane = plane_values(part, header.scaling)
                if self.not_finite:
                    fill(plane, self.values.lowest)
                yield plane


def inspect_file(path: str | Path, floors: Collection[float], reading: Reading = STRICT) -> ImageFile:
    """Read an image once, and keep of it only what an ImageFile holds. Raises as read_image does.

    floors  the values for which ImageFile.boxes is found
    """
    path, stats = Path(path), VoxelStats()
    boxes = {floor: BoxOf() for floor in floors}
    with opened_image(path, reading) as (source, header):
        z, *plane_sample = sample_of(header.grid.shape)
        sample = []
        for number, part in enumerate(_planes(source, header, path)):
            stats.note(part)
            plane = plane_values(part, header.scaling)
            for floor, found in boxes.items():
                found.add((plane > floor) & (plane < np.inf) if plane.dtype == np.float32 else plane > floor)
            if number % (z.step or 1) == 0:
                sample.append(plane[tuple(plane_sample)].copy())
    remarks = check_voxels(stats, header.voxels, header.scaling, path)
    lowest, highest = in_range(stats, header.scaling)
    whole = Box((0, 0, 0), header.grid.shape)
    return ImageFile(
        path=path,
        reading=reading,
        header=header,
        remarks=(*header.about_file, *header.about_grid, *remarks),
        values=Values(lowest, highest, fill(np.stack(sample), lowest) if remarks else np.stack(sample)),
        # voxels that are not finite get the lowest value: if that is above the floor, they all are
        boxes={floor: whole if lowest > floor else found.box for floor, found in boxes.items()},
        not_finite=bool(remarks),
    )


def _planes(source: Source, header: Header, path: Path) -> Iterator[np.ndarray]:
    """The stored numbers of each plane [Y, X]; the next plane overwrites them."""
    _, *plane = header.grid.shape
    return (part.reshape(plane) for part in stored(source, header, path, at_once=math.prod(plane)))
