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
from .windows import Slab


def group_maps(slabs: Iterable[Slab], frame: Frame, groups: Sequence[str]) -> dict[str, np.ndarray]:
    """{group: uint8 [Z, Y, X] on frame.original}: 0 background, 1..n the group's labels; 0 outside frame.box.

    The slabs must fill frame.grid, lowest z first; else ValueError.
    """
    whole = frame.orientation.apply_to_grid(frame.original).shape
    maps = {group: np.zeros(whole, dtype=np.uint8) for group in groups}
    resamplers = {group: _Resampler(maps[group][frame.box.slices], frame.grid.shape[0]) for group in groups}
    covered = 0
    for start, logits in slabs:
        if start != covered:
            raise ValueError(f"slab at slice {start}, expected one at {covered}")
        for group in groups:
            resamplers[group].feed(logits[group])
        covered += logits[groups[0]].shape[1]
    if covered != frame.grid.shape[0]:
        raise ValueError(f"slabs end at slice {covered}, the prepared image at {frame.grid.shape[0]}")
    return {group: np.ascontiguousarray(frame.orientation.undo(drawn)) for group, drawn in maps.items()}


def source_slices(count: int, network_count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `count` output slices: the network slice below it, and the share of the one above that.

    Outer edges coincide: output centre i lies at (i + 0.5) * network_count / count - 0.5, kept within the slices.
    """
    place = np.clip((np.arange(count) + 0.5) * (network_count / count) - 0.5, 0, network_count - 1)
    below = np.minimum(place.astype(np.int64), max(network_count - 2, 0))
    return below, (place - below).astype(np.float32)


class _Resampler:
    """Takes network slices in order and fills `target`, uint8 [z, y, x], as soon as each slice can be known."""

    def __init__(self, target: np.ndarray, network_count: int) -> None:
        self.target = target
        self.below, self.share = source_slices(target.shape[0], network_count)
        self.last = network_count - 1
        self.fed = 0
        self.done = 0
        self.previous: Tensor | None = None

    @torch.inference_mode()
    def feed(self, logits: Tensor) -> None:
        """logits [1 + n, z, Y, X] of the next z network slices."""
        for index in range(logits.shape[1]):
            plane = _in_plane(logits[:, index], self.target.shape[1:])
            for output in self._ready():
                self.target[output] = _best(self._between(plane, output)).cpu().numpy()
            self.previous = plane
            self.fed += 1

    def _ready(self) -> Iterator[int]:
        """The output slices that lie between the previous and this network slice, in order."""
        while self.done < len(self.below) and self.fed >= min(self.below[self.done] + 1, self.last):
            yield self.done
            self.done += 1

    def _between(self, plane: Tensor, output: int) -> Tensor:
        share = float(self.share[output])
        if self.previous is None or share == 1:
            return plane
        return self.previous if share == 0 else torch.lerp(self.previous, plane, share)


def _in_plane(plane: Tensor, size: Sequence[int]) -> Tensor:
    """[1 + n, y, x] -> [1 + n, *size], bilinear."""
    if tuple(plane.shape[1:]) == tuple(size):
        return plane
    return F.interpolate(plane.unsqueeze(0), size=tuple(size), mode="bilinear", align_corners=False)[0]


def _best(logits: Tensor) -> Tensor:
    """argmax over the first axis as uint8, the lower label where two are equal; several times faster than argmax."""
    highest, label = logits[0], torch.zeros(logits.shape[1:], dtype=torch.uint8, device=logits.device)
    for index in range(1, logits.shape[0]):
        label.masked_fill_(logits[index] > highest, index)
        highest = torch.maximum(highest, logits[index])
    return label
