"""Volume, HU and lesions of each label, summed up slice by slice: `flarenet_predict --statistics`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ...data.labels import LabelSet
from ...data.names import stem_of
from ...data.parts_by_slice import Parts, PartsBySlice
from ...errors import DatasetError
from ...schema import LARGEST_TABLE_BYTES, Frozen, load, save
from ...volume import Grid
from ...whole import write_csv
from ..opening import OpenedScan
from .outputs import WrittenAtEnd, output_path
from .slices import FinishedSlice

FOLDER, TABLE, ALL = "statistics", "statistics.csv", "statistics.json"

_COLUMNS = ("voxels", "volume_ml", "mean_hu", "sd_hu", "lesions")


class LabelStatistics(Frozen):
    """One label of one scan.

    mean_hu     mean of its voxels, in HU or, for a scan that is no CT, in the units of the scan; None without voxels
    sd_hu       standard deviation likewise, with n as the divisor
    lesions     number of parts that are connected by faces, edges or corners; None for a label that is not a lesion
                (LabelSet.lesions)
    lesions_ml  volumes of these parts, the largest first
    """

    voxels: int
    volume_ml: float
    mean_hu: float | None
    sd_hu: float | None
    lesions: int | None
    lesions_ml: tuple[float, ...] = ()


class CaseStatistics(Frozen):
    """What statistics/CASE.json holds.

    spacing_mm  along z, y, x, as the file stores the axes
    labels      label name -> its statistics
    """

    largest_bytes = LARGEST_TABLE_BYTES  # it has the volume of each lesion, and noise may be many
    case: str
    spacing_mm: tuple[float, float, float]
    labels: dict[str, LabelStatistics]


class AllStatistics(Frozen):
    """What statistics.json holds."""

    cases: tuple[CaseStatistics, ...]


class Statistics:
    """The Output that writes statistics/CASE.json; write_tables gathers the statistics of several cases.

    values  values of the labels to include
    """

    def __init__(self, labels: LabelSet, values: Iterable[int]) -> None:
        self.labels = labels
        self.values = tuple(sorted(values))

    def __call__(self, output: Path, scan: OpenedScan) -> StatisticsSink:
        return StatisticsSink(
            self.files(output)[0], stem_of(output.name), scan.grid, labels=self.labels, values=self.values
        )

    def files(self, output: Path) -> tuple[Path, ...]:
        return (output_path(output, FOLDER, ".json"),)


class StatisticsSink(WrittenAtEnd):
    """Sums over the slices of one scan. Lesions are connected across slices as these come: see PartsBySlice."""

    wants_image = True

    def __init__(self, path: Path, case: str, grid: Grid, *, labels: LabelSet, values: Sequence[int]) -> None:
        super().__init__(path)
        self.case, self.grid, self.labels, self.values = case, grid, labels, values
        # for each label value: number of voxels, sum of their HU, sum of the squares of these
        self.sums = np.zeros((3, 256))
        self.lesions, self.parts = frozenset(values) & frozenset(labels.lesions), PartsBySlice()
        self.only_lesions = np.zeros(256, dtype=np.uint8)
        self.only_lesions[list(self.lesions)] = list(self.lesions)

    def take(self, finished: FinishedSlice) -> None:
        assert finished.image is not None
        inside = np.flatnonzero(finished.labels)
        drawn = finished.labels.ravel()[inside]
        hu = finished.image.ravel()[inside].astype(np.float64)
        for row, weights in zip(self.sums, (None, hu, hu * hu)):
            row += np.bincount(drawn, weights, minlength=256)
        if self.lesions:
            self.parts.add(finished.z, {"": self.only_lesions[finished.labels]})

    def result(self) -> CaseStatistics:
        parts = self.parts.joined()
        by_label = {self.labels.names[value]: self._of(value, parts) for value in self.values}
        return CaseStatistics(case=self.case, spacing_mm=self.grid.spacing_mm, labels=by_label)

    def finish(self) -> None:
        save(self.result(), self.path)

    def _of(self, value: int, parts: Parts) -> LabelStatistics:
        voxel_ml = self.grid.voxel_mm3 / 1000
        voxels, total, squares = (float(row[value]) for row in self.sums)
        mean_hu = total / voxels if voxels else None
        sd_hu = None if mean_hu is None else max(0.0, squares / voxels - mean_hu**2) ** 0.5
        sizes = sorted(parts.voxels[parts.label == value].tolist(), reverse=True) if value in self.lesions else None
        return LabelStatistics(
            voxels=int(voxels),
            volume_ml=voxels * voxel_ml,
            mean_hu=mean_hu,
            sd_hu=sd_hu,
            lesions=None if sizes is None else len(sizes),
            lesions_ml=tuple(size * voxel_ml for size in sizes or ()),
        )


def statistics_file(output: Path) -> Path:
    """Where the statistics of a label file are."""
    return output_path(output, FOLDER, ".json")


def read_statistics(output: Path) -> CaseStatistics:
    """The statistics written for a label file. Raises DatasetError where there are none."""
    return load(CaseStatistics, statistics_file(output), DatasetError)


def write_tables(folder: Path, cases: Sequence[CaseStatistics]) -> None:
    """Write to `folder` statistics.json, and statistics.csv with a row per case and label;
    in that, ";" joins the volumes of lesions."""
    rows = (
        (case.case, label, *(getattr(of, name) for name in _COLUMNS), ";".join(f"{ml:.6g}" for ml in of.lesions_ml))
        for case in cases
        for label, of in case.labels.items()
    )
    write_csv(folder / TABLE, ("case", "label", *_COLUMNS, "lesions_ml"), rows)
    save(AllStatistics(cases=tuple(cases)), folder / ALL)
