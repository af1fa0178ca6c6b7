"""Two label maps of one grid, label by label: each label's masks in the smallest box that holds both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import find_objects

from ..errors import GeometryError
from ..volume import Grid, Volume, box_where

Slices = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class TwoMaps:
    """Truth and prediction, uint8 label maps [Z, Y, X] in the order of their files.

    Raises GeometryError where the grids differ (by more than 0.1 mm at a corner).
    """

    truth: Volume
    prediction: Volume

    def __post_init__(self) -> None:
        _check_same_grid(self.truth.grid, self.prediction.grid)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The spacing as NIfTI headers hold it, in single precision: what lies exactly at a tolerance depends on it."""
        z, y, x = (float(np.float32(step)) for step in self.truth.grid.spacing_mm)
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.truth.grid.spacing_mm)) / 1000

    def masks(self, value: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Where `value` is in the truth and in the prediction, bool, in the box that holds both; None: nowhere."""
        boxes = [boxes[value] for boxes in self._boxes if value in boxes]
        if not boxes:
            return None
        box = tuple(slice(min(s.start for s in along), max(s.stop for s in along)) for along in zip(*boxes))
        return self.truth.data[box] == value, self.prediction.data[box] == value

    @cached_property
    def _boxes(self) -> tuple[dict[int, Slices], dict[int, Slices]]:
        return label_boxes(self.truth.data), label_boxes(self.prediction.data)


def label_boxes(label_map: np.ndarray) -> dict[int, Slices]:
    """The smallest box of each value of a uint8 map [Z, Y, X] but 0, in two passes: what is not 0, then its values."""
    filled = box_where(label_map)
    if filled is None:
        return {}
    found = find_objects(label_map[filled.slices])
    return {
        value: tuple(slice(start + s.start, start + s.stop) for start, s in zip(filled.start, slices))
        for value, slices in enumerate(found, start=1)
        if slices is not None
    }


def _check_same_grid(truth: Grid, prediction: Grid) -> None:
    if truth.shape != prediction.shape:
        raise GeometryError("shape (z, y, x) of the prediction", found=prediction.shape, expected=truth.shape)
    if not truth.is_near(prediction):
        raise GeometryError(
            "grid of the prediction",
            found=f"voxels up to {truth.largest_distance_mm(prediction):.1f} mm beside those of the ground truth",
            expected="the grid of the ground truth",
        )
