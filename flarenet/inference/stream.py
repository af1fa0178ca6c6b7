"""From slabs of logits on the network's grid to label maps on the scan's own grid, without full-size logits.

Logits are interpolated linearly to the scan's voxels, in plane and then between two neighbouring network slices,
and the best label is taken slice by slice; at any time the logits of two network slices at full size exist.
The result is that of torch's trilinear interpolation (align_corners=False: outer voxel edges coincide) of the
whole, then argmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..preparation.prepare import Frame
from .upsample import Planes, best, source_slices
from .windows import Slab


def group_maps(slabs: Iterable[Slab], frame: Frame, groups: Sequence[str]) -> dict[str, np.ndarray]:
    """{group: uint8 [Z, Y, X] on frame.original}: 0 background, 1..n the group's labels; 0 outside frame.box.

    The slabs must fill frame.grid, lowest z first; else ValueError.
    """
    whole = frame.orientation.apply_to_grid(frame.original).shape
    maps = {group: np.zeros(whole, dtype=np.uint8) for group in groups}
    for z, planes in enumerate(planes_of(slabs, frame)):
        for group in groups:
            maps[group][frame.box.slices][z] = best(planes[group]).cpu().numpy()
    return {group: np.ascontiguousarray(frame.orientation.undo(drawn)) for group, drawn in maps.items()}


@torch.inference_mode()
def planes_of(slabs: Iterable[Slab], frame: Frame) -> Iterator[Planes]:
    """The slices of frame.box at the scan's own resolution, lowest first. Raises ValueError as group_maps."""
    depth, *plane = frame.box.shape
    below, share = source_slices(depth, frame.grid.shape[0])
    previous: Planes = {}
    fed = done = 0
    for start, logits in slabs:
        if start != fed:
            raise ValueError(f"slab at slice {start}, expected one at {fed}")
        for index in range(next(iter(logits.values())).shape[1]):
            current = {group: _in_plane(value[:, index], plane) for group, value in logits.items()}
            fed += 1
            while done < depth and fed >= min(below[done] + 2, frame.grid.shape[0]):
                yield {group: _between(previous.get(group), value, share[done]) for group, value in current.items()}
                done += 1
            previous = current
    if fed != frame.grid.shape[0]:
        raise ValueError(f"slabs end at slice {fed}, the prepared image at {frame.grid.shape[0]}")


def _between(lower: Tensor | None, upper: Tensor, share: float) -> Tensor:
    if lower is None or share == 1:
        return upper
    return lower if share == 0 else torch.lerp(lower, upper, float(share))


def _in_plane(plane: Tensor, size: Sequence[int]) -> Tensor:
    """[1 + n, y, x] -> [1 + n, *size], bilinear."""
    if tuple(plane.shape[1:]) == tuple(size):
        return plane
    return F.interpolate(plane.unsqueeze(0), size=tuple(size), mode="bilinear", align_corners=False)[0]
