"""How much memory a plan takes, by formulas; benchmarks/planning/memory.py compares them with measurements.

training     RUNTIME_GB + 16 bytes * parameters
             + bytes of a number * batch * numbers at the fullest moment of the backward pass
prediction   RUNTIME_GB, for blocks OPENVINO_GB too + what must be held of the scan + planes in work + network + logits
             + packed maps for some rules, see prediction_gb
a case       PREPARED_BYTES * voxels at the training spacing; what else preparing it takes depends on the scan alone

1 GB is 10^9 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ..fusion import Fusion
from ..plan import Configuration, NetworkSpec, Plan, ScanSize, Step
from .kinds import cost

if TYPE_CHECKING:
    from ..measuring.fingerprint import Fingerprint  # scipy with it, and a prediction imports this file

GB: Final = 10**9

RUNTIME_GB = 0.5
"""The memory of Python with torch on a CPU, or of the context of a card."""

OPENVINO_GB = 0.2
"""What OpenVINO takes beyond torch for a 3D network, as measured with UNETR; for a 2D network it takes no more."""

ADAM_BYTES = 16
"""Bytes of a parameter in training: its value in float32, its gradient and Adam's two moments."""

NUMBER_BYTES = {"fp32": 4, "auto": 4, "bf16": 3, "fp16": 3}
"""Bytes of a number kept for the backward pass. "auto" may meet a card without bf16; autocast keeps some numbers in
float32."""

SCRATCH = 1.5
"""How many times the numbers alive in a layer it takes to run it: convolutions on a CPU copy part of their input into
another memory order."""

PREPARED_BYTES = 3
"""Bytes of a voxel of an image that is being prepared: int16, and the slab that is being interpolated."""

PACKED_BYTES = 0.05
"""Bytes of a voxel, at most, in a packed map: slices of 173 x 173 pixels with 13 labels took 0.03, larger ones less."""

RANKED_BYTES = 9
"""Bytes of a voxel, at most, while the percentiles of an image are found: float32, a copy to be ranked, and whether the
voxel is."""

PIXELS_AT_ONCE, PIXELS_AT_ONCE_ON_CPU = 8 * 224**2, 2 * 224**2
"""Pixels of all slices in one prediction batch: eight of the paper's patches on a card, two on a CPU, where eight take
no less time each."""

PLANES_WAITING = 8
"""How many planes wait between two stages of a prediction; see inference.stages."""

ROWS_AT_ONCE = 16
"""Output rows (along z: planes) that one matrix product of the resampling makes. Smaller blocks multiply fewer zeros,
larger ones need fewer calls; 16 was the fastest of 8 to 128. See preparation.resample."""

AS_IN_PAPER = Fusion()
"""Fusion as in the paper: without flips, and without rules that need connected parts."""


def gb_in_words(gb: float) -> str:
    """A size as people read it: "1.5 GB", and below one GB "230 MB"."""
    return f"{gb:.1f} GB" if gb >= 1 else f"{gb * 1000:.0f} MB"


def scans_of(fingerprint: Fingerprint) -> dict[str, ScanSize]:
    """The scans of a set that decide what fits, by name:

    median       the one with the median number of voxels
    large        95 of 100 scans have no more voxels
    most voxels  the one with the most voxels
    longest      the one with the largest volume in mm^3
    """
    by_voxels = sorted(fingerprint.cases, key=lambda case: math.prod(case.shape))
    chosen = {
        "median": by_voxels[len(by_voxels) // 2],
        "large": by_voxels[math.ceil(0.95 * len(by_voxels)) - 1],
        "most voxels": by_voxels[-1],
        "longest": max(by_voxels, key=lambda case: math.prod(case.shape) * math.prod(case.spacing_mm)),
    }
    return {name: ScanSize(shape=case.shape, spacing_mm=case.spacing_mm) for name, case in chosen.items()}


def training_gb(
    network: NetworkSpec, outputs: Mapping[str, int], *, patch: tuple[int, ...], batch_size: int, precision: str
) -> float:
    """The peak memory of one update of the weights; 0 for a kind of network whose cost is not known."""
    spent = cost(network, outputs, patch)
    if spent is None:
        return 0.0
    numbers = NUMBER_BYTES[precision] * batch_size * spent.peak
    return RUNTIME_GB + (ADAM_BYTES * spent.parameters + numbers) / GB


def step_gb(plan: Plan, trainer: str, step: Step, *, rows: int | None = None, precision: str | None = None) -> float:
    """training_gb of a trainer's `step`: of the part of a batch that is worked on at once.

    rows       how many samples of the batch this process has; None: all
    precision  None: the plan's
    """
    part = plan.trainer(trainer)
    return training_gb(
        part.network,
        plan.labels.outputs,
        patch=plan.configuration_of(trainer).patch,
        batch_size=part.update.at_once(step.batch_size if rows is None else rows),
        precision=precision or plan.precision,
    )


def prediction_gb(
    scan: ScanSize,
    configuration: Configuration,
    network: NetworkSpec,
    outputs: Mapping[str, int],
    *,
    fusion: Fusion = AS_IN_PAPER,
) -> float:
    """The peak memory of predicting `scan` in float32 on a CPU, where network and logits share memory with the scan.

    It is the sum of RUNTIME_GB, for blocks OPENVINO_GB too, and the memory of

    scan     nothing where slices stream from the file, which they do, whatever their number, for a slice-wise network
             with a fixed window. Else int16, or float32, as MR mostly is, where intensities are scaled by percentiles,
             and for blocks the label map too, as a file may have its highest slice first
    planes   float32: those that wait, twice the windows that run at once or twice the depth of the patch, and a few of
             the scan's size. Where slices are resampled also those made together, and twice those they are made from
    network  4 bytes a parameter, and SCRATCH times what is alive while its widest layer runs
    logits   float32, every channel of the whole plane: the slices that run at once and those before them, or the
             slab as deep as the patch in which blocks are summed; the network's slices around those of the scan that
             wait or become labels; and three slices at the scan's own size. With flips the mirrored ones and both
             probabilities too
    fusion   where it needs connected parts: PACKED_BYTES per voxel and group

    or, if that is more, RANKED_BYTES a voxel while percentiles are found.
    """
    spent = cost(network, outputs, configuration.patch)
    if spent is None:
        return 0.0
    spacing_mm = inference_spacing(scan, configuration)
    slices, rows, columns = scan.extent_at(spacing_mm)
    windows = windows_at_once(configuration.patch, on_cpu=True)
    summed, given_out = (0, windows) if network.dimensions == 2 else (configuration.patch[0], 1)
    channels = sum(1 + outputs[group] for group in network.groups)
    streams = network.dimensions == 2 and configuration.clip_hu is not None
    voxel_bytes = (4 if configuration.clip_hu is None else 2) + (network.dimensions == 3)
    scan_bytes = 0 if streams else voxel_bytes * scan.voxels
    plane = math.prod(scan.shape[1:])
    mixed = 0.0 if slices == scan.shape[0] else ROWS_AT_ONCE * (1 + 2 * scan.shape[0] / slices)
    plane_bytes = 4 * ((PLANES_WAITING + 2 * max(summed, windows) + mixed) * rows * columns + PLANES_WAITING * plane)
    network_bytes = 4 * (spent.parameters + SCRATCH * windows * spent.alive)
    layers = summed + 2 * given_out + (summed + 5 * given_out if fusion.flips else 0)
    waiting = 1 + (PLANES_WAITING + 2) * min(2.0, max(1.0, slices / scan.shape[0]))
    logit_bytes = 4 * channels * ((layers + waiting) * rows * columns + 3 * plane)
    answer_bytes = PACKED_BYTES * len(network.groups) * scan.voxels if fusion.needs_parts else 0
    runtime_gb = RUNTIME_GB + (0 if network.dimensions == 2 else OPENVINO_GB)
    answering = scan_bytes + plane_bytes + network_bytes + logit_bytes + answer_bytes
    ranking = RANKED_BYTES * scan.voxels if configuration.clip_hu is None else 0
    return runtime_gb + max(answering, ranking) / GB


def windows_at_once(patch: tuple[int, ...], *, on_cpu: bool) -> int:
    """How many 2D patches a prediction runs at once with torch, at least one; 3D patches run one by one."""
    pixels = PIXELS_AT_ONCE_ON_CPU if on_cpu else PIXELS_AT_ONCE
    return max(1, pixels // math.prod(patch)) if len(patch) == 2 else 1


def inference_spacing(scan: ScanSize, configuration: Configuration) -> tuple[float | None, ...]:
    """The spacing to which `scan` is resampled for prediction. For a slice-wise network, slices at least as far apart
    as inference_spacing_mm stay as they are."""
    z_mm, *plane = configuration.inference_spacing_mm
    if len(configuration.patch) == 2 and (z_mm is None or scan.spacing_mm[0] >= z_mm):
        z_mm = None
    return z_mm, *plane


def prepared_gb(scan: ScanSize, configuration: Configuration) -> float:
    """The memory of `scan` at the training spacing alone: the part that the plan decides."""
    return PREPARED_BYTES * scan.voxels_at(configuration.spacing_mm) / GB


def stored_gb(fingerprint: Fingerprint, configuration: Configuration) -> float:
    """The disk space of all cases of a configuration, before compression: per voxel two bytes for the image and, in a
    labelled case, one for each group."""
    groups = len(fingerprint.labels.groups)
    total = 0.0
    for case in fingerprint.cases:
        scan = ScanSize(shape=case.shape, spacing_mm=case.spacing_mm)
        total += (2 + (groups if case.annotated else 0)) * scan.voxels_at(configuration.spacing_mm)
    return total / GB
