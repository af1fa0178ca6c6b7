"""What a Predictor is given, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.findings import Finding
from ..errors import FlarenetError, StorageError, is_out_of_memory, memory_remedy, without_frames
from ..volume import Grid, Volume
from .opening import OpenedScan


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What came of predicting one scan.

    grid     the scan's own grid
    seconds  time from reading the file (or taking the array) to the last finished slice, sinks included
    stage_s  seconds that each stage worked: read (to see that the file is sound), unpack, prepare, network, labels,
             write ... Stages run beside each other. On a GPU, the network's work shows in the stages after it
    engine   what computed the logits, such as "torch fp32"; where several models differ, all names joined by +
    peak_mb  most memory so far: that of the GPU in this prediction, or, on the CPU, that of the whole process
    remarks  what should be looked at about the file
    stat     the file's stat_of before it was read; None for an array
    """

    grid: Grid
    seconds: float
    stage_s: dict[str, float]
    peak_mb: float
    engine: str
    remarks: tuple[Finding, ...] = ()
    stat: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(Outcome):
    """The answer for one scan: `labels` uint8 [Z, Y, X] on the scan's own grid, values of the label table."""

    labels: np.ndarray


Image = Volume | Path | str | OpenedScan
"""An array on its grid, a NIfTI file, a folder of DICOM slices, or one of these that has been opened."""


def as_case_error(image: object, problem: Exception) -> FlarenetError:
    """The error to report for a scan whose failure need not stop the others: one of flarenet's own errors, a file's, or
    memory that ran out. It holds nothing of the scan and may be kept. Raises `problem` itself where it is anything
    else."""
    if isinstance(problem, FlarenetError):
        return without_frames(problem)
    if isinstance(problem, OSError):
        return StorageError(image, found=problem, expected="files that can be read and written")
    if is_out_of_memory(problem):
        remedy = memory_remedy(problem, "a smaller --batch-size")
        return StorageError(image, found="not enough memory", expected="enough for this scan", remedy=remedy)
    raise problem
