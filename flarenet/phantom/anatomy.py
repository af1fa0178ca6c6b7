"""The organs and tissues of a phantom as data: positions, sizes and intensities.

Atlas coordinates are (x, y, z) in mm, RAS: x to the patient's right, y to the front, z to the head, (0, 0, 0) in the
middle of the trunk at the height of the first lumbar vertebra. Positions and sizes are rounded from anatomy; they make
a plausible picture, not an atlas to measure in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.layouts.flare import FLARE23

Point = tuple[float, float, float]

LABELS = FLARE23


@dataclass(frozen=True)
class Ellipsoid:
    centre: Point
    radii: Point

    def depth(self, points: np.ndarray) -> np.ndarray:
        """The depth [...] of `points` [3, ...] in mm: below 0 inside, 0 on the surface, 1 a radius outside."""
        scaled = (points - _column(self.centre, points)) / _column(self.radii, points)
        return np.sqrt(np.einsum("i...,i...->...", scaled, scaled)) - 1

    def point_inside(self, rng: np.random.Generator) -> np.ndarray:
        """A random point within 60 % of the radii."""
        direction = rng.normal(size=3)
        return np.array(self.centre) + 0.6 * rng.random() * np.array(self.radii) * direction / np.linalg.norm(direction)


@dataclass(frozen=True)
class Tube:
    """All points within `radius` of the line through `points`."""

    points: tuple[Point, ...]
    radius: float

    def depth(self, points: np.ndarray) -> np.ndarray:
        """As Ellipsoid.depth."""
        nearest = np.full(points.shape[1:], np.inf, dtype=points.dtype)
        for start, end in zip(np.array(self.points[:-1]), np.array(self.points[1:])):
            along = end - start
            offset = points - _column(start, points)
            share = np.einsum("i...,i->...", offset, (along / (along @ along)).astype(points.dtype)).clip(0, 1)
            offset -= _column(along, points) * share
            np.minimum(nearest, np.einsum("i...,i...->...", offset, offset), out=nearest)
        return np.sqrt(nearest) / self.radius - 1

    def point_inside(self, rng: np.random.Generator) -> np.ndarray:
        """A random point on the line."""
        piece = rng.integers(len(self.points) - 1)
        start, end = np.array(self.points[piece]), np.array(self.points[piece + 1])
        return start + rng.random() * (end - start)


def _column(values: Point | np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=points.dtype).reshape(3, *[1] * (points.ndim - 1))


@dataclass(frozen=True)
class Tissue:
    """HU without contrast medium, and the HU that the full portal-venous phase adds."""

    plain_hu: float
    enhancement_hu: float


TISSUES = {
    "air": Tissue(-1000, 0), "fat": Tissue(-105, 0), "muscle": Tissue(50, 12), "bone": Tissue(260, 20),
    "lung": Tissue(-820, 0), "heart": Tissue(42, 90), "bowel": Tissue(32, 38), "gas": Tissue(-850, 0),
    "liver": Tissue(55, 50), "right kidney": Tissue(33, 115), "left kidney": Tissue(33, 115), "spleen": Tissue(48, 65),
    "pancreas": Tissue(40, 50), "aorta": Tissue(42, 110), "inferior vena cava": Tissue(42, 85),
    "right adrenal gland": Tissue(35, 45), "left adrenal gland": Tissue(35, 45), "gallbladder": Tissue(8, 2),
    "esophagus": Tissue(36, 30), "stomach": Tissue(34, 22), "duodenum": Tissue(35, 38),
}  # fmt: skip
"""Rounded from textbook values; many organs share their HU with muscle, bowel or each other on purpose."""

# drawn in this order, later over earlier, all over the surroundings
ORGANS: dict[str, tuple[Ellipsoid | Tube, ...]] = {
    "liver": (Ellipsoid((70, 0, 38), (58, 78, 62)), Ellipsoid((8, 48, 58), (68, 32, 30))),
    "stomach": (
        Ellipsoid((-62, 18, 62), (36, 36, 34)),
        Ellipsoid((-52, 40, 28), (30, 28, 38)),
        Tube(((-40, 52, 4), (-5, 56, -4), (16, 50, 4)), 16),
    ),
    "spleen": (Ellipsoid((-104, -38, 42), (26, 42, 40)),),
    "pancreas": (Tube(((24, 22, -14), (2, 26, 0), (-30, 14, 12), (-72, -14, 22)), 13),),
    "duodenum": (Tube(((20, 46, 8), (44, 28, -2), (44, 10, -44), (14, 2, -56), (-18, 8, -50)), 13),),
    "gallbladder": (Ellipsoid((54, 54, -8), (15, 20, 25)),),
    "right kidney": (Ellipsoid((62, -52, -34), (27, 25, 52)),),
    "left kidney": (Ellipsoid((-62, -54, -24), (27, 25, 52)),),
    "right adrenal gland": (Tube(((32, -30, 38), (44, -50, 26)), 9.5),),
    "left adrenal gland": (Tube(((-30, -26, 38), (-46, -48, 32)), 9.5),),
    "inferior vena cava": (Tube(((20, -20, -140), (20, -18, 0), (26, 2, 70), (22, 12, 140)), 12),),
    "aorta": (Tube(((-6, -22, -140), (-6, -20, 0), (-16, -34, 90), (-18, -38, 140)), 11.5),),
    "esophagus": (Tube(((2, -12, 140), (-6, -8, 90), (-34, 8, 66)), 10),),
}

HOSTS: dict[str, tuple[float, float, float]] = {
    "liver": (0.56, 14, 28),
    "right kidney": (0.12, 13, 20),
    "left kidney": (0.12, 13, 20),
    "pancreas": (0.08, 12, 18),
    "spleen": (0.12, 13, 20),
}
"""Host organ -> its share of all tumours, and their smallest and largest radius in mm."""

SURROUNDINGS: tuple[tuple[str, Ellipsoid | Tube], ...] = (
    ("lung", Ellipsoid((72, -10, 128), (60, 78, 72))),
    ("lung", Ellipsoid((-72, -10, 128), (60, 78, 72))),
    ("heart", Ellipsoid((-14, 36, 122), (54, 44, 36))),
    ("muscle", Tube(((30, -52, 20), (52, -46, -140)), 17)),  # psoas
    ("muscle", Tube(((-30, -52, 20), (-52, -46, -140)), 17)),
    ("muscle", Tube(((34, -84, -140), (34, -84, 140)), 20)),  # back muscles
    ("muscle", Tube(((-34, -84, -140), (-34, -84, 140)), 20)),
    ("bowel", Tube(((92, 6, -140), (94, 8, -44)), 20)),  # ascending and descending colon
    ("bowel", Tube(((-98, 2, -140), (-100, 0, 0)), 18)),
    ("gas", Tube(((94, 16, -140), (94, 18, -50)), 10)),
    ("bowel", Tube(((70, 74, -34), (0, 82, -40), (-78, 68, -24)), 18)),  # transverse colon
    ("gas", Tube(((50, 84, -34), (0, 90, -38), (-58, 76, -26)), 9)),
    ("bone", Tube(((0, -56, -140), (0, -56, 140)), 21)),
    ("bone", Tube(((0, -84, -140), (0, -104, 140)), 7)),
    ("muscle", Tube(((0, -80, -140), (0, -80, 140)), 7)),  # spinal canal
)

BODY_RADII_MM = (152.0, 112.0)
"""Half width and half depth of the trunk."""
