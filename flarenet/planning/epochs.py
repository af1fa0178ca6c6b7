"""How much a step trains on, and so how many batches make an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .fingerprint import Fingerprint
from .patterns import Pattern


def slices_of(fingerprint: Fingerprint, patterns: Iterable[Pattern]) -> int:
    """The number of axial slices of these cases."""
    wanted = set(patterns)
    return sum(case.shape[0] for case in fingerprint.cases if case.annotated in wanted)


def batches_of(samples: int, batch_size: int) -> int:
    """Batches that show every sample once; at least one."""
    return max(1, math.ceil(samples / batch_size))
