"""What predicting cost, case by case, as flarenet_measure writes it beside predictions: efficiency.json."""

from __future__ import annotations

from pathlib import Path

from ..errors import DatasetError
from ..schema import Frozen, load

EFFICIENCY = "efficiency.json"

TOLERATED_S, TOLERATED_MB = 15.0, 4096.0
"""Time of a case and GPU memory from which on the FLARE challenges take points off."""


class Sample(Frozen):
    """Memory in use `at_s` after the start; gpu_mb is None where there is no GPU."""

    at_s: float
    gpu_mb: float | None
    rss_mb: float


class CaseCost(Frozen):
    """One case, predicted by a process of its own, from its start to its end.

    size           (x, y, z) in voxels, as the scan stores them
    gpu_peak_mb    the most memory of the device in use; None without one
    gpu_area_mb_s  the area under the curve of memory over time
    peak_rss_mb    the most memory of the process and its children
    """

    size: tuple[int, int, int]
    seconds: float
    gpu_peak_mb: float | None
    gpu_area_mb_s: float | None
    cpu_percent: float
    peak_rss_mb: float
    samples: tuple[Sample, ...] = ()


class Efficiency(Frozen):
    """What efficiency.json holds; `device` is the GPU's name or the processor's."""

    device: str
    cases: dict[str, CaseCost]


def read_efficiency(folder: Path) -> Efficiency | None:
    """What was measured of the predictions in `folder`; None where nothing was."""
    path = folder / EFFICIENCY
    return load(Efficiency, path, DatasetError) if path.is_file() else None
