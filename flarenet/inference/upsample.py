"""From the logits of a network's slices to the slices of the scan, without interpolating most of them.

A slice of the scan lies between two network slices. Its logits are interpolated linearly between these, then along
x, then along y; its label is the best of them, the lower one where two are equal. Outer voxel edges coincide, as with
torch's trilinear interpolation (align_corners=False), whose logits these are up to float rounding.

Linear interpolation never leaves the range of its inputs. So if one label is the best at all eight corners of a cell
(four pixels in each of two network slices), it is the best everywhere inside the cell. Most cells are like that, and on
a CPU only the others are interpolated. The labels are, bit for bit, those of interpolating everything: "the best" here
means the best by more than the rounding errors on the way can make up for (MARGIN). That needs no torch; what gives all
logits is in interpolated.

    slices = [NetworkSlice(logits, size=(512, 512)) for logits in ...]
    labels = labels_between(slices[k], slices[k + 1], share)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

UNSURE = 255
"""Stands for a label in a cell where the best label depends on the place within the cell, or on rounding."""

MARGIN = 2.0**-18
"""How far the best logit must be ahead, as a share of the largest logit. Three interpolations round a logit by at most
9 * 2^-24 of it, two logits together by 2^-19.8."""

AT_ONCE = 1 << 14
"""Pixels that are interpolated at once: so few that their logits stay in the cache."""


@dataclass(frozen=True, eq=False)
class NetworkSlice:
    """One slice of a network's grid, and what is computed of it once for all slices of the scan beside it.

    logits  {group: float32 [1 + n, y, x]}, finite: arrays of numpy, or tensors
    size    (Y, X) of the scan's slices
    """

    logits: Mapping[str, np.ndarray | Tensor]
    size: tuple[int, int]

    @cached_property
    def cells(self) -> dict[str, np.ndarray]:
        """{group: uint8 map of the cells}: the label that is the best all over a cell, or UNSURE. A cell lies between
        neighbouring pixels; where size is that of the logits, each pixel is a cell."""
        return {group: self._cells(_best_by_far(np.asarray(logits))) for group, logits in self.logits.items()}

    def _cells(self, labels: np.ndarray) -> np.ndarray:
        if labels.shape == self.size:
            return labels
        if labels.shape[0] > 1:
            labels = _agreed(labels[:-1], labels[1:])
        if labels.shape[1] > 1:
            labels = _agreed(labels[:, :-1], labels[:, 1:])
        return labels


def labels_between(lower: NetworkSlice, upper: NetworkSlice, share: float) -> dict[str, np.ndarray]:
    """{group: uint8 [Y, X]}, 0 background, 1..n the group's labels, for a slice between two network slices: it is
    `lower` at `share` 0 and `upper` at `share` 1."""
    if getattr(next(iter(lower.logits.values())), "is_cuda", False):  # so fast that looking for cells would cost time
        from .interpolated import labels_on_gpu

        return labels_on_gpu(lower, upper, share)
    between = Mix.of(lower, upper, share)
    return {group: between.labels(group) for group in lower.logits}


@lru_cache(maxsize=64)
def source_slices(count: int, network_count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `count` output slices: (number of the network slice below it, share of the network slice above).

    Outer edges coincide: the centre of output i lies at (i + 0.5) * network_count / count - 0.5, clipped to the slices.
    """
    place = np.clip((np.arange(count) + 0.5) * (network_count / count) - 0.5, 0, network_count - 1)
    below = np.minimum(place.astype(np.int64), max(network_count - 2, 0))
    return below, (place - below).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Mix:
    """One slice of the scan: the one or two network slices that it is made of, and the share of the second."""

    slices: tuple[NetworkSlice, ...]
    share: np.float32

    @classmethod
    def of(cls, lower: NetworkSlice, upper: NetworkSlice, share: float) -> Mix:
        slices = (lower,) if share == 0 else (upper,) if share == 1 else (lower, upper)
        return cls(slices, np.float32(share))

    def labels(self, group: str) -> np.ndarray:
        """The labels of a group, uint8 [Y, X]; on the CPU."""
        first = self.slices[0].cells[group]
        cells = first if len(self.slices) == 1 else _agreed(first, self.slices[1].cells[group])
        height, width = self.slices[0].logits[group].shape[1:]
        (rows, down), (columns, right) = _places(self.slices[0].size, (height, width))
        labels = cells.take(columns, 1).take(rows, 0)
        unsure = np.flatnonzero(labels == UNSURE)
        if unsure.size:
            corners = _Corners.of([np.asarray(each.logits[group]) for each in self.slices], self.share, cells)
            for part in np.split(unsure, range(AT_ONCE, unsure.size, AT_ONCE)):
                y, x = np.divmod(part.astype(np.int32), labels.shape[1])
                labels.reshape(-1)[part] = corners.best_at(rows[y] * cells.shape[1] + columns[x], down[y], right[x])
        return labels


@dataclass(frozen=True, eq=False)
class _Corners:
    """The logits at the corners of the UNSURE cells. Of each cell there are only the channels that can be the best in
    it, which are few: its candidates. All candidates stand in one row, cell by cell, lower channels first.

    logits    four arrays [candidates]: at the upper left, upper right, lower left and lower right
    channels  uint8 [candidates]: their labels
    first     [all cells of the slice]: the first candidate of each UNSURE cell
    count     [all cells of the slice]: how many candidates each UNSURE cell has
    """

    logits: tuple[np.ndarray, ...]
    channels: np.ndarray
    first: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, planes: Sequence[np.ndarray], share: np.float32, cells: np.ndarray) -> _Corners:
        _, height, width = planes[0].shape
        unsure = np.flatnonzero(cells == UNSURE)
        flat = [plane.reshape(len(plane), -1) for plane in planes]
        corners = [
            mixed([plane.take(corner, 1) for plane in flat], share)
            for corner in _corner_pixels(unsure, cells.shape[1], height, width)
        ]
        possible = _possible(*corners)
        cell, channel = np.nonzero(possible.T)
        first, count = np.zeros((2, cells.size), dtype=np.int64)
        count[unsure] = possible.sum(0)
        first[unsure] = np.cumsum(count[unsure]) - count[unsure]
        return cls(tuple(corner[channel, cell] for corner in corners), channel.astype(np.uint8), first, count)

    def best_at(self, cells: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The best labels, uint8 [n], at the places `down` and `right` (0 to 1) within `cells`."""
        best, count = self.first[cells], self.count[cells]
        highest, first = self._between(best, down, right), best.copy()
        for step in range(1, int(count.max())):
            more = np.flatnonzero(count > step)
            rival = first[more] + step
            value = self._between(rival, down[more], right[more])
            higher = value > highest[more]
            highest[more[higher]], best[more[higher]] = value[higher], rival[higher]
        return self.channels[best]

    def _between(self, candidates: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The logits of `candidates`, interpolated at the places `down` and `right` within their cells."""
        a, b, c, d = (corner[candidates] for corner in self.logits)
        return mixed([mixed([a, b], right), mixed([c, d], right)], down)


def _places(size: tuple[int, int], own: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For y and for x: (in which of NetworkSlice.cells each pixel lies, how far, 0 to 1, within it)."""
    if size == own:
        return [(np.arange(count), np.zeros(count, dtype=np.float32)) for count in size]
    return [source_slices(count, network_count) for count, network_count in zip(size, own)]


def _corner_pixels(cells: np.ndarray, across: int, height: int, width: int) -> Iterator[np.ndarray]:
    """The pixels at the upper left, upper right, lower left and lower right of `cells`; a row has `across` cells."""
    row, column = np.divmod(cells, across)
    for y in (row, np.minimum(row + 1, height - 1)):
        for x in (column, np.minimum(column + 1, width - 1)):
            yield y * width + x


def _possible(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """bool [channels, cells]: which channels can be the best in a cell, from the logits [channels, cells] at its
    corners.

    A channel cannot be the best if at each corner it is lower than another channel's lowest corner.
    """
    lowest = np.minimum(np.minimum(a, b), np.minimum(c, d))
    highest = np.maximum(np.maximum(a, b), np.maximum(c, d))
    margin = MARGIN * max(float(highest.max()), -float(lowest.min()))
    return highest >= lowest.max(0) - np.float32(margin)


def _best_by_far(logits: np.ndarray) -> np.ndarray:
    """uint8 [y, x]: label of the highest of the logits [1 + n, y, x]; UNSURE where another is within the margin."""
    highest = logits.max(0)
    margin = MARGIN * max(float(highest.max()), -float(logits.min()))
    least = highest - np.float32(margin)
    label, rivals = np.zeros(least.shape, dtype=np.uint8), np.zeros(least.shape, dtype=np.uint8)
    for index, plane in enumerate(logits):
        near = (plane >= least).view(np.uint8)
        rivals += near
        label += near * np.uint8(index)
    return label | _all_bits(rivals != 1)


def _agreed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The label where both maps have the same, else UNSURE; several times faster than np.where."""
    return one | _all_bits(one != other)


def _all_bits(where: np.ndarray) -> np.ndarray:
    return -where.view(np.uint8)


def mixed(parts: Sequence[Any], share: Any) -> Any:
    """The only part, or the mean of two parts (arrays or tensors), in which the second has the weight `share`.

    Every product and sum is rounded by itself, so a few pixels come out the same as if all were computed.
    """
    return parts[0] if len(parts) == 1 else parts[0] * (1 - share) + parts[1] * share
