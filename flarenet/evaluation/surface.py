"""Surface Dice and Hausdorff distance, weighted by the area of each surface element.

Definition: Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for radiotherapy",
J Med Internet Res 2021 (arXiv:1809.04430), as in their code surface-distance. A *cell* is a block of 2x2x2
neighbouring voxel centres; its *code* is one bit per corner that lies inside the mask. Every cell with corners
of both kinds carries a *surfel*: a patch of the marching-cubes surface, through the middles of the cut edges.

The distances between two surfaces, which are costly, are computed once; the measures are computed from them.

Distances are exact, in double precision: tolerances are often whole multiples of the spacing, and a distance transform
in single precision would move surfels that lie exactly at the tolerance beyond it. The surfaces compared usually lie
close to each other. So the cells around a surfel are looked up first, fifteen of a row at once, since a cell is one
bit; only surfels without a surfel of the other surface within a few cells are looked up in a k-d tree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import permutations, product
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from ..volume import box_where

Corner = tuple[int, ...]
Corners = frozenset[Corner]
Vectors = tuple[tuple[float, ...], ...]

_REACH = 7
"""How far cells are looked up, in cells along the axis of the finest spacing; beyond it the tree is used. 15 cells of a
row, beginning at any bit of a byte, fit into 32 bits."""

_AT_ONCE = 1 << 16
"""How many surfels are looked up at once, so that the arrays stay in the processor's cache."""

_WORTH_LEAVING = 0.75
"""Rows are searched nearest first. Once fewer than this share of the surfels can still find a nearer neighbour, the
finished ones are dropped from the arrays; above it the copy costs more than it saves."""

_CORNERS: tuple[Corner, ...] = tuple(product((0, 1), repeat=3))

# The patch that cuts a group of edge-connected corners off the rest of its cell, in one placement of each of the
# six shapes such a group can have. A patch is a few flat polygons through edge middles, each given by its area
# vector (normal times area) in eighths of a face of the unit cell. A bent patch ("three in an L", "four in a
# twisted row") could be cut into triangles in other ways, with another area; these cuts are those of the
# published definition.
_PATCHES: tuple[tuple[Corners, Vectors], ...] = (
    (frozenset({(1, 1, 1)}), ((1, 1, 1),)),
    (frozenset({(1, 1, 0), (1, 1, 1)}), ((4, 4, 0),)),
    (frozenset({(1, 0, 1), (1, 1, 0), (1, 1, 1)}), ((4, 0, 0), (3, 3, 3))),
    (frozenset({(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)}), ((8, 0, 0),)),
    (frozenset({(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1)}), ((6, 6, 6),)),
    (frozenset({(0, 1, 1), (1, 1, 1), (1, 1, 0), (1, 0, 0)}), ((4, 4, 4), (0, 2, 2), (2, 0, 2))),
)


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """For every surfel of each surface its area, and the distance to the nearest surfel of the other surface.

    The arrays, float64, are [N] for the truth and [M] for the prediction. An empty mask has no surfels (length 0), and
    the distances to it are infinite. A mask that is not empty may also have length 0, if all its surfels are left out.
    """

    truth_area_mm2: np.ndarray
    truth_distance_mm: np.ndarray
    prediction_area_mm2: np.ndarray
    prediction_distance_mm: np.ndarray

    @property
    def has_surfels(self) -> bool:
        return self.truth_area_mm2.size + self.prediction_area_mm2.size > 0


def surface_distances(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: tuple[float, float, float],
    *,
    ignored: np.ndarray | None = None,
) -> SurfaceDistances:
    """Areas and mutual distances of the surfaces of two boolean masks [Z, Y, X]; `spacing_mm` along z, y, x.

    ignored  bool [Z, Y, X]: voxels that nobody annotated, outside both masks. A surfel whose cell has such a corner is
             left out: the annotation ends there, not necessarily the object. Other surfels are still measured to it
    What lies outside the array counts as background, so an object at the border is closed there.
    """
    masks = [np.packbits(mask, axis=2) for mask in (truth, prediction)]
    unknown = np.zeros_like(masks[0]) if ignored is None else np.packbits(ignored, axis=2)
    box = box_where(masks[0] | masks[1] | unknown)
    if box is None:
        nothing = np.zeros(0)
        return SurfaceDistances(nothing, nothing, nothing, nothing)
    frame = _Frame(box.shape, spacing_mm)
    of_truth, of_prediction = whole = [frame.surface(mask[box.slices]) for mask in masks]
    truth_known, prediction_known = (
        whole if ignored is None else [frame.away_from(surface, unknown[box.slices]) for surface in whole]
    )
    return SurfaceDistances(
        truth_area_mm2=truth_known.area_mm2,
        truth_distance_mm=frame.nearest_mm(truth_known.cells, of_prediction),
        prediction_area_mm2=prediction_known.area_mm2,
        prediction_distance_mm=frame.nearest_mm(prediction_known.cells, of_truth),
    )


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """The share of both surfaces' area that lies within `tolerance_mm` (inclusive) of the other surface.

    No surfels at all, as with both masks empty: 1. Exactly one mask empty: 0.
    """
    area = distances.truth_area_mm2.sum() + distances.prediction_area_mm2.sum()
    if area == 0:
        return 1.0
    within = (
        distances.truth_area_mm2[distances.truth_distance_mm <= tolerance_mm].sum()
        + distances.prediction_area_mm2[distances.prediction_distance_mm <= tolerance_mm].sum()
    )
    return float(within / area)


def hausdorff_mm(distances: SurfaceDistances, percent: float = 95.0) -> float:
    """The distance from the other surface within which `percent` of a surface's area lies, the larger of both ways.

    100 is the Hausdorff distance, 95 the usual HD95. No surfels on either surface, as with both masks empty: 0; on
    exactly one: infinite.
    """
    if distances.truth_area_mm2.size == 0 and distances.prediction_area_mm2.size == 0:
        return 0.0
    if distances.truth_area_mm2.size == 0 or distances.prediction_area_mm2.size == 0:
        return float("inf")
    return max(
        _percentile_mm(distances.truth_distance_mm, distances.truth_area_mm2, percent),
        _percentile_mm(distances.prediction_distance_mm, distances.prediction_area_mm2, percent),
    )


@lru_cache(maxsize=64)
def surfel_areas_mm2(spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """The area of the surfel of each of the 256 cell codes, float64 [256]; `spacing_mm` along z, y, x.

    A code has bit 7 - (4 z + 2 y + x) set where the cell's corner (z, y, x) is inside. Swapping inside and outside does
    not change the area. The component of an area vector along an axis is an area on the face across that axis, so it
    grows with the product of the two other spacings.
    """
    sz, sy, sx = spacing_mm
    face_mm2 = np.array([sy * sx, sz * sx, sz * sy])
    areas = np.array([np.linalg.norm(np.array(_vectors(code)) * face_mm2, axis=1).sum() for code in range(256)])
    areas.setflags(write=False)
    return areas


@cache
def _vectors(code: int) -> Vectors:
    """The area vectors (up to signs) of a code's patches, in faces of the cell; one zero vector for an uncut cell."""
    inside = frozenset(corner for bit, corner in enumerate(_CORNERS) if code >> (7 - bit) & 1)
    fewer = min(inside, frozenset(_CORNERS) - inside, key=len)
    eighths = [vector for group in _connected(fewer) for vector in _placed_patches()[group]]
    return tuple((a / 8, b / 8, c / 8) for a, b, c in eighths) or ((0.0, 0.0, 0.0),)


@cache
def _placed_patches() -> dict[Corners, Vectors]:
    """The patches in all 48 placements of the cube, without the signs of the vectors, which do not change an area."""
    placed = {}
    for (corners, vectors), order, flips in product(_PATCHES, permutations(range(3)), _CORNERS):
        moved = frozenset(tuple(corner[axis] ^ flip for axis, flip in zip(order, flips)) for corner in corners)
        placed[moved] = tuple(tuple(vector[axis] for axis in order) for vector in vectors)
    return placed


def _connected(corners: Corners) -> list[Corners]:
    """`corners` in groups that are connected along edges of the cell."""
    groups: list[Corners] = []
    for corner in corners:
        touching = [g for g in groups if any(sum(a != b for a, b in zip(corner, other)) == 1 for other in g)]
        groups = [g for g in groups if g not in touching] + [frozenset({corner}).union(*touching)]
    return groups


@dataclass(frozen=True, eq=False)
class _Surface:
    """The surfels of a mask in a frame.

    cells     int64 [N], ascending: the indices of the cells that carry a surfel
    area_mm2  float64 [N]: the areas of the surfels
    packed    uint8: a bit for each cell of the frame, set where it carries a surfel
    """

    cells: np.ndarray
    area_mm2: np.ndarray
    packed: np.ndarray


class _Row(NamedTuple):
    """A row of cells along x, as seen from another cell.

    away_mm     the distance of the nearest cell of the row
    step        how many bytes that cell is away from the other one
    lengths_mm  the distances of the cells that are 0 to _REACH steps along x from the nearest one, then infinity, which
                stands for no cell
    """

    away_mm: float
    step: int
    lengths_mm: np.ndarray


class _Frame:
    """A box of voxels with a rim of background on every side, so that surfaces are closed and a step out of the box
    leads to cells without a surfel.

    Voxels and cells are bits, eight to a byte along x, the first in the highest bit. A cell lies at its lowest corner
    and is identified by its index in the flattened frame, so the step to a neighbour is the same everywhere.
    """

    def __init__(self, packed: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
        self.spacing_mm = spacing_mm
        self.near_mm = (_REACH + 1) * min(spacing_mm)
        self.rim = tuple(math.ceil(self.near_mm / step_mm) + 1 for step_mm in spacing_mm[:2])
        depth, height, width = packed
        self.shape = depth + 2 * self.rim[0], height + 2 * self.rim[1], width + 2

    def surface(self, packed: np.ndarray) -> _Surface:
        """The surface of a mask [Z, Y, bytes along X] that fills the box."""
        inside = self._framed(packed)
        cut = self._cut(inside)
        filled = np.flatnonzero(cut)
        set_bits = np.flatnonzero(np.unpackbits(cut[filled]).view(bool))
        at, bit = filled[set_bits >> 3], set_bits & 7
        codes = self._codes(inside, at, bit)
        return _Surface(8 * at + bit, surfel_areas_mm2(self.spacing_mm)[codes], cut)

    def away_from(self, surface: _Surface, packed: np.ndarray) -> _Surface:
        """A surface without the surfels whose cell has a corner inside a mask, which is given as for `surface`."""
        free = self._codes(self._framed(packed), surface.cells >> 3, surface.cells & 7) == 0
        return replace(surface, cells=surface.cells[free], area_mm2=surface.area_mm2[free])

    def _framed(self, packed: np.ndarray) -> np.ndarray:
        """The bits of the voxels of the frame, flat."""
        inside = np.zeros(self.shape, dtype=np.uint8)
        z, y = self.rim
        inside[z:-z, y:-y, 1:-1] = packed
        return inside.ravel()

    def _cut(self, inside: np.ndarray) -> np.ndarray:
        """The bits of the cells, from those of the voxels: set where a cell has corners of both kinds. The last plane,
        which is rim, is left out."""
        next_voxel = inside << 1
        next_voxel[:-1] |= inside[1:] >> 7
        any_inside, all_inside = inside | next_voxel, inside & next_voxel
        for step in self._steps:
            any_inside = any_inside[:-step] | any_inside[step:]
            all_inside = all_inside[:-step] & all_inside[step:]
        return any_inside ^ all_inside

    def _codes(self, inside: np.ndarray, at: np.ndarray, bit: np.ndarray) -> np.ndarray:
        """The codes [N] of the cells at bits `bit` [N] of bytes `at` [N]."""
        pairs, last = _windows(inside, ">u2"), (14 - bit).astype(np.uint16)
        plane, row = self._steps
        codes = np.zeros(len(at), dtype=np.uint16)
        for step in (0, row, plane, plane + row):
            codes <<= 2
            codes |= pairs[step:].take(at) >> last & 3
        return codes

    @property
    def _steps(self) -> tuple[int, int]:
        """How many bytes it is from a cell to the next along z, and along y."""
        return self.shape[1] * self.shape[2], self.shape[2]

    def nearest_mm(self, cells: np.ndarray, other: _Surface) -> np.ndarray:
        """The distance of each of `cells` [N] to the nearest cell of the other surface, float64 [N]."""
        distance_mm = np.full(len(cells), np.inf)
        if len(other.cells) == 0:
            return distance_mm
        windows, rows = _windows(other.packed, ">u4"), self._rows()
        for start in range(0, len(cells), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            distance_mm[part] = _look_up(cells[part], windows, rows)
        far = np.flatnonzero(distance_mm >= self.near_mm)
        if len(far):
            distance_mm[far] = self._by_tree(cells[far], other.cells)
        return distance_mm

    def _rows(self) -> list[_Row]:
        """The rows within `near_mm` of a cell, nearest first."""
        sides = (range(-rim, rim + 1) for rim in self.rim)
        rows = np.array([(z, y, x) for z, y in product(*sides) for x in range(_REACH + 1)])
        lengths_mm = _length_mm(rows, np.array(self.spacing_mm)).reshape(-1, _REACH + 1)
        lengths_mm = np.pad(lengths_mm, ((0, 0), (0, 1)), constant_values=np.inf)
        steps = rows[:: _REACH + 1, :2] @ self._steps
        near = [n for n in np.argsort(lengths_mm[:, 0], kind="stable") if lengths_mm[n, 0] < self.near_mm]
        return [_Row(float(lengths_mm[n, 0]), int(steps[n]), lengths_mm[n]) for n in near]

    def _by_tree(self, from_cells: np.ndarray, to_cells: np.ndarray) -> np.ndarray:
        spacing, (depth, height, width) = np.array(self.spacing_mm), self.shape
        cells = (from_cells, to_cells)
        here, there = (np.stack(np.unravel_index(of, (depth, height, 8 * width)), axis=1) for of in cells)
        # cells come in rows of the frame, already spread evenly: balancing the tree costs more than it saves
        _, nearest = cKDTree(there * spacing, balanced_tree=False, compact_nodes=False).query(here * spacing)
        return _length_mm(here - there[nearest], spacing)


def _look_up(cells: np.ndarray, windows: np.ndarray, rows: Sequence[_Row]) -> np.ndarray:
    """The distance of each of `cells` [N] to the nearest surfel in the rows around it; infinite where there is none.

    windows  the bits of the other surface's cells, see _windows
    """
    nearest_mm, along_x = np.full(len(cells), np.inf), _nearest_along_x()
    left, left_mm, first = np.arange(len(cells)), nearest_mm, cells - _REACH
    at, last = first >> 3, (31 - 2 * _REACH - (first & 7)).astype(np.uint32)
    for row in rows:
        beyond = left_mm > row.away_mm
        if np.count_nonzero(beyond) < _WORTH_LEAVING * len(left):
            nearest_mm[left], kept = left_mm, beyond.nonzero()[0]
            left, left_mm, at, last = left[kept], left_mm[kept], at[kept], last[kept]
        window = windows.take(at + row.step)
        window >>= last
        window &= len(along_x) - 1
        np.minimum(left_mm, row.lengths_mm.take(along_x.take(window)), out=left_mm)
    nearest_mm[left] = left_mm
    return nearest_mm


def _windows(packed: np.ndarray, dtype: str) -> np.ndarray:
    """For every byte, the number of type `dtype` that begins there."""
    size = np.dtype(dtype).itemsize
    windows = np.lib.stride_tricks.sliding_window_view(packed, size).view(dtype)[:, 0]
    return windows.astype(windows.dtype.newbyteorder("="))


@cache
def _nearest_along_x() -> np.ndarray:
    """For each number of 2 * _REACH + 1 bits, how far from its middle bit the nearest set bit is; for 0, _REACH + 1."""
    bits = np.arange(1 << 2 * _REACH + 1)
    nearest = np.full(len(bits), _REACH + 1, dtype=np.uint8)
    for away in range(_REACH, -1, -1):
        nearest[bits & (1 << _REACH - away | 1 << _REACH + away) > 0] = away
    return nearest


def _length_mm(steps: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(steps * spacing_mm).sum(axis=1))


def _percentile_mm(distance_mm: np.ndarray, area_mm2: np.ndarray, percent: float) -> float:
    order = np.argsort(distance_mm)
    share = np.cumsum(area_mm2[order]) / area_mm2.sum()
    at = min(int(np.searchsorted(share, percent / 100)), len(order) - 1)
    return float(distance_mm[order[at]])
