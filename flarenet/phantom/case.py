"""One phantom case: a random anatomy, smoothly deformed, sampled on a grid, blurred and with noise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from ..volume import Grid, Orientation, Volume
from .anatomy import BODY_RADII_MM, HOSTS, LABELS, ORGANS, SURROUNDINGS, TISSUES, Ellipsoid, Point, Tube

TUMOUR = LABELS.names.index("tumor")
_PALETTE = [*LABELS.names, *(name for name in TISSUES if name not in LABELS.names)]
_VALUE = {name: value for value, name in enumerate(_PALETTE)}

_SLAB_VOXELS = 1 << 20  # an anatomy is sampled this many voxels at a time, so that large cases stay within memory
_SPACING_Z_MM = (2.5, 3.0, 4.0, 5.0)
_ORIENTATIONS = (
    Orientation(),  # RAS
    Orientation(flips=(False, False, True)),  # LAS
    Orientation(flips=(False, True, True)),  # LPS
    Orientation(axes=(1, 0, 2), flips=(False, True, True)),  # LIA: a coronal scan
)


@dataclass(frozen=True)
class Phantom:
    """One phantom; its arrays are [Z, Y, X] on the grid of `image`.

    image    int16, HU
    organs   uint8, the organs as they would be without tumours
    tumours  bool
    """

    image: Volume
    organs: np.ndarray
    tumours: np.ndarray

    @property
    def truth(self) -> Volume:
        """Every label: tumours over organs."""
        return self.labels(LABELS.values)

    def labels(self, annotated: Iterable[int]) -> Volume:
        """The label map, uint8, of an annotator who labels only `annotated`.

        Where tumours are not annotated, the organ is labelled through them.
        """
        looked_for = set(annotated)
        label_map = np.where(np.isin(self.organs, list(looked_for)), self.organs, 0).astype(np.uint8)
        if TUMOUR in looked_for:
            label_map[self.tumours] = TUMOUR
        return Volume(label_map, self.image.grid)


def phantom_case(seed: int, index: int, *, detail: float = 1.0) -> Phantom:
    """Case `index` of the set `seed`; the same two numbers always give the same case.

    detail  every spacing is divided by it: 1 gives about 90 x 70 x 50 voxels, 6 about 540 x 420 x 300; the anatomy is
            the same
    """
    rng = np.random.default_rng([seed, index])
    anatomy = _draw_anatomy(rng)
    grid = _draw_grid(rng, detail)
    orientation = _ORIENTATIONS[rng.integers(len(_ORIENTATIONS))]
    tissue, tumours = _sample(anatomy, grid)
    hu = _scan(tissue, tumours, anatomy, grid, rng)
    organs = np.where(tissue < TUMOUR, tissue, 0).astype(np.uint8)
    scanned = orientation.apply_to_grid(_shifted(grid, anatomy.offset_mm))
    return Phantom(
        Volume(np.ascontiguousarray(orientation.apply(hu)), scanned),
        np.ascontiguousarray(orientation.apply(organs)),
        np.ascontiguousarray(orientation.apply(tumours > 0)),
    )


@dataclass(frozen=True)
class _Tumour:
    host: int
    blob: Ellipsoid
    contrast_hu: float


@dataclass(frozen=True)
class _Anatomy:
    """One patient in atlas coordinates.

    bodies        (organ, its shapes), in drawing order
    surroundings  (tissue, shape) of everything without a label, in drawing order
    waves         (vector per mm, phase, shift in mm) of each wave of the smooth deformation
    size          the patient's size relative to the atlas
    hu            HU by palette value
    offset_mm     position of the atlas's origin in the world
    """

    bodies: tuple[tuple[str, tuple[Ellipsoid | Tube, ...]], ...]
    surroundings: tuple[tuple[str, Ellipsoid | Tube], ...]
    tumours: tuple[_Tumour, ...]
    waves: tuple[tuple[np.ndarray, float, np.ndarray], ...]
    size: float
    hu: np.ndarray
    offset_mm: np.ndarray


def _draw_anatomy(rng: np.random.Generator) -> _Anatomy:
    bodies = {name: tuple(_varied(shape, rng) for shape in shapes) for name, shapes in ORGANS.items()}
    absent = rng.random(2)
    if absent[0] < 0.08:  # removed, or never there: an annotated label need not be present
        del bodies["gallbladder"]
    if absent[1] < 0.03:
        del bodies["right kidney"]
    loops = tuple(("bowel", _bowel_loop(rng)) for _ in range(9))
    waves = tuple(_wave(rng) for _ in range(6))
    return _Anatomy(
        tuple(bodies.items()),
        loops + SURROUNDINGS,
        _draw_tumours(bodies, rng),
        waves,
        rng.uniform(0.93, 1.07),
        _draw_hu(rng),
        np.append(rng.uniform(-60, 60, size=2), rng.uniform(-900, 200)),
    )


def _varied(shape: Ellipsoid | Tube, rng: np.random.Generator) -> Ellipsoid | Tube:
    shift, scale = rng.normal(0, 3.5, size=3).clip(-8, 8), rng.normal(1, 0.08, size=3).clip(0.8, 1.2)
    if isinstance(shape, Tube):
        points = tuple(_point(np.array(point) + shift) for point in shape.points)
        return replace(shape, points=points, radius=shape.radius * float(scale[0]))
    return Ellipsoid(_point(np.array(shape.centre) + shift), _point(np.array(shape.radii) * scale))


def _point(values: np.ndarray) -> Point:
    return (float(values[0]), float(values[1]), float(values[2]))


def _bowel_loop(rng: np.random.Generator) -> Tube:
    start = rng.uniform((-70, 10, -110), (70, 70, -40))
    return Tube((_point(start), _point(start + rng.normal(0, 28, size=3))), float(rng.uniform(12, 17)))


def _wave(rng: np.random.Generator) -> tuple[np.ndarray, float, np.ndarray]:
    direction = rng.normal(size=3)
    per_mm = 2 * np.pi / rng.uniform(140, 300) * direction / np.linalg.norm(direction)
    return per_mm, float(rng.uniform(0, 2 * np.pi)), rng.normal(0, 2.5, size=3).clip(-5, 5)


def _draw_tumours(bodies: dict[str, tuple[Ellipsoid | Tube, ...]], rng: np.random.Generator) -> tuple[_Tumour, ...]:
    """No tumours in one case of eight, else one to three, less those whose organ is absent."""
    count = 0 if rng.random() < 0.125 else int(rng.integers(1, 4))
    hosts, shares = list(HOSTS), np.array([share for share, _, _ in HOSTS.values()])
    tumours = []
    for name in rng.choice(hosts, size=count, p=shares / shares.sum()):
        _, smallest, largest = HOSTS[name]
        radii = rng.uniform(smallest, largest) * rng.uniform(0.8, 1.2, size=3)
        contrast_hu = -rng.uniform(45, 75)  # lesions of these organs enhance less in the portal phase
        if name in bodies:
            shape = bodies[name][rng.integers(len(bodies[name]))]
            blob = Ellipsoid(_point(shape.point_inside(rng)), _point(radii))
            tumours.append(_Tumour(_VALUE[name], blob, contrast_hu))
    return tuple(tumours)


def _draw_hu(rng: np.random.Generator) -> np.ndarray:
    """HU by palette value, for one patient and one phase of contrast medium."""
    phase = rng.uniform(0.45, 1.15)
    hu = np.zeros(len(_PALETTE), dtype=np.float32)
    for name, tissue in TISSUES.items():
        hu[_VALUE[name]] = tissue.plain_hu + tissue.enhancement_hu * phase * rng.uniform(0.85, 1.15) + rng.normal(0, 4)
    hu[0] = hu[_VALUE["fat"]]
    hu[_VALUE["left kidney"]] = hu[_VALUE["right kidney"]]
    return hu


def _draw_grid(rng: np.random.Generator, detail: float) -> Grid:
    """A canonical grid centred on the atlas's origin."""
    in_plane_mm = rng.uniform(3.5, 4.0)
    spacing_mm = np.array([rng.choice(_SPACING_Z_MM), in_plane_mm, in_plane_mm]) / detail
    extent_mm = np.array([rng.uniform(185, 215), 250.0, 336.0])
    shape = np.maximum(np.round(extent_mm / spacing_mm), 8).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing_mm)[:, ::-1].T  # column 0, the step along z, points along world axis 2
    affine[:3, 3] = (-(shape - 1) / 2 * spacing_mm)[::-1] + (0, 0, rng.uniform(-6, 10))
    return Grid(tuple(shape), affine)


def _shifted(grid: Grid, offset_mm: np.ndarray) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] += offset_mm
    return Grid(grid.shape, affine)


def _sample(anatomy: _Anatomy, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The palette value of each voxel and the number of its tumour, from 1 (0: none), both uint8 [Z, Y, X]; sampled one
    slab of slices at a time."""
    tissue, tumours = np.zeros(grid.shape, dtype=np.uint8), np.zeros(grid.shape, dtype=np.uint8)
    height = max(1, _SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], height):
        slab = slice(start, min(start + height, grid.shape[0]))
        _sample_slab(anatomy, grid, slab, tissue[slab], tumours[slab])
    return tissue, tumours


def _sample_slab(anatomy: _Anatomy, grid: Grid, slab: slice, tissue: np.ndarray, tumours: np.ndarray) -> None:
    straight = _world_points(grid, slab) / np.float32(anatomy.size)
    points = straight.copy()
    for per_mm, phase, shift_mm in anatomy.waves:
        swing = np.sin(np.einsum("i...,i->...", straight, per_mm.astype(np.float32)) + np.float32(phase))
        points += shift_mm.astype(np.float32).reshape(3, 1, 1, 1) * swing
    _draw_trunk(points, anatomy, tissue)
    for name, shapes in anatomy.bodies:
        for shape in shapes:
            tissue[shape.depth(points) < 0] = _VALUE[name]
    for number, tumour in enumerate(anatomy.tumours, start=1):  # a tumour stays in its host, or bulges into fat
        tumours[(tumour.blob.depth(points) < 0) & np.isin(tissue, (tumour.host, _VALUE["fat"]))] = number


def _world_points(grid: Grid, slab: slice) -> np.ndarray:
    """The RAS coordinates (x, y, z), float32 [3, z, Y, X] in mm, of the voxels in a slab of a canonical grid."""
    z, y, x = (
        grid.affine[world, axis] * np.arange(n) + grid.affine[world, 3]
        for axis, (world, n) in enumerate(zip((2, 1, 0), grid.shape))
    )
    return np.stack(np.broadcast_arrays(x[None, None, :], y[None, :, None], z[slab, None, None])).astype(np.float32)


def _draw_trunk(points: np.ndarray, anatomy: _Anatomy, tissue: np.ndarray) -> None:
    """Draw air, fat, the muscle of the abdominal wall, ribs and everything else without a label."""
    x, y, z = points
    radius = np.sqrt((x / BODY_RADII_MM[0]) ** 2 + (y / BODY_RADII_MM[1]) ** 2)
    tissue[...] = _VALUE["fat"]
    for name, shape in anatomy.surroundings:
        tissue[shape.depth(points) < 0] = _VALUE[name]
    tissue[(radius > 0.84) & (radius < 0.93)] = _VALUE["muscle"]
    # ribs slope down to the front, one every 30 mm
    rib = (np.abs(radius - 0.885) < 0.025) & (np.sin((z + 0.4 * y) * (2 * np.pi / 30)) > 0.45) & (z > -10)
    tissue[rib] = _VALUE["bone"]
    tissue[(radius >= 0.93) & (radius <= 1)] = _VALUE["fat"]
    tissue[radius > 1] = _VALUE["air"]


def _scan(
    tissue: np.ndarray, tumours: np.ndarray, anatomy: _Anatomy, grid: Grid, rng: np.random.Generator
) -> np.ndarray:
    """The scan, int16 HU: the tissues with texture, blurred as by a scanner (sd 1.8 mm), with correlated noise."""
    hu = anatomy.hu[tissue]
    for number, tumour in enumerate(anatomy.tumours, start=1):
        hu[tumours == number] = anatomy.hu[tumour.host] + tumour.contrast_hu
    soft = hu > -300
    hu[soft] += _noise(grid, rng, 5.0)[soft] * 5.0
    hu = gaussian_filter(hu, [1.8 / mm for mm in grid.spacing_mm])
    hu += _noise(grid, rng, 1.6) * rng.uniform(8, 16)
    return np.round(hu).clip(-1024, 3071).astype(np.int16)


def _noise(grid: Grid, rng: np.random.Generator, blur_mm: float) -> np.ndarray:
    """Noise, float32 [Z, Y, X], with standard deviation 1, correlated over about `blur_mm`."""
    noise = gaussian_filter(rng.standard_normal(grid.shape, dtype=np.float32), [blur_mm / mm for mm in grid.spacing_mm])
    return noise / noise.std()
