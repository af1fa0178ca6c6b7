"""Surface Dice and Hausdorff distance, weighted by the area of each surface element.

Definition: Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for radiotherapy",
J Med Internet Res 2021 (arXiv:1809.04430), as in their code surface-distance. A *cell* is a block of 2x2x2
neighbouring voxel centres; its *code* is one bit per corner that lies inside the mask. Every cell with corners
of both kinds carries a *surfel*: a patch of the marching-cubes surface, through the middles of the cut edges.

The costly fact, the distances between two surfaces, is computed once; the measures are questions asked of it.

Distances are exact, in double precision: tolerances are often whole multiples of the spacing, and a distance transform
in single precision would move such surfels over the limit. Two surfaces to compare lie close to each other, so the
cells around a surfel are looked up in order of their distance, and only what has no other surfel within a few cells
asks a k-d tree. Of 3.2 million surfels (14 labels in 512 x 512 x 500 voxels) this takes 0.9 s,
the tree alone 2.9 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import permutations, product

import numpy as np
from scipy.spatial import cKDTree

from ..volume import box_where

Corner = tuple[int, ...]
Corners = frozenset[Corner]
Vectors = tuple[tuple[float, ...], ...]

_REACH = 4
"""How many cells along each axis around a surfel are looked up before a tree is asked."""

_SLAB_VOXELS = 1 << 18
"""What is worked on at once when codes are computed: it stays in the cache."""

_CORNERS: tuple[Corner, ...] = tuple(product((0, 1), repeat=3))

# The patch that cuts a group of edge-connected corners off the rest of its cell, in one placement of each of the
# six shapes such a group can have. A patch is a few flat polygons through edge middles, each given by its area
# vector (normal times area) in eighths of a face of the unit cell. A bent patch (the last three corners of
# "three in an L", "four in a twisted row") could be cut into triangles in other ways of another area; these
# cuts are the ones of the published definition.
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
    """For every surfel of one surface: its area, and how far the nearest surfel of the other surface is.

    Arrays [N] for the truth and [M] for the prediction, float64. An empty mask has no surfels (length 0), and
    the distances to it are infinite.
    """

    truth_area_mm2: np.ndarray
    truth_distance_mm: np.ndarray
    prediction_area_mm2: np.ndarray
    prediction_distance_mm: np.ndarray


def surface_distances(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float, float]
) -> SurfaceDistances:
    """Areas and mutual distances of the surfaces of two boolean masks [Z, Y, X]; `spacing_mm` along z, y, x.

    What lies outside the array counts as background, so an object at the border is closed there.
    """
    box = box_where(truth | prediction)
    if box is None:
        nothing = np.zeros(0)
        return SurfaceDistances(nothing, nothing, nothing, nothing)
    frame = _Frame(box.shape, spacing_mm)
    truth_at, truth_area = frame.surfels(truth[box.slices])
    prediction_at, prediction_area = frame.surfels(prediction[box.slices])
    return SurfaceDistances(
        truth_area_mm2=truth_area,
        truth_distance_mm=frame.nearest_mm(truth_at, prediction_at),
        prediction_area_mm2=prediction_area,
        prediction_distance_mm=frame.nearest_mm(prediction_at, truth_at),
    )


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """The share of both surfaces' area that lies within `tolerance_mm` (inclusive) of the other surface.

    Both masks empty: 1. Exactly one empty: 0.
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
    """The distance within which `percent` of each surface's area lies from the other: the larger of both ways.

    100 is the Hausdorff distance, 95 the usual HD95. Both masks empty: 0. Exactly one empty: infinite.
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

    A code has bit 7 - (4 z + 2 y + x) set where the cell's corner (z, y, x) is inside. Inside and outside may be
    swapped without changing the area. A vector's part along an axis is an area on the face across that axis, so it
    grows with the product of the two other spacings.
    """
    sz, sy, sx = spacing_mm
    face_mm2 = np.array([sy * sx, sz * sx, sz * sy])
    areas = np.array([np.linalg.norm(np.array(_vectors(code)) * face_mm2, axis=1).sum() for code in range(256)])
    areas.setflags(write=False)
    return areas


@cache
def _vectors(code: int) -> Vectors:
    """The area vectors (up to signs) of a code's patches, in faces of the cell; one of length 0 where uncut."""
    inside = frozenset(corner for bit, corner in enumerate(_CORNERS) if code >> (7 - bit) & 1)
    fewer = min(inside, frozenset(_CORNERS) - inside, key=len)
    eighths = [vector for group in _connected(fewer) for vector in _placed_patches()[group]]
    return tuple((a / 8, b / 8, c / 8) for a, b, c in eighths) or ((0.0, 0.0, 0.0),)


@cache
def _placed_patches() -> dict[Corners, Vectors]:
    """The patches in all 48 placements of the cube; signs of vectors are left out, as no area depends on them."""
    placed = {}
    for (corners, vectors), order, flips in product(_PATCHES, permutations(range(3)), _CORNERS):
        moved = frozenset(tuple(corner[axis] ^ flip for axis, flip in zip(order, flips)) for corner in corners)
        placed[moved] = tuple(tuple(vector[axis] for axis in order) for vector in vectors)
    return placed


def _connected(corners: Corners) -> list[Corners]:
    """`corners` taken apart into groups that hang together along edges of the cell."""
    groups: list[Corners] = []
    for corner in corners:
        touching = [g for g in groups if any(sum(a != b for a, b in zip(corner, other)) == 1 for other in g)]
        groups = [g for g in groups if g not in touching] + [frozenset({corner}).union(*touching)]
    return groups


class _Frame:
    """The cells of a box of voxels, which is closed at its border, with a rim of `_REACH` cells that are never cut.

    A cell is known by its index into the flattened frame; so a step to another cell is the same number everywhere.
    """

    def __init__(self, voxels: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
        self.spacing_mm = spacing_mm
        self.shape = tuple(n + 1 + 2 * _REACH for n in voxels)

    def surfels(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices int [N], rising, and areas float64 [N] of the surfels of a mask of the box, by a few slices."""
        _, height, width = self.shape
        rows, columns = mask.shape[1] + 2, mask.shape[2] + 2
        deep = max(1, _SLAB_VOXELS // (rows * columns))
        found, codes = [], []
        for lowest in range(-1, len(mask), deep):
            voxels = np.zeros((min(deep, len(mask) - lowest) + 1, rows, columns), dtype=np.uint8)
            inside = mask[max(lowest, 0) : lowest + len(voxels)]
            voxels[max(-lowest, 0) :][: len(inside), 1:-1, 1:-1] = inside
            code = _codes(voxels)
            cut = np.flatnonzero(code + np.uint8(1) > 1)  # 255 + 1 is 0: neither all outside nor all inside
            z, y, x = np.unravel_index(cut, code.shape)
            found.append(((z + lowest + 1 + _REACH) * height + y + _REACH) * width + x + _REACH)
            codes.append(code.ravel()[cut])
        return np.concatenate(found), surfel_areas_mm2(self.spacing_mm)[np.concatenate(codes)]

    def nearest_mm(self, from_cells: np.ndarray, to_cells: np.ndarray) -> np.ndarray:
        """The distance of each of `from_cells` [N] to the nearest of `to_cells` [M], float64 [N]."""
        distance_mm = np.full(len(from_cells), np.inf)
        if len(to_cells) == 0:
            return distance_mm
        there = np.zeros(math.prod(self.shape), dtype=bool)
        there[to_cells] = True
        left, cells = np.arange(len(from_cells)), from_cells - self._lowest
        for ring_mm, steps in self._rings():
            hit = there[self._lowest + steps[0] :].take(cells)
            for step in steps[1:]:
                hit |= there[self._lowest + step :].take(cells)
            distance_mm[left[hit]] = ring_mm
            left, cells = left[~hit], cells[~hit]
        if len(left):
            distance_mm[left] = self._by_tree(from_cells[left], to_cells)
        return distance_mm

    @property
    def _lowest(self) -> int:
        """The index of the first cell that is not of the rim."""
        _, height, width = self.shape
        return _REACH * (height * width + width + 1)

    def _rings(self) -> list[tuple[float, list[int]]]:
        """(distance, steps to the cells that are so far away) up to the nearest cell out of `_REACH`, nearest first."""
        triples = np.array(list(product(range(-_REACH, _REACH + 1), repeat=3)))
        lengths_mm = _length_mm(triples, np.array(self.spacing_mm))
        steps = triples @ (self.shape[1] * self.shape[2], self.shape[2], 1)
        near_mm = np.unique(lengths_mm[lengths_mm < (_REACH + 1) * min(self.spacing_mm)])
        return [(float(ring_mm), steps[lengths_mm == ring_mm].tolist()) for ring_mm in near_mm]

    def _by_tree(self, from_cells: np.ndarray, to_cells: np.ndarray) -> np.ndarray:
        spacing = np.array(self.spacing_mm)
        here, there = (np.stack(np.unravel_index(cells, self.shape), axis=1) for cells in (from_cells, to_cells))
        # cells come in rows of the frame, already spread evenly: balancing the tree costs more than it saves
        _, nearest = cKDTree(there * spacing, balanced_tree=False, compact_nodes=False).query(here * spacing)
        return _length_mm(here - there[nearest], spacing)


def _codes(voxels: np.ndarray) -> np.ndarray:
    """The codes of the cells between voxels of 0 and 1 (uint8), one cell less along each axis than there are voxels."""
    along_x = voxels[:, :, :-1] << 1 | voxels[:, :, 1:]
    along_y = along_x[:, :-1] << 2 | along_x[:, 1:]
    return along_y[:-1] << 4 | along_y[1:]


def _length_mm(steps: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(steps * spacing_mm).sum(axis=1))


def _percentile_mm(distance_mm: np.ndarray, area_mm2: np.ndarray, percent: float) -> float:
    order = np.argsort(distance_mm)
    share = np.cumsum(area_mm2[order]) / area_mm2.sum()
    at = min(int(np.searchsorted(share, percent / 100)), len(order) - 1)
    return float(distance_mm[order[at]])
