"""The connected parts of a label map: lesions, or pieces of an organ."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np

from ..volume import Box, box_where
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
