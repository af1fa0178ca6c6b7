"""Opening a scan before its prediction begins. Needs no torch: a thread opens the first one while that is imported."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.dicom import inspect_series
from ..data.file_state import stat_of
from ..data.findings import Finding, as_error, refusals
from ..data.nifti import inspect_file, inspect_image, read_grid
from ..data.nifti.header import Header
from ..data.nifti.voxels import VoxelStats, check_voxels, fill
from ..data.plausible import Values, doubts_on_image, values_of
from ..data.reading import STRICT, Reading
from ..planning.plan import Configuration
from ..preparation.reoriented import ReorientedFile, ReorientedScan, ReorientedVolume, stays_in_file
from ..volume import Grid, Volume

_ARRAY = "the scan"
"""The name of an array in messages."""


@dataclass(frozen=True)
class OpenedScan:
    """A scan that open_scan has found to be sound.

    name     the file or folder, or "the scan" for an array
    scan     in memory, or still in its file
    like     what its label file gets its geometry from: the header that was read with it; of an array or a series the
             grid
    remarks  what should be looked at
    seconds  time that opening took
    stat     its stat_of before it was read; None for an array
    """

    name: Path | str
    scan: ReorientedScan
    like: Header | Grid
    remarks: tuple[Finding, ...]
    seconds: float
    stat: str | None = None

    @property
    def grid(self) -> Grid:
        """Its own grid."""
        return self.scan.original


def open_scan(
    image: Volume | Path | str, configurations: Sequence[Configuration], reading: Reading = STRICT
) -> OpenedScan:
    """Read a scan, or only check its file to the end where it may stay there. An array is checked as a file's voxels
    are.

    configurations  those of the networks that will see the scan. They decide whether it may stay in its file, and what
                    is measured while the file is checked
    Raises DatasetError for a file that cannot be read, and for what is not a scan.
    """
    began = time.perf_counter()
    name: Path | str = _ARRAY if isinstance(image, Volume) else image
    stat = None if isinstance(image, Volume) else stat_of(Path(image))
    scan, like, values, said = _opened(image, configurations, reading)
    doubts = doubts_on_image(scan.original, values, name, is_ct=configurations[0].is_ct)
    if refused := refusals(doubts):
        raise as_error(refused)
    return OpenedScan(name, scan, like, (*said, *doubts), time.perf_counter() - began, stat)


def _opened(
    image: Volume | Path | str, configurations: Sequence[Configuration], reading: Reading
) -> tuple[ReorientedScan, Header | Grid, Values, tuple[Finding, ...]]:
    """(OpenedScan.scan, OpenedScan.like, its values, what should be looked at in how it is stored)."""
    header: Header | None = None
    if isinstance(image, Volume):
        volume, said = _finite(image)
    elif Path(image).is_dir():
        volume, said = inspect_series(image)
    elif stays_in_file(read_grid(image, reading), configurations):
        file = inspect_file(image, {one.clip_hu[0] for one in configurations if one.clip_hu}, reading)
        return ReorientedFile(file), file.header, file.values, file.remarks
    else:
        volume, header, said = inspect_image(image, reading)
    return ReorientedVolume(volume), header or volume.grid, values_of(volume.data), said


def _finite(volume: Volume) -> tuple[Volume, tuple[Finding, ...]]:
    """An array with NaN and infinity filled as read_image does, and remarks on them; whole numbers stay as they are."""
    if volume.data.dtype.kind != "f":
        return volume, ()
    stats = VoxelStats()
    for plane in volume.data:
        stats.note(plane)
    remarks = check_voxels(stats, volume.data.size, None, _ARRAY)
    if remarks:
        volume = Volume(fill(volume.data.copy(), stats.lowest), volume.grid)
    return volume, tuple(remarks)
