"""The connected parts of label maps that come slice by slice, in memory that does not grow with the planes.

Within a slice the parts of labels are called pieces here. Pieces of neighbouring slices that touch are of one part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True, eq=False)
class Parts:
    """The connected parts (26 neighbours) of the labels of one or several maps.

    They are numbered from 1, by their first voxels: lowest z first, then y, then x. Entry 0 of each array of length
    1 + n stands for no part.

    label     uint8 [1 + n]: the label of each part
    voxels    [1 + n]: how many voxels each part has
    touching  [m, 2]: pairs of parts of different labels that overlap or touch
    """

    label: np.ndarray
    voxels: np.ndarray
    touching: np.ndarray
    _of_piece: np.ndarray
    _before: Mapping[tuple[int, str], int]

    def of_pixels(self, z: int, name: str, plane: np.ndarray) -> np.ndarray:
        """The number of each pixel's part, [Y, X], 0 where there is none, in slice `z` of the map `name`.

        plane  the slice as it was added
        """
        piece = _pieces(plane)
        piece[piece > 0] += self._before[z, name]
        return self._of_piece[piece]


class PartsBySlice:
    """Finds the Parts of maps whose slices are added one after the other, each next to the one before.

    Kept are the pieces of the last slice and a few numbers for each piece of every slice.
    touching  pairs of names of maps: it is wanted too which of their parts overlap or touch
    """

    def __init__(self, touching: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(touching)
        self._last: dict[str, np.ndarray] = {}
        self._before: dict[tuple[int, str], int] = {}
        self._count = 0
        # of each piece: its label, its voxels, and its place in the order of first voxels
        self._pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._contacts: list[np.ndarray] = []

    def add(self, z: int, planes: Mapping[str, np.ndarray]) -> None:
        """The next slice.

        planes  {name: uint8 [Y, X]}: the labels whose parts are looked for, else 0. No label is in two maps
        """
        numbers = {name: self._numbered(z, name, plane) for name, plane in planes.items()}
        last = self._last or {name: np.zeros_like(number) for name, number in numbers.items()}
        pairs = [(number, last[name]) for name, number in numbers.items()]
        for one, other in self._pairs:
            pairs += [(numbers[one], numbers[other]), (numbers[one], last[other]), (last[one], numbers[other])]
        self._contacts += [_contacts(*pair) for pair in pairs]
        self._last = numbers

    def _numbered(self, z: int, name: str, plane: np.ndarray) -> np.ndarray:
        """The number of each pixel's piece, uint32 [Y, X], from 1 over all slices and maps; 0 where there is none."""
        piece = _pieces(plane)
        inside = piece > 0
        voxels = np.bincount(piece[inside])[1:]
        label = np.zeros(len(voxels), dtype=np.uint8)
        label[piece[inside] - 1] = plane[inside]
        self._pieces.append((label, voxels, z * plane.size + np.arange(len(voxels))))
        self._before[z, name] = self._count
        piece[inside] += self._count
        self._count += len(voxels)
        return piece

    def joined(self) -> Parts:
        """The parts of all slices so far."""
        nothing = np.zeros(0, dtype=np.int64)
        pieces = [(nothing, nothing, nothing), *self._pieces]
        label, voxels, order = (np.concatenate(of_all) for of_all in zip(*pieces))
        one, other = np.concatenate([np.zeros((0, 2), dtype=np.int64), *self._contacts]).T - 1
        same = label[one] == label[other]
        links = coo_array((np.ones(same.sum(), dtype=bool), (one[same], other[same])), shape=(len(label), len(label)))
        count, part = connected_components(links, directed=False) if len(label) else (0, nothing)
        first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(first, part, order)
        of_piece = np.concatenate([[0], 1 + np.argsort(np.argsort(first, kind="stable"))[part]])
        of_part = np.zeros(1 + count, dtype=np.uint8)
        of_part[of_piece[1:]] = label
        size = np.bincount(of_piece[1:], voxels, minlength=1 + count).astype(np.int64)
        touching = np.unique(of_piece[1:][np.stack([one, other], axis=1)[~same]], axis=0)
        return Parts(of_part, size, touching, of_piece, dict(self._before))


def _pieces(plane: np.ndarray) -> np.ndarray:
    """The number of each pixel's piece in its slice, uint32 [Y, X], by the pieces' first pixels; 0 where there is none.

    It is the same whenever it is asked for the same slice.
    """
    # as a volume of one slice: of pictures cc3d 4.1 numbers a few pixels of the background too
    return cc3d.connected_components(plane[None], connectivity=26)[0].astype(np.uint32)


def _contacts(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pairs [n, 2] of the pieces that are neighbours where two numbered planes [Y, X] lie on or beside each other."""
    lines = [np.flatnonzero(line) for line in (one.any(1) | other.any(1), one.any(0) | other.any(0))]
    if not len(lines[0]):
        return np.zeros((0, 2), dtype=np.int64)
    rows, columns = (slice(line[0], line[-1] + 1) for line in lines)
    pairs = cc3d.region_graph(np.stack([one[rows, columns], other[rows, columns]]), connectivity=26)
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
