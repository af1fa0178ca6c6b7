"""The connected parts of a label map: lesions, or pieces of an organ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy.ndimage import binary_dilation, find_objects

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

    def mm3(self, grid: Grid) -> np.ndarray:
        """The sizes of the parts in mm^3, [1 + n], in a map on `grid`."""
        return self.voxels * grid.voxel_mm3

    def surroundings(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """For each part, from number 1 on: the values of `array` [Z, Y, X] on the part and its 26 neighbours."""
        inside = array[self.box.slices]
        for number, place in enumerate(find_objects(self.number), start=1):
            around = tuple(slice(max(0, axis.start - 1), axis.stop + 1) for axis in place)
            yield inside[around][binary_dilation(self.number[around] == number, np.ones((3, 3, 3)))]

    def touching(self, mask: np.ndarray) -> np.ndarray:
        """Which parts, bool [1 + n], overlap or touch `mask`, bool [Z, Y, X]."""
        return np.array([False, *(values.any() for values in self.surroundings(mask))])

    def paint(self, array: np.ndarray, which: np.ndarray, value: int) -> None:
        """Set `array` [Z, Y, X] to `value` in the parts for which `which`, bool [1 + n], is true."""
        for plane, number in zip(array[self.box.slices], self.number):
            plane[which[number] & (number > 0)] = value


def find_components(label_map: np.ndarray) -> Components:
    """The connected parts of all labels of a uint8 map [Z, Y, X]; HIDDEN is not a label.

    In addition to the map, memory is needed only for the box that holds these labels.
    """

    def labelled(part: np.ndarray) -> np.ndarray:
        return (part > 0) & (part != HIDDEN)

    tight = box_where(labelled(plane) for plane in label_map) or Box((0, 0, 0), (1, 1, 1))
    box = tight.grown((1, 1, 1), label_map.shape)
    labels = label_map[box.slices] * labelled(label_map[box.slices])
    number = cc3d.connected_components(labels, connectivity=26)
    label = np.zeros(int(number.max()) + 1, dtype=np.uint8)
    voxels = np.zeros(len(label), dtype=np.int64)
    for parts, values in zip(number, labels):  # as indices, numbers take eight bytes each
        label[parts] = values
        voxels += np.bincount(parts.ravel(), minlength=len(label))
    return Components(box, number, label, voxels)
