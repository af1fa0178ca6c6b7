"""From slabs of logits on the network's grid to the slices of the scan on its own grid, without full-size logits.

At any time two network slices exist, and of the scan's resolution no more than labels; see upsample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..data.labels import LabelSet
from ..planning.fusion import Fusion
from ..preparation.prepare import Frame
from .fuse import slice_maps
from .upsample import NetworkSlice, source_slices
from .windows import Slab


def group_maps(slabs: Iterable[Slab], frame: Frame, *, fusion: Fusion, labels: LabelSet) -> dict[str, np.ndarray]:
    """{group: uint8 [Z, Y, X] on frame.original}: 0 background, 1..n the group's labels; 0 outside frame.box.

    The slabs must fill frame.grid, lowest z first; else ValueError.
    """
    whole = frame.orientation.apply_to_grid(frame.original).shape
    maps: dict[str, np.ndarray] = {}
    for z, (lower, upper, share) in enumerate(slices_between(slabs, frame)):
        for group, drawn in slice_maps(lower, upper, share, fusion=fusion, labels=labels).items():
            maps.setdefault(group, np.zeros(whole, dtype=np.uint8))[frame.box.slices][z] = drawn
    return {group: np.ascontiguousarray(frame.orientation.undo(drawn)) for group, drawn in maps.items()}


def slices_between(slabs: Iterable[Slab], frame: Frame) -> Iterator[tuple[NetworkSlice, NetworkSlice, float]]:
    """For each slice of frame.box, lowest first: the network slices below and above it, and the share of the latter.

    Raises ValueError as group_maps.
    """
    depth, *size = frame.box.shape
    count = frame.grid.shape[0]
    below, share = source_slices(depth, count)
    previous: NetworkSlice | None = None
    fed = done = 0
    for start, logits in slabs:
        if start != fed:
            raise ValueError(f"slab at slice {start}, expected one at {fed}")
        for index in range(next(iter(logits.values())).shape[1]):
            current = NetworkSlice({group: value[:, index] for group, value in logits.items()}, (size[0], size[1]))
            fed += 1
            while done < depth and fed >= min(below[done] + 2, count):
                yield previous or current, current, float(share[done])
                done += 1
            previous = current
    if fed != count:
        raise ValueError(f"slabs end at slice {fed}, the prepared image at {count}")
