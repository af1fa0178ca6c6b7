"""Runs a network over a whole scan that comes plane by plane, and yields logits a slab at a time.

A slab is (z_start, {group: float32 logits [1 + n, z, Y, X]}). The logits are tensors, or arrays of numpy where OpenVINO
sees slices: that needs no torch, whose import takes seconds. Slabs follow each other without gap or overlap, in the
order of the planes; each holds its slices lowest first.
Overlapping windows are blended with a Gaussian weight, and an image smaller than the patch lies in the middle of one
that is padded with 0, the lowest intensity: both as in MONAI's sliding_window_inference (mode="gaussian",
sigma_scale=0.125). In training such an image lies anywhere in the patch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..preparation.passing import Passing, in_order
from ..preparation.prepare import neighbour_slices
from ..volume import Triple
from .engines.openvino_engine import OpenVinoEngine

if TYPE_CHECKING:
    from .engines.engine import Engine

Slab = tuple[int, dict[str, Any]]

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
    descending: bool = False,
) -> Iterator[Slab]:
    """The slabs of logits that `engine` gives for an image of `shape`; they stay on its device.

    planes      the image, float32 [Y, X] in [0, 1], lowest z first; as many are kept as a batch or a patch needs
    patch       (y, x): the network sees single slices; (z, y, x): it sees blocks
    overlap     share of a window that its neighbour covers
    batch_size  windows that run at once
    neighbours  slices on either side that a slice-wise network sees as channels
    descending  planes and slabs come highest z first; the logits are the same. Raises ValueError for blocks, which are
                laid from the lowest slice on
    An image without voxels yields nothing.
    """
    if 0 in shape:
        return
    if len(patch) == 3:
        if descending:
            raise ValueError("blocks need the lowest plane first")
        from .blended import blocks

        yield from blocks(engine, planes, shape, tuple(patch), overlap=overlap, batch_size=batch_size)
        return
    ask = _asker(engine, shape[1:], patch, overlap)
    depth, passing = shape[0], Passing(planes, shape[0], descending=descending)
    for start in in_order(range(0, depth, batch_size), descending):  # the same batches either way
        stop = min(start + batch_size, depth)
        first = max(0, start - neighbours)
        near = passing.between(first, min(depth, stop + neighbours))
        seen = [near[z - first] for place in range(start, stop) for z in neighbour_slices(place, depth, neighbours)]
        answers = ask(np.stack(seen).reshape(stop - start, -1, *shape[1:]))
        yield start, {group: value.swapaxes(0, 1) for group, value in answers.items()}


def window_starts(size: int, patch: int, overlap: float) -> list[int]:
    """Where windows of `patch` voxels begin along an axis of `size` voxels; the last is moved back to end with it."""
    if size <= patch:
        return [0]
    step = max(1, int(patch * (1 - overlap)))
    return [*range(0, size - patch, step), size - patch]


def _asker(
    engine: Engine, shape: Sequence[int], patch: Sequence[int], overlap: float
) -> Callable[[np.ndarray], dict[str, Any]]:
    """What gives the logits [b, 1 + n, Y, X] of slices [b, C, Y, X] of `shape` (Y, X): arrays from OpenVINO, tensors
    on its device from any other engine."""
    answer: Callable[[Any], dict[str, Any]] = engine
    place: Callable[[np.ndarray], Any] = np.asarray
    library: Any = np
    if isinstance(engine, OpenVinoEngine):
        answer = engine.arrays
    else:
        import torch

        from .blended import placed

        library, place = torch, partial(placed, device=engine.device)
    margins = margins_of(shape, patch)
    inside = (..., *image_in(margins, shape))

    def alone(slices: np.ndarray) -> dict[str, Any]:
        return {group: logits[inside] for group, logits in answer(place(padded(slices, margins))).items()}

    plane = [max(size, p) for size, p in zip(shape, patch)]
    rows, columns = (window_starts(size, p, overlap) for size, p in zip(plane, patch))
    corners = [(y, x) for y in rows for x in columns]
    if len(corners) == 1:
        return alone
    weight = window_weight(patch, library)
    if library is not np:
        weight = weight.to(engine.device)
    total = _overlaid(weight, corners, plane)[inside]

    def blended(slices: np.ndarray) -> dict[str, Any]:
        sums = _summed(answer, place(padded(slices, margins)), weight, corners=corners)
        return {group: summed[inside] / total for group, summed in sums.items()}

    return blended


def window_weight(patch: Sequence[int], library: Any) -> Any:
    """The weight of each voxel of a window, float32 of shape `patch`: a Gaussian, 1 at the centre.

    library  numpy for an array, torch for a tensor; their exponentials differ in the last bits
    """
    weight = library.ones((), dtype=library.float32)
    for n in patch:
        away = library.arange(n, dtype=library.float32) - (n - 1) / 2
        weight = weight[..., None] * library.exp(-(away**2) / (2 * (SIGMA_SHARE * n) ** 2))
    return weight.clip(min=LEAST_WEIGHT)


def _overlaid(weight: Any, corners: Sequence[tuple[int, int]], plane: Sequence[int]) -> Any:
    """The sum of the weights of all windows in each pixel of a plane [Y, X]."""
    total = _zeros(plane, weight)
    for y, x in corners:
        total[y : y + weight.shape[0], x : x + weight.shape[1]] += weight
    return total


def _summed(
    answer: Callable[[Any], dict[str, Any]], slab: Any, weight: Any, *, corners: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """slab [b, C, Y, X] -> {group: weighted sum of the logits of all windows [b, 1 + n, Y, X]}, all arrays or all
    tensors. The windows at one place, in all b slices, are a batch.

    answer   gives {group: logits [b, 1 + n, y, x]} of windows [b, C, y, x]
    weight   weight of each pixel of a window [y, x]
    corners  (y, x) where windows begin
    """
    sums: dict[str, Any] = {}
    for y, x in corners:
        inside = (..., slice(y, y + weight.shape[0]), slice(x, x + weight.shape[1]))
        for group, logits in answer(slab[inside]).items():
            if group not in sums:
                sums[group] = _zeros((*logits.shape[:2], *slab.shape[2:]), weight)
            summed = sums[group][inside]
            if isinstance(summed, np.ndarray):
                for channel in np.ndindex(logits.shape[:2]):  # a product of all channels would not stay in the cache
                    summed[channel] += logits[channel] * weight
            else:
                summed.addcmul_(logits, weight)  # one kernel on a GPU
    return sums


def _zeros(shape: Sequence[int], like: Any) -> Any:
    """Zeros, float32: an array, or a tensor on the device of one."""
    return np.zeros(shape, dtype=np.float32) if isinstance(like, np.ndarray) else like.new_zeros(tuple(shape))


def margins_of(shape: Sequence[int], patch: Sequence[int]) -> list[tuple[int, int]]:
    """What is missing of a patch before and behind an image of `shape`, along each axis; (0, 0) where it is as long."""
    lacking = [max(0, p - size) for size, p in zip(shape, patch)]
    return [(lack // 2, lack - lack // 2) for lack in lacking]


def image_in(margins: Sequence[tuple[int, int]], shape: Sequence[int]) -> tuple[slice, ...]:
    """Where an image of `shape` lies between its margins."""
    return tuple(slice(before, before + size) for (before, _), size in zip(margins, shape))


def padded(image: np.ndarray, margins: Sequence[tuple[int, int]]) -> np.ndarray:
    """`image` as float32, contiguous, its last axes with `margins` of 0."""
    if not any(map(any, margins)):
        return np.ascontiguousarray(image, dtype=np.float32)
    before = image.ndim - len(margins)
    inside = (slice(None),) * before + image_in(margins, image.shape[before:])
    sizes = [sum(margin) + size for margin, size in zip(margins, image.shape[before:])]
    larger = np.zeros((*image.shape[:before], *sizes), dtype=np.float32)
    larger[inside] = image
    return larger
