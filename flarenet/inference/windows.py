"""Runs a network over a whole scan that comes plane by plane, and yields logits a slab at a time.

A slab is (z_start, {group: float32 logits [1 + n, z, Y, X]}). Slabs follow each other without gap or overlap, in the
order of the planes; each holds its slices lowest first.
Overlapping windows are blended with a Gaussian weight, and an image smaller than the patch lies in the middle of one
that is padded with 0, the lowest intensity: both as in MONAI's sliding_window_inference (mode="gaussian",
sigma_scale=0.125). In training such an image lies anywhere in the patch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..preparation.passing import Passing, in_order
from ..preparation.prepare import beside
from ..volume import Triple
from .engines import Engine

Slab = tuple[int, dict[str, Tensor]]

SIGMA_SHARE = 0.125
"""Standard deviation of the window weight, as a share of the patch."""

LEAST_WEIGHT = 1e-3
"""Least weight of a voxel of a window."""


def slabs(
    engine: Engine,
    planes: Iterable[np.ndarray],
    shape: Triple,
    *,
    patch: Sequence[int],
    overlap: float,
    batch_size: int,
    neighbours: int = 0,
    falling: bool = False,
) -> Iterator[Slab]:
    """The slabs of logits that `engine` gives for an image of `shape`; they stay on its device.

    planes      the image, float32 [Y, X] in [0, 1], lowest z first; as many are kept as a batch or a patch needs
    patch       (y, x): the network sees single slices; (z, y, x): it sees blocks
    overlap     share of a window that its neighbour covers
    batch_size  windows that run at once
    neighbours  slices on either side that a slice-wise network sees as channels
    falling     planes and slabs come highest z first; the logits are the same. Raises ValueError for blocks, which are
                laid from the lowest slice on
    An image without voxels yields nothing.
    """
    if 0 in shape:
        return iter(())
    if len(patch) == 3:
        if falling:
            raise ValueError("blocks need the lowest plane first")
        return _blocks(engine, planes, shape, tuple(patch), overlap=overlap, batch_size=batch_size)
    return _slices(
        engine,
        planes,
        shape,
        tuple(patch),
        overlap=overlap,
        batch_size=batch_size,
        neighbours=neighbours,
        falling=falling,
    )


def window_starts(size: int, patch: int, overlap: float) -> list[int]:
    """Where windows of `patch` voxels begin along an axis of `size` voxels; the last is moved back to end with it."""
    if size <= patch:
        return [0]
    step = max(1, int(patch * (1 - overlap)))
    return [*range(0, size - patch, step), size - patch]


def window_weight(patch: Sequence[int]) -> Tensor:
    """The weight of each voxel of a window, float32 of shape `patch`: a Gaussian, 1 at the centre."""
    weight = torch.ones(())
    for n in patch:
        away = torch.arange(n, dtype=torch.float32) - (n - 1) / 2
        weight = weight.unsqueeze(-1) * torch.exp(-(away**2) / (2 * (SIGMA_SHARE * n) ** 2))
    return weight.clamp(min=LEAST_WEIGHT)


def _slices(
    engine: Engine,
    planes: Iterable[np.ndarray],
    shape: Triple,
    patch: tuple[int, ...],
    *,
    overlap: float,
    batch_size: int,
    neighbours: int,
    falling: bool,
) -> Iterator[Slab]:
    rows, columns = (window_starts(size, p, overlap) for size, p in zip(shape[1:], patch))
    places = [(y, x) for y in rows for x in columns]
    weight = window_weight(patch).to(engine.device)
    total = _overlaid(weight, places, [max(size, p) for size, p in zip(shape[1:], patch)])
    margins = _margins(shape[1:], patch)
    rows_in, columns_in = _image_in(margins, shape[1:])
    depth, passing = shape[0], Passing(planes, shape[0], falling=falling)
    for start in in_order(range(0, depth, batch_size), falling):  # the same batches either way
        stop = min(start + batch_size, depth)
        first = max(0, start - neighbours)
        near = passing.between(first, min(depth, stop + neighbours))
        seen = [near[z - first] for place in range(start, stop) for z in beside(place, depth, neighbours)]
        slab = _padded(np.stack(seen).reshape(stop - start, -1, *shape[1:]), margins, engine.device)
        if len(places) == 1:
            blended = engine(slab)
        else:
            blended = _blended_slices(engine, slab, weight, total=total, places=places)
        yield start, {group: value[..., rows_in, columns_in].transpose(0, 1) for group, value in blended.items()}


def _overlaid(weight: Tensor, places: list[tuple[int, int]], plane: Sequence[int]) -> Tensor:
    """The sum of the weights of all windows in each pixel of a plane [Y, X]."""
    total = torch.zeros(tuple(plane), device=weight.device)
    for y, x in places:
        total[y : y + weight.shape[0], x : x + weight.shape[1]] += weight
    return total


def _blended_slices(
    engine: Engine, slab: Tensor, weight: Tensor, *, total: Tensor, places: list[tuple[int, int]]
) -> dict[str, Tensor]:
    """slab [b, C, Y, X] -> {group: logits [b, 1 + n, Y, X]}. The windows at one place, in all b slices, are a batch.

    weight  weight of each pixel of a window [y, x]
    total   sum of the weights of all windows [Y, X]
    places  (y, x) where windows begin
    """
    sums: dict[str, Tensor] = {}
    for y, x in places:
        inside = (..., slice(y, y + weight.shape[0]), slice(x, x + weight.shape[1]))
        for group, logits in engine(slab[inside]).items():
            if group not in sums:
                sums[group] = torch.zeros((*logits.shape[:2], *slab.shape[2:]), device=engine.device)
            sums[group][inside].addcmul_(logits, weight)
    return {group: value.div_(total) for group, value in sums.items()}


def _blocks(
    engine: Engine,
    planes: Iterable[np.ndarray],
    shape: Triple,
    patch: tuple[int, ...],
    *,
    overlap: float,
    batch_size: int,
) -> Iterator[Slab]:
    """Slabs from rows of windows, lowest z first. What no later row reaches is yielded, so one row of sums is kept."""
    depth, *plane = (max(size, p) for size, p in zip(shape, patch))
    (below, above), *margins = _margins(shape, patch)
    rows_in, columns_in = _image_in(margins, shape[1:])
    air = np.zeros(shape[1:], dtype=np.float32)
    passing = Passing(chain(repeat(air, below), planes, repeat(air, above)), depth)
    starts = window_starts(depth, patch[0], overlap)
    row = _Row(patch, plane, overlap=overlap, device=engine.device)
    for start, after in zip(starts, [*starts[1:], depth]):
        layer = _padded(np.stack(passing.between(start, start + patch[0])), margins, engine.device)
        row.add(engine, layer, batch_size)
        for z, final in enumerate(row.take(after - start), start - below):
            if 0 <= z < shape[0]:
                yield z, {group: value[..., rows_in, columns_in] for group, value in final.items()}


class _Row:
    """The weighted sums of logits over a layer of the image, as high as the patch and as wide as the image."""

    def __init__(self, patch: tuple[int, ...], plane: Sequence[int], *, overlap: float, device: torch.device) -> None:
        self.patch = patch
        self.places = [
            (..., slice(y, y + patch[1]), slice(x, x + patch[2]))
            for y in window_starts(plane[0], patch[1], overlap)
            for x in window_starts(plane[1], patch[2], overlap)
        ]
        self.weight = window_weight(patch).to(device)
        self.total = torch.zeros((patch[0], *plane), device=device)
        self.sums: dict[str, Tensor] = {}

    def add(self, engine: Engine, layer: Tensor, batch_size: int) -> None:
        """Run every window of `layer` [patch z, Y, X]."""
        for first in range(0, len(self.places), batch_size):
            batch = self.places[first : first + batch_size]
            for group, logits in engine(torch.stack([layer[inside] for inside in batch]).unsqueeze(1)).items():
                if group not in self.sums:
                    self.sums[group] = torch.zeros((logits.shape[1], *self.total.shape), device=logits.device)
                for inside, window in zip(batch, logits):
                    for summed, channel in zip(self.sums[group], window):  # a product of all would be a second window
                        summed[inside] += channel * self.weight
            for inside in batch:
                self.total[inside] += self.weight

    def take(self, depth: int) -> Iterator[dict[str, Tensor]]:
        """The blended logits of each of the lowest `depth` planes. Once all are taken, these are forgotten and the rest
        moved down."""
        for z in range(depth):
            plane = slice(z, z + 1)
            yield {group: value[:, plane] / self.total[plane] for group, value in self.sums.items()}
        for kept in (self.total.unsqueeze(0), *self.sums.values()):
            for z in range(depth, self.patch[0], depth):  # each piece lands where nothing is left to be moved
                piece = kept[:, z : z + depth]
                kept[:, z - depth : z - depth + piece.shape[1]] = piece
            kept[:, self.patch[0] - depth :] = 0


def _margins(shape: Sequence[int], patch: Sequence[int]) -> list[tuple[int, int]]:
    """What is missing of a patch before and behind an image of `shape`, along each axis; (0, 0) where it is as long."""
    lacking = [max(0, p - size) for size, p in zip(shape, patch)]
    return [(lack // 2, lack - lack // 2) for lack in lacking]


def _image_in(margins: Sequence[tuple[int, int]], shape: Sequence[int]) -> tuple[slice, ...]:
    """Where an image of `shape` lies between its margins."""
    return tuple(slice(before, before + size) for (before, _), size in zip(margins, shape))


def _padded(image: np.ndarray, margins: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """`image` as a float32 tensor on `device`, its last axes with `margins` of 0."""
    tensor = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    if any(map(any, margins)):
        tensor = F.pad(tensor, [count for margin in reversed(margins) for count in margin])
    # from page-locked memory a GPU copies by itself; for other memory the caller waits until earlier work is done
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
