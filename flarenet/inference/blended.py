"""Blocks that overlap, run by an engine and blended. See windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat

import numpy as np
import torch
from torch import Tensor

from ..preparation.passing import Passing
from ..volume import Triple
from .engines.engine import Engine
from .windows import Slab, image_in, margins_of, padded, window_starts, window_weight


def blocks(
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
    (below, above), *margins = margins_of(shape, patch)
    rows_in, columns_in = image_in(margins, shape[1:])
    air = np.zeros(shape[1:], dtype=np.float32)
    passing = Passing(chain(repeat(air, below), planes, repeat(air, above)), depth)
    starts = window_starts(depth, patch[0], overlap)
    row = _Row(patch, plane, overlap=overlap, device=engine.device)
    for start, after in zip(starts, [*starts[1:], depth]):
        layer = placed(padded(np.stack(passing.between(start, start + patch[0])), margins), engine.device)
        row.add(engine, layer, batch_size)
        for z, final in enumerate(row.take(after - start), start - below):
            if 0 <= z < shape[0]:
                yield z, {group: value[..., rows_in, columns_in] for group, value in final.items()}


class _Row:
    """The weighted sums of logits over a layer of the image, as high as the patch and as wide as the image."""

    def __init__(
        self, patch: tuple[int, ...], plane: Sequence[int], *, overlap: float, device: torch.device | str
    ) -> None:
        self.patch = patch
        self.places = [
            (..., slice(y, y + patch[1]), slice(x, x + patch[2]))
            for y in window_starts(plane[0], patch[1], overlap)
            for x in window_starts(plane[1], patch[2], overlap)
        ]
        self.weight = window_weight(patch, torch).to(device)
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


def placed(image: np.ndarray, device: torch.device | str) -> Tensor:
    """`image` as a tensor on `device`."""
    tensor = torch.from_numpy(image)
    # from page-locked memory a GPU copies by itself; for other memory the caller waits until earlier work is done
    return tensor.pin_memory().to(device, non_blocking=True) if "cuda" in str(device) else tensor
