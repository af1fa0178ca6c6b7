"""An image and the position of its voxels in the world.

Arrays are [Z, Y, X] everywhere. A Grid's affine maps an index (z, y, x, 1) to RAS+ millimetres, so its first
column is the step along the array's first axis. *Canonical* means RAS: z grows to the head, y to the front,
x to the patient's right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np

Triple = tuple[int, int, int]

_SHEAR_THAT_COUNTS = 1e-3
"""The shear from which axes count as leaning: 0.06 degrees, a voxel in a thousand."""

# world axis of each array axis in canonical order: z -> world 2 (superior), y -> 1 (anterior), x -> 0 (right)
_CANONICAL_WORLD_AXES = (2, 1, 0)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie: `shape` (z, y, x) and `affine` [4, 4], index (z, y, x, 1) -> RAS+ mm."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along z, y, x in mm."""
        z_mm, y_mm, x_mm = (float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))
        return z_mm, y_mm, x_mm

    @property
    def voxel_mm3(self) -> float:
        """The volume of a voxel in mm^3: the product of the spacing, or less where axes lean."""
        z, y, x = self.affine[:3, :3].T
        return float(abs(np.cross(z, y) @ x))

    @property
    def shear(self) -> float:
        """The largest |cosine| between two axes: 0 where all are at right angles."""
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(abs(axes.T @ axes - np.eye(3)).max())

    @property
    def leans(self) -> bool:
        """Whether the axes are so far from right angles that a scan must be resampled first; see upright_grid."""
        return self.shear >= _SHEAR_THAT_COUNTS

    def is_near(self, other: Grid, tolerance_mm: float = 0.1) -> bool:
        """Same shape, and no corner voxel further than `tolerance_mm` from the same voxel of `other`."""
        return self.shape == other.shape and self.largest_distance_mm(other) <= tolerance_mm

    def largest_distance_mm(self, other: Grid) -> float:
        """The largest distance between a corner voxel of this grid and the same voxel of `other`, of the same shape."""
        ends = [(0, n - 1) for n in self.shape]
        corners = np.array([(z, y, x, 1) for z in ends[0] for y in ends[1] for x in ends[2]], dtype=float)
        return float(np.linalg.norm((corners @ (self.affine - other.affine).T)[:, :3], axis=1).max())

    def cropped(self, box: Box) -> Grid:
        """The grid of `data[box.slices]`."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.array(box.start, dtype=float)
        return Grid(box.shape, affine)

    def resampled(self, shape: tuple[int, int, int]) -> Grid:
        """The grid of `shape` voxels that fills the same space: outer voxel *edges* stay where they are."""
        scale = np.array(self.shape, dtype=float) / np.array(shape, dtype=float)
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ ((scale - 1) / 2)
        affine[:3, :3] *= scale
        return Grid(shape, affine)


@dataclass(frozen=True, eq=False)
class Volume:
    """`data` [Z, Y, X] on `grid`."""

    data: np.ndarray
    grid: Grid

    def __post_init__(self) -> None:
        if self.data.shape != self.grid.shape:
            raise ValueError(f"data {self.data.shape} does not fill the grid {self.grid.shape}")


@dataclass(frozen=True)
class Box:
    """A block of voxels: `start` (inclusive) to `stop` (exclusive), both (z, y, x)."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop))

    @property
    def shape(self) -> tuple[int, int, int]:
        return cast(Triple, tuple(b - a for a, b in zip(self.start, self.stop)))

    def grown(self, by: Triple, shape: tuple[int, ...]) -> Box:
        """The box grown by `by` voxels on each side of each axis, clipped to an array of `shape`."""
        start = tuple(max(0, a - more) for a, more in zip(self.start, by))
        stop = tuple(min(b + more, n) for b, more, n in zip(self.stop, by, shape))
        return Box(cast(Triple, start), cast(Triple, stop))


def upright_grid(grid: Grid) -> Grid:
    """`grid` itself where its axes are at right angles, else a right-angled grid that holds every voxel of it.

    The axes are straightened by Gram-Schmidt, the finest first, see _order. So slices that are shifted against each
    other, as by a tilted gantry, are shifted back within their planes, without interpolation between them.
    """
    if not grid.leans:
        return grid
    axes = grid.affine[:3, :3].copy()
    order = _order(grid)
    for number, axis in enumerate(order):
        for kept in order[:number]:
            axes[:, axis] -= axes[:, kept] * (axes[:, axis] @ axes[:, kept]) / (axes[:, kept] @ axes[:, kept])
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape], indexing="ij")).reshape(3, 8)
    reach = np.linalg.solve(axes, grid.affine[:3, :3] @ corners)
    # rounding errors must not add a plane
    first, last = np.floor(reach.min(axis=1) + 1e-3), np.ceil(reach.max(axis=1) - 1e-3)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, grid.affine[:3, 3] + axes @ first
    return Grid(cast(Triple, tuple((last - first + 1).astype(int))), affine)


def _order(grid: Grid) -> list[int]:
    """The order in which axes are straightened; the first keeps its direction.

    That is the order of voxel size, finest first, with one exception: if a step along the second-finest axis also
    moves by more than one voxel along the finest, the second-finest goes first. Otherwise its rows, once straightened,
    would be shifted by several fine voxels, and a label picked half a row off would be wrong by as much.
    """
    first, second, third = sorted(range(3), key=lambda axis: (grid.spacing_mm[axis], -axis))
    fine, coarse = grid.affine[:3, first], grid.affine[:3, second]
    if abs(fine @ coarse) > fine @ fine:
        first, second = second, first
    return [first, second, third]


@dataclass(frozen=True)
class Orientation:
    """How to bring an array to canonical order: transpose by `axes`, then flip the axes for which `flips` is true."""

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, data: np.ndarray) -> np.ndarray:
        """A canonical *view* of `data` [Z, Y, X]; nothing is copied."""
        return data.transpose(self.axes)[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def undo(self, data: np.ndarray) -> np.ndarray:
        """The inverse of apply, again a view."""
        flipped = data[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return flipped.transpose(tuple(int(i) for i in np.argsort(self.axes)))

    def apply_plane(self, plane: np.ndarray) -> np.ndarray:
        """What apply does to each slice [Y, X] of an array whose first axis stays the first one; a view."""
        return self.apply(plane[None]).squeeze(0)

    def undo_plane(self, plane: np.ndarray) -> np.ndarray:
        """The inverse of apply_plane, again a view."""
        return self.undo(plane[None]).squeeze(0)

    def apply_to_grid(self, grid: Grid) -> Grid:
        """The grid of apply(data)."""
        shape = cast(Triple, tuple(grid.shape[axis] for axis in self.axes))
        affine = grid.affine[:, [*self.axes, 3]].copy()
        for axis, flip in enumerate(self.flips):
            if flip:
                affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
                affine[:3, axis] *= -1
        return Grid(shape, affine)

    def apply_to_box(self, box: Box, shape: Triple) -> Box:
        """Where `box`, of data of `shape`, lies in apply(data)."""
        ends = [
            (shape[axis] - box.stop[axis], shape[axis] - box.start[axis]) if flip else (box.start[axis], box.stop[axis])
            for axis, flip in zip(self.axes, self.flips)
        ]
        start, stop = (cast(Triple, corner) for corner in zip(*ends))
        return Box(start, stop)


def orientation_of(grid: Grid) -> Orientation:
    """The Orientation that brings `grid` nearest to canonical; oblique grids go to the nearest axes.

    The assignment of array axes to world axes maximises the sum of |cosines| over all six permutations.
    """
    cosines = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    permutations = [(a, b, 3 - a - b) for a in range(3) for b in range(3) if a != b]
    axes = max(
        permutations,
        key=lambda p: sum(abs(cosines[world, axis]) for world, axis in zip(_CANONICAL_WORLD_AXES, p)),
    )
    flips = tuple(bool(cosines[world, axis] < 0) for world, axis in zip(_CANONICAL_WORLD_AXES, axes))
    return Orientation(axes, cast(tuple[bool, bool, bool], flips))


def canonical(volume: Volume) -> tuple[Volume, Orientation]:
    """`volume` in RAS order (a view of its data) and the Orientation that was applied."""
    orientation = orientation_of(volume.grid)
    return Volume(orientation.apply(volume.data), orientation.apply_to_grid(volume.grid)), orientation


class BoxOf:
    """The smallest box that holds every true voxel of a mask, which is added plane by plane."""

    def __init__(self) -> None:
        self._slices: list[bool] = []
        self._pixels: np.ndarray | None = None

    def add(self, plane: np.ndarray) -> None:
        """Add the next plane of the mask, [Y, X]."""
        if self._pixels is None:
            self._pixels = plane.astype(bool)
        else:
            np.logical_or(self._pixels, plane, out=self._pixels)
        self._slices.append(bool(plane.any()))

    @property
    def box(self) -> Box | None:
        """The box of the planes so far; None where no voxel is true."""
        pixels = self._pixels
        if pixels is None or not any(self._slices):
            return None
        lines = [np.flatnonzero(line) for line in (self._slices, pixels.any(axis=1), pixels.any(axis=0))]
        start, stop = tuple(int(line[0]) for line in lines), tuple(int(line[-1]) + 1 for line in lines)
        return Box(cast(Triple, start), cast(Triple, stop))


def box_where(mask: Iterable[np.ndarray]) -> Box | None:
    """The smallest box that holds every true voxel of `mask`, [Z, Y, X] or an iterable of planes; None if all false."""
    found = BoxOf()
    for plane in mask:
        found.add(plane)
    return found.box


def crop(volume: Volume, box: Box) -> Volume:
    """The part of `volume` inside `box` (a view)."""
    return Volume(volume.data[box.slices], volume.grid.cropped(box))
