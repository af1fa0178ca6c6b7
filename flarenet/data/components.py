"""The connected parts of a label map: lesions, or pieces of an organ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy.ndimage import binary_dilation, find_objects
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..volume import Box, Grid, box_where
from .labels import HIDDEN


@dataclass(frozen=True, eq=False)
class Components:
    """The connected parts (26 neighbours) of the labels of a map, numbered from 1; row 0 stands for none of them.

    box     the part of the map that holds them, and a voxel more on each side where there is one
    number  [z, y, x] in the box     label, voxels  [1 + n]
    """

    box: Box
    number: np.ndarray
    label: np.ndarray
    voxels: np.ndarray

    @property
    def largest(self) -> int:
        """The number of the part of most voxels, the first of equal ones; 0 where there is none."""
        return 1 + int(self.voxels[1:].argmax()) if len(self.voxels) > 1 else 0

    def mm3(self, grid: Grid) -> np.ndarray:
        """[1 + n]: their sizes in a map on `grid`."""
        return self.voxels * grid.voxel_mm3

    def surroundings(self, drawn: np.ndarray) -> Iterator[np.ndarray]:
        """Of each, from number 1: the values that a map [Z, Y, X] has on it and in what touches it (26 neighbours)."""
        inside = drawn[self.box.slices]
        for number, place in enumerate(find_objects(self.number), start=1):
            around = tuple(slice(max(0, axis.start - 1), axis.stop + 1) for axis in place)
            yield inside[around][binary_dilation(self.number[around] == number, np.ones((3, 3, 3)))]

    def touching(self, mask: np.ndarray) -> np.ndarray:
        """bool [1 + n]: which of them overlap or touch a mask, bool [Z, Y, X]."""
        return np.array([False, *(values.any() for values in self.surroundings(mask))])

    def paint(self, drawn: np.ndarray, which: np.ndarray, value: int) -> None:
        """Give `value` to the voxels of a map [Z, Y, X] in those of which `which`, bool [1 + n], says so."""
        for plane, number in zip(drawn[self.box.slices], self.number):
            plane[which[number] & (number > 0)] = value


def find_components(drawn: np.ndarray, only: int | None = None) -> Components:
    """Those of all labels of a uint8 map [Z, Y, X], or of `only` one; HIDDEN is no label.

    Beside the map itself there is memory for the box of what was looked for alone.
    """

    def looked_for(part: np.ndarray) -> np.ndarray:
        return (part > 0) & (part != HIDDEN) if only is None else part == only

    tight = box_where(looked_for(plane) for plane in drawn) or Box((0, 0, 0), (1, 1, 1))
    box = tight.grown((1, 1, 1), drawn.shape)
    labels = drawn[box.slices] * looked_for(drawn[box.slices])
    number = cc3d.connected_components(labels, connectivity=26)
    label = np.zeros(int(number.max()) + 1, dtype=np.uint8)
    voxels = np.zeros(len(label), dtype=np.int64)
    for parts, values in zip(number, labels):  # as indices, numbers take eight bytes each
        label[parts] = values
        voxels += np.bincount(parts.ravel(), minlength=len(label))
    return Components(box, number, label, voxels)


class PartSizes:
    """The sizes of the connected parts (26 neighbours) of a mask that comes slice by slice, each beside the one before.

    Parts of single slices are joined where they touch those of the slice before. There is memory for two slices, and
    for a few numbers of each part of a slice.
    """

    def __init__(self) -> None:
        self._previous: np.ndarray | None = None  # numbers of the parts of the last slice, 0 around it
        self._voxels: list[np.ndarray] = []
        self._touching: list[np.ndarray] = []
        self._count = 0

    def add(self, plane: np.ndarray) -> None:
        """The next slice, bool [Y, X]."""
        if not plane.any():
            self._previous = None
            return
        # as a volume of one slice: of boolean pictures cc3d 4.1 numbers a few pixels of the background too
        number = cc3d.connected_components(plane[None], connectivity=26)[0].astype(np.int64)
        voxels = np.bincount(number.ravel())[1:]
        number[plane] += self._count
        if self._previous is not None:
            self._touching.append(_touching(number, self._previous))
        self._previous = np.pad(number, 1)
        self._voxels.append(voxels)
        self._count += len(voxels)

    def sizes(self) -> list[int]:
        """How many voxels each part has, of all slices so far."""
        if not self._count:
            return []
        one, other = np.concatenate([np.empty((0, 2), dtype=np.int64), *self._touching]).T - 1
        links = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(self._count, self._count))
        count, part = connected_components(links, directed=False)
        return np.bincount(part, np.concatenate(self._voxels), minlength=count).astype(int).tolist()


def _touching(number: np.ndarray, padded: np.ndarray) -> np.ndarray:
    """Which parts of a slice [Y, X] and of the one before, with 0 around it, are neighbours: [n, 2], each pair once."""
    y, x = np.nonzero(number)
    own, base = number[y, x], int(number.max()) + 1
    pairs = set()
    for dy in range(3):
        for dx in range(3):
            other = padded[y + dy, x + dx]
            one = (own * base + other)[other > 0]  # numbers of the slice before are smaller than base
            one = one[np.flatnonzero(np.diff(one, prepend=-1))]  # along a row they are mostly the same
            pairs.update(np.unique(one).tolist())
    return np.stack(np.divmod(np.array(sorted(pairs), dtype=np.int64), base), axis=1)
