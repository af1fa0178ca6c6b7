"""How much memory a plan takes, by formulas that benchmarks/planning/memory.py compares with what is measured.

training     RUNTIME_GB + 16 bytes * parameters
             + bytes of a number * batch * numbers at the fullest moment of the backward pass
prediction   RUNTIME_GB + what cannot stream of the scan + planes under way + network + logits, each as its function
             below says
a case       PREPARED_BYTES * voxels at the training spacing; what preparing it takes beside that is the scan's own size

1 GB is 10^9 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from .fusion import Fusion
from .kinds import cost
from .plan import Configuration, NetworkSpec, Scan

if TYPE_CHECKING:
    from .fingerprint import Fingerprint  # scipy with it, and a prediction imports this file

GB: Final = 10**9

RUNTIME_GB = 0.5
"""Python with torch on a CPU, or the context of a card."""

ADAM_BYTES = 16
"""A parameter in float32, its gradient and Adam's two moments."""

NUMBER_BYTES = {"fp32": 4, "auto": 4, "bf16": 3, "fp16": 3}
"""Of a number kept for the backward pass; "auto" may meet a card without bf16; autocast keeps some in float32."""

SCRATCH = 1.5
"""Convolutions on a CPU copy part of what they read into another order."""

PREPARED_BYTES = 3
"""Of a voxel of the prepared image: int16, and the slab that is being interpolated."""

SETTLING_BYTES = 6
"""Of a voxel while connected parts are looked for, at most: its number, the label and whether it is looked for."""

PIXELS_AT_ONCE = 8 * 224**2
"""Of slices that prediction runs at once: eight of the paper's patches."""

PLANES_WAITING = 8
"""Between two stages of a prediction; see inference.stages."""

ROWS_AT_ONCE = 16
"""Of an axis that is resampled, so planes too, that are made together. Smaller blocks multiply fewer zeros, larger ones
call less often; 16 was the fastest of 8 to 128. See preparation.resample."""

AS_IN_PAPER = Fusion()
"""Neither flips nor rules that need the whole answer."""


def scans_of(fingerprint: Fingerprint) -> dict[str, Scan]:
    """The scans of a set that decide what fits.

    "median", "large" (95 of 100 have no more voxels), "most voxels" and "longest" (the most mm^3)
    """
    by_voxels = sorted(fingerprint.cases, key=lambda case: math.prod(case.shape))
    chosen = {
        "median": by_voxels[len(by_voxels) // 2],
        "large": by_voxels[math.ceil(0.95 * len(by_voxels)) - 1],
        "most voxels": by_voxels[-1],
        "longest": max(by_voxels, key=lambda case: math.prod(case.shape) * math.prod(case.spacing_mm)),
    }
    return {name: Scan(shape=case.shape, spacing_mm=case.spacing_mm) for name, case in chosen.items()}


def training_gb(
    network: NetworkSpec, outputs: Mapping[str, int], *, patch: tuple[int, ...], batch_size: int, precision: str
) -> float:
    """The peak of one training step. 0 for a kind of network whose cost is not known."""
    spent = cost(network, outputs, patch)
    if spent is None:
        return 0.0
    numbers = NUMBER_BYTES[precision] * batch_size * spent.peak
    return RUNTIME_GB + (ADAM_BYTES * spent.parameters + numbers) / GB


def prediction_gb(
    scan: Scan,
    configuration: Configuration,
    network: NetworkSpec,
    outputs: Mapping[str, int],
    *,
    fusion: Fusion = AS_IN_PAPER,
) -> float:
    """The peak of predicting `scan` in float32 on a CPU, where network and logits share memory with the scan.

    scan      nothing where slices stream from the file: a slice-wise network with a fixed window, whatever the length.
              Else int16, and for blocks the label map too: a file may store its slices highest first
    planes    float32: those that wait, twice the windows that run at once or the patch, and a few of the scan's size;
              where slices are resampled, those made together, and twice the ones they are made from
    network   4 bytes a parameter, and SCRATCH times what is alive while its widest layer runs
    logits    float32: per channel three layers of windows over the whole plane, one being summed, one waiting and one
              becoming labels; and three slices at the scan's own size. With flips the mirrored ones and both
              probabilities are three layers more
    fusion    where it needs the whole answer: a byte a voxel for each group, and SETTLING_BYTES
    """
    spent = cost(network, outputs, configuration.patch)
    if spent is None:
        return 0.0
    spacing_mm = inference_spacing(scan, configuration)
    slices, rows, columns = scan.extent_at(spacing_mm)
    windows = windows_at_once(configuration.patch)
    depth = windows if network.dimensions == 2 else configuration.patch[0]
    channels = sum(1 + outputs[group] for group in network.groups)
    streams = network.dimensions == 2 and configuration.clip_hu is not None
    scan_bytes = 0 if streams else (2 if network.dimensions == 2 else 3) * scan.voxels
    plane = math.prod(scan.shape[1:])
    mixed = 0.0 if slices == scan.shape[0] else ROWS_AT_ONCE * (1 + 2 * scan.shape[0] / slices)
    plane_bytes = 4 * ((PLANES_WAITING + 2 * depth + mixed) * rows * columns + PLANES_WAITING * plane)
    network_bytes = 4 * (spent.parameters + SCRATCH * windows * spent.alive)
    logit_bytes = 4 * channels * ((6 if fusion.flips else 3) * depth * rows * columns + 3 * plane)
    answer_bytes = (len(network.groups) + SETTLING_BYTES) * scan.voxels if fusion.needs_whole else 0
    return RUNTIME_GB + (scan_bytes + plane_bytes + network_bytes + logit_bytes + answer_bytes) / GB


def windows_at_once(patch: tuple[int, ...]) -> int:
    """How many slices prediction runs at once, at least one; blocks run one by one."""
    return max(1, PIXELS_AT_ONCE // math.prod(patch)) if len(patch) == 2 else 1


def inference_spacing(scan: Scan, configuration: Configuration) -> tuple[float | None, ...]:
    """What `scan` is resampled to for prediction: a slice-wise network never sees interpolated slices."""
    z_mm, *plane = configuration.inference_spacing_mm
    if len(configuration.patch) == 2 and (z_mm is None or scan.spacing_mm[0] >= z_mm):
        z_mm = None
    return z_mm, *plane


def prepared_gb(scan: Scan, configuration: Configuration) -> float:
    """`scan` at the training spacing, by itself: what a plan asks for beyond what the scan is."""
    return PREPARED_BYTES * scan.voxels_at(configuration.spacing_mm) / GB


def stored_gb(fingerprint: Fingerprint, configuration: Configuration) -> float:
    """Disk for all cases of a configuration, before compression: int16, and a byte for each group of a drawn case."""
    groups = len(fingerprint.labels.groups)
    total = 0.0
    for case in fingerprint.cases:
        scan = Scan(shape=case.shape, spacing_mm=case.spacing_mm)
        total += (2 + (groups if case.annotated else 0)) * scan.voxels_at(configuration.spacing_mm)
    return total / GB
