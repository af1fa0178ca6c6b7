"""How long a plan takes, roughly: multiply-adds over what a card sustains. For orientation, not a promise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .cost import cost
from .memory import Scan, inference_spacing

if TYPE_CHECKING:
    from .fingerprint import Fingerprint
    from .plan import Configuration, NetworkSpec, Step

CARD_PRODUCTS_PER_S = 4e12
"""Multiply-adds a second that convolutions reach on a card of 16 GB in half precision; a CPU core has about 3e10."""

VOXELS_PER_S = 3e7
"""Reading, resampling and writing a scan, in voxels of its own grid."""

TRAINING_PASSES = 3
"""A backward pass costs twice a forward pass."""


def windows_along(size: float, patch: int, overlap: float) -> int:
    """Windows of `patch` voxels that cover `size`, as inference.windows places them."""
    return 1 if size <= patch else 1 + math.ceil((size - patch) / max(1, int(patch * (1 - overlap))))


def prediction_seconds(
    scan: Scan, configuration: Configuration, network: NetworkSpec, outputs: Mapping[str, int]
) -> float:
    """For one scan, uncropped. 0 for a network without a known cost."""
    spent = cost(network, outputs, configuration.patch)
    if spent is None:
        return 0.0
    extent = scan.extent_at(inference_spacing(scan, configuration))
    patch = (1, *configuration.patch) if network.dimensions == 2 else configuration.patch
    overlaps = (0.0,) * (3 - network.dimensions) + (configuration.overlap,) * network.dimensions
    windows = math.prod(windows_along(n, p, share) for n, p, share in zip(extent, patch, overlaps))
    return windows * spent.products / CARD_PRODUCTS_PER_S + scan.voxels / VOXELS_PER_S


def training_seconds(step: Step, network: NetworkSpec, outputs: Mapping[str, int], patch: tuple[int, ...]) -> float:
    """Of one step, validation (a fifth more) left out. 0 for a network without a known cost."""
    spent = cost(network, outputs, patch)
    samples = step.epochs * step.batches_per_epoch * step.batch_size
    return 0.0 if spent is None else samples * TRAINING_PASSES * spent.products / CARD_PRODUCTS_PER_S


def preparation_seconds(fingerprint: Fingerprint) -> float:
    """Of all cases of a set for one configuration, in one process."""
    return sum(math.prod(case.shape) for case in fingerprint.cases) / VOXELS_PER_S
