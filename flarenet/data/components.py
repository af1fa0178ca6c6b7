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
    """The connected parts (26 neighbours) of the labels of a map, numbered from 1.

    box     the part of the map that holds them, with one voxel more on each side where the map has one
    number  [z, y, x] of the box: the number of each voxel's part, 0 where there is none
    label   uint8 [1 + n]: the label of each part; entry 0 stands for no part
    voxels  [1 + n]: how many voxels each part has
    """

    box: Box
    number: np.ndarray
    label: np.ndarray
    voxels: np.ndarray

    @property
    def largest(self) -> int:
        """The number of the part with the most voxels, of equal ones the first; 0 where there is no part."""
        return 1 + int(self.voxels[1:].argmax()) if len(self.voxels) > 1 else 0

    def mm3(self, grid: Grid) -> np.ndarray:
        """The sizes of the parts in mm^3, [1 + n], in a map on `grid`."""
        return self.voxels * grid.voxel_mm3

    def surroundings(self, drawn: np.ndarray) -> Iterator[np.ndarray]:
        """For each part, from number 1 on: the values of `drawn` [Z, Y, X] on the part and its 26 neighbours."""
        inside = drawn[self.box.slices]
        for number, place in enumerate(find_objects(self.number), start=1):
            around = tuple(slice(max(0, axis.start - 1), axis.stop + 1) for axis in place)
            yield inside[around][binary_dilation(self.number[around] == number, np.ones((3, 3, 3)))]

    def touching(self, mask: np.ndarray) -> np.ndarray:
        """Which parts, bool [1 + n], overlap or touch `mask`, bool [Z, Y, X]."""
        return np.array([False, *(values.any() for values in self.surroundings(mask))])

    def paint(self, drawn: np.ndarray, which: np.ndarray, value: int) -> None:
        """Set `drawn` [Z, Y, X] to `value` in the parts for which `which`, bool [1 + n], is true."""
        for plane, number in zip(drawn[self.box.slices], self.number):
            plane[which[number] & (number > 0)] = value


def find_components(drawn: np.ndarray, only: int | None = None) -> Components:
    """The connected parts of all labels of a uint8 map [Z, Y, X], or of the label `only`; HIDDEN is not a label.

    In addition to the map, memory is needed only for the box that holds these labels.
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
    """The sizes of the connected parts (26 neighbours) of a mask that comes slice by slice, in order.

    The parts of each slice are joined with those of the slice before that they touch. This needs memory for two slices
    and a few numbers for each part of each slice.
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
        """How many voxels each part has in all slices so far."""
        if not self._count:
            return []
        one, other = np.concatenate([np.empty((0, 2), dtype=np.int64), *self._touching]).T - 1
        links = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(self._count, self._count))
        count, part = connected_components(links, directed=False)
        return np.bincount(part, np.concatenate(self._voxels), minlength=count).astype(int).tolist()


def _touching(number: np.ndarray, padded: np.ndarray) -> np.ndarray:
    """Pairs [n, 2], each once, of a part of a slice and a part of the slice before that are neighbours.

    number  [Y, X]: the part of each pixel of the slice
    padded  [Y + 2, X + 2]: the same of the slice before, with 0 around it
    """
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
