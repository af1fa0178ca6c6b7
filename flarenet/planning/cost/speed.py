"""How long a plan takes: its multiply-adds divided by those that a card makes in a second. A rough estimate only."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from ..measuring.fingerprint import Fingerprint
from ..plan import Configuration, NetworkSpec, Plan, ScanSize, Step
from ..rules.patterns import Pattern
from ..runs import Run
from .kinds import cost
from .memory import inference_spacing

CARD_PRODUCTS_PER_S = 4e12
"""Multiply-adds a second of convolutions on a card of 16 GB in half precision."""

CORE_PRODUCTS_PER_S = 3e10
"""The same of one of a few CPU cores, when the paper's networks train: 2.4e10 to 4.4e10 in float32, 2.8e10 to 8.1e10 in
bf16, by the steps in docs/results.md."""

VOXELS_PER_S = 3e7
"""How many voxels of a scan's own grid are read, resampled and written a second. A scan of 512 x 512 x 100 voxels is
prepared in 0.34 s (7.7e7 a second); when predicted, all but the network takes 0.65 to 0.74 s (3.5e7 to 4e7,
docs/results.md)."""

TRAINING_PASSES = 3
"""How many forward passes an update of the weights costs: a backward pass costs two."""


def windows_along(size: float, patch: int, overlap: float) -> int:
    """How many windows of `patch` voxels cover `size`, as inference.windows places them."""
    return 1 if size <= patch else 1 + math.ceil((size - patch) / max(1, int(patch * (1 - overlap))))


def prediction_seconds(
    scans: Iterable[ScanSize], configuration: Configuration, network: NetworkSpec, outputs: Mapping[str, int]
) -> float:
    """The time to predict all of `scans`, uncropped; 0 for a network without a known cost."""
    spent = cost(network, outputs, configuration.patch)
    if spent is None:
        return 0.0
    patch = (1, *configuration.patch) if network.dimensions == 2 else configuration.patch
    overlaps = (0.0,) * (3 - network.dimensions) + (configuration.overlap,) * network.dimensions
    total = 0.0
    for scan in scans:
        extent = scan.extent_at(inference_spacing(scan, configuration))
        windows = math.prod(windows_along(n, p, share) for n, p, share in zip(extent, patch, overlaps))
        total += windows * spent.products / CARD_PRODUCTS_PER_S + scan.voxels / VOXELS_PER_S
    return total


def pseudo_seconds(step: Step, plan: Plan, fingerprint: Fingerprint) -> float:
    """The time of the predictions that a step learns from: each teacher predicts, as often as the step says, every case
    that lacks a label of its groups. A model that teaches several groups predicts all of them at once."""
    lacking = defaultdict[Run, set[Pattern]](set)
    for group, run in step.teachers.items():
        values = set(plan.labels.groups[group])
        lacks = [pattern for pattern in fingerprint.patterns if step.subset.holds(pattern) and values - set(pattern)]
        for asked in (run, step.pseudo_rules.earlier.get(group)):
            if asked is not None:
                lacking[asked].update(lacks)
    total = 0.0
    for run, patterns in lacking.items():
        network = plan.trainer(run.trainer).network
        cases = (case for case in fingerprint.cases if case.annotated in patterns)
        scans = (ScanSize(shape=case.shape, spacing_mm=case.spacing_mm) for case in cases)
        once = prediction_seconds(scans, plan.configuration_of(run.trainer), network, plan.labels.outputs)
        total += once * (step.pseudo_rules.passes if run in step.teachers.values() else 1)
    return total


def training_seconds(step: Step, network: NetworkSpec, outputs: Mapping[str, int], patch: tuple[int, ...]) -> float:
    """The time to train a step on a card, without pseudo labels and validation; 0 for a network without a known cost.

    Validation adds a fifteenth, a forward pass for every fifth batch, or more where that would be too few patches: with
    10 held-out cases and 50 batches of 2 in an epoch, which are judged by 40 patches, 13 %.
    """
    spent = cost(network, outputs, patch)
    samples = step.epochs * step.batches_per_epoch * step.batch_size
    return 0.0 if spent is None else samples * TRAINING_PASSES * spent.products / CARD_PRODUCTS_PER_S


def seconds_on_cores(card_seconds: float, cores: int) -> float:
    """The time on so many CPU cores of what training_seconds says of a card."""
    return card_seconds * CARD_PRODUCTS_PER_S / (cores * CORE_PRODUCTS_PER_S)


def preparation_seconds(fingerprint: Fingerprint) -> float:
    """The time to prepare all cases of a set for one configuration, in one process."""
    return sum(math.prod(case.shape) for case in fingerprint.cases) / VOXELS_PER_S
