"""Two label maps on one grid, label by label: the masks of a label in the smallest box that holds both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..data.labels import HIDDEN
from ..errors import GeometryError
from ..volume import Grid, Volume

Slices = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class TwoMaps:
    """Truth and prediction, uint8 label maps [Z, Y, X] in the axis order of their files.

    stated_mm  the spacing that the file of the truth states; None: that of its grid, whose last digits may differ
    Where the truth is HIDDEN, nothing is known and the prediction is set to background.
    Raises GeometryError where the grids differ (by more than 0.1 mm at a corner).
    """

    truth: Volume
    prediction: Volume
    stated_mm: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        check_same_grid(self.truth.grid, self.prediction.grid)
        if HIDDEN in self._truth_boxes:
            cleared = np.where(self.truth.data == HIDDEN, np.uint8(0), self.prediction.data)
            object.__setattr__(self, "prediction", Volume(cleared, self.prediction.grid))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The spacing in single precision, as NIfTI headers hold it: it decides which distances equal a tolerance."""
        z, y, x = (float(np.float32(step)) for step in self.stated_mm or self.truth.grid.spacing_mm)
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        return self.truth.grid.voxel_mm3 / 1000

    def box(self, value: int) -> Slices | None:
        """The smallest box that holds `value` of the truth and of the prediction; None where neither has it. If the
        truth is HIDDEN anywhere, the box is a voxel larger on each side, within the maps, to show hidden neighbours."""
        boxes = [boxes[value] for boxes in (self._truth_boxes, self._prediction_boxes) if value in boxes]
        if not boxes:
            return None
        more = 1 if HIDDEN in self._truth_boxes else 0
        ends = [(min(s.start for s in along), max(s.stop for s in along)) for along in zip(*boxes)]
        return tuple(slice(max(0, a - more), min(b + more, n)) for (a, b), n in zip(ends, self.truth.data.shape))

    def masks(self, value: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Boolean masks of `value` in truth and prediction, in the box that holds both; None where neither has it."""
        if (box := self.box(value)) is None:
            return None
        return self.truth.data[box] == value, self.prediction.data[box] == value

    def ignored(self, value: int) -> np.ndarray | None:
        """Where the truth is HIDDEN in the box of `value`, bool; None if it is HIDDEN nowhere or neither map has it."""
        box = self.box(value) if HIDDEN in self._truth_boxes else None
        return None if box is None else self.truth.data[box] == HIDDEN

    @cached_property
    def _truth_boxes(self) -> dict[int, Slices]:
        return label_boxes(self.truth.data)

    @cached_property
    def _prediction_boxes(self) -> dict[int, Slices]:
        return label_boxes(self.prediction.data)


def label_boxes(label_map: np.ndarray) -> dict[int, Slices]:
    """The smallest box of each value except 0 of a uint8 map [Z, Y, X], from the ends of its runs along x.

    scipy.ndimage.find_objects gives the same in twice the time (11 ms against 6 ms for 5 million voxels).
    """
    first, last = np.full((3, 256), max(label_map.shape)), np.full((3, 256), -1)
    for z, plane in enumerate(label_map):
        begins = np.ones(plane.shape, dtype=bool)
        np.not_equal(plane[:, 1:], plane[:, :-1], out=begins[:, 1:])
        starts = np.flatnonzero(begins)
        value, length = plane.ravel()[starts], np.diff(starts, append=begins.size)
        labelled = np.flatnonzero(value)
        value, (y, x) = value[labelled], np.divmod(starts[labelled], plane.shape[1])
        for axis, lowest, highest in ((0, z, z), (1, y, y), (2, x, x + length[labelled] - 1)):
            np.minimum.at(first[axis], value, lowest)
            np.maximum.at(last[axis], value, highest)
    return {
        int(value): tuple(slice(int(a), int(b) + 1) for a, b in zip(first[:, value], last[:, value]))
        for value in np.flatnonzero(last[0] >= 0)
    }


def check_same_grid(truth: Grid, prediction: Grid) -> None:
    """Raise GeometryError where the grids differ, as TwoMaps does."""
    if truth.shape != prediction.shape:
        raise GeometryError("shape (z, y, x) of the prediction", found=prediction.shape, expected=truth.shape)
    if not truth.is_near(prediction):
        raise GeometryError(
            "grid of the prediction",
            found=f"voxels up to {truth.largest_distance_mm(prediction):.1f} mm away from those of the ground truth",
            expected="the grid of the ground truth",
        )
