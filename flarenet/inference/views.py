"""Slightly changed views of the same scan, and answers brought back.

What all views agree on is unlikely to be chance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import cast

import numpy as np

from ..planning.plan import Augmentation
from ..volume import Triple
from .windows import Slab, window_starts

FARTHEST = 8
"""Voxels by which a scan is moved at most: half a coarsest voxel of a network that halves four times."""


@dataclass(frozen=True)
class View:
    """The image times `scale` plus `shift`, then moved up each axis by `offset` voxels (z, y, x)."""

    scale: float = 1.0
    shift: float = 0.0
    offset: Triple = (0, 0, 0)

    def within(self, shape: Sequence[int], patch: Sequence[int], overlap: float) -> View:
        """This view, moved along the windows' axes only, and so little that an image of `shape` has no more windows.

        An image smaller than the window lies in its middle, so it gets twice the voxels before it to be moved as far.
        """
        whole = len(shape) - len(patch)
        reach = [_reach(*axis, overlap) for axis in zip(self.offset[whole:], shape[whole:], patch)]
        return replace(self, offset=cast(Triple, (*[0] * whole, *reach)))

    def of(self, planes: Iterable[np.ndarray], shape: Triple) -> tuple[Iterable[np.ndarray], Triple]:
        """(planes of the view, their shape), for a prepared image of `shape`, float32 [Y, X] in [0, 1].

        planes  the image, lowest z first; the view that changes nothing takes them in any order
        Voxels that the image is moved away from are 0.
        """
        if self == View():
            return planes, shape
        away, *inside = self.offset
        moved = cast(Triple, tuple(n + more for n, more in zip(shape, self.offset)))
        air = repeat(np.zeros(moved[1:], dtype=np.float32), away)
        seen = (np.pad(self._brightened(plane), [(n, 0) for n in inside]) for plane in planes)
        return chain(air, seen), moved

    def _brightened(self, plane: np.ndarray) -> np.ndarray:
        return np.clip(plane * np.float32(self.scale) + np.float32(self.shift), 0, 1)

    def back(self, slabs: Iterable[Slab]) -> Iterator[Slab]:
        """Slabs of the moved image, brought back to the voxels of the image itself."""
        z, y, x = self.offset
        for start, logits in slabs:
            ahead = max(0, z - start)
            if ahead < next(iter(logits.values())).shape[1]:
                yield max(0, start - z), {group: value[:, ahead:, y:, x:] for group, value in logits.items()}


def view(number: int, augmentation: Augmentation) -> View:
    """The view with a number. View 0 is the scan as it is; every other number has a view of its own, always the same.

    Brightness changes by as much as the network was trained to bear, up and down in turn.
    """
    if number == 0:
        return View()
    draw = np.random.default_rng(number)
    z, y, x = (int(n) for n in draw.integers(FARTHEST // 2, FARTHEST + 1, 3))
    side = (1 if number % 2 else -1) * float(draw.uniform(0.5, 1.0))
    return View(1 + side * augmentation.scale, side * augmentation.shift / 2, (z, y, x))


def _reach(offset: int, size: int, patch: int, overlap: float) -> int:
    if size < patch:
        return min(2 * offset, patch - size)
    windows = len(window_starts(size, patch, overlap))
    return next(n for n in range(offset, -1, -1) if len(window_starts(size + n, patch, overlap)) == windows)
