"""A picture of each case, in bounded memory: `flarenet_predict --preview`.

Which slices hold labels is known only after the last one has come. So slices are kept as they come, evenly spread, and
every second one is dropped whenever there are too many. For coronal slices, a few rows of each slice are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...data.labels import LabelSet
from ...volume import Grid, orientation_of
from ...whole import whole_file
from ..opening import OpenedScan
from .outputs import WrittenAtEnd, output_path
from .slices import FinishedSlice

if TYPE_CHECKING:
    from ...evaluation.pictures import Row

FOLDER = "previews"

AXIAL, COLUMNS = 7, 4
"""Number of axial slices in a picture, and of tiles in a row; the last tile is a coronal slice."""

CORONAL_ROWS, CORONAL_HEIGHT = 8, 512
"""Number of coronal slices to choose from, and the most rows of one."""


_Kept = tuple[int, np.ndarray, np.ndarray]
"""A slice of the reoriented scan: (z, image [Y, X], which is int16 HU of a CT, else float32; labels uint8 [Y, X])."""


class Preview:
    """The Output that writes previews/CASE.png.

    is_ct  whether slices are shown in the window of the abdomen, else over their own range; Configuration.is_ct of the
           model
    """

    def __init__(self, labels: LabelSet, *, is_ct: bool) -> None:
        self.labels, self.is_ct = labels, is_ct

    def __call__(self, output: Path, scan: OpenedScan) -> PreviewSink:
        return PreviewSink(self.files(output)[0], scan.grid, labels=self.labels, is_ct=self.is_ct)

    def files(self, output: Path) -> tuple[Path, ...]:
        return (output_path(output, FOLDER, ".png"),)


class PreviewSink(WrittenAtEnd):
    """Keeps at most 4 * AXIAL axial slices and CORONAL_ROWS coronal ones, in 3 bytes a voxel of a CT, else 5."""

    wants_image = True

    def __init__(self, path: Path, grid: Grid, *, labels: LabelSet, is_ct: bool) -> None:
        super().__init__(path)
        self.grid = orientation_of(grid).apply_to_grid(grid)
        self.labels, self.is_ct = labels, is_ct
        self.labelled, self.every = _Spread(), _Spread()
        depth, height, width = self.grid.shape
        self.step = -(-depth // CORONAL_HEIGHT)
        self.rows = np.linspace(0, height - 1, CORONAL_ROWS + 2)[1:-1].round().astype(int)
        shape = (CORONAL_ROWS, -(-depth // self.step), width)
        self.coronal = np.zeros(shape, np.int16 if is_ct else np.float32), np.zeros(shape, np.uint8)

    def take(self, finished: FinishedSlice) -> None:
        assert finished.image is not None
        kept = finished.z, self._as_kept(finished.image), finished.labels.copy()
        self.every.add(kept)
        if finished.labels.any():
            self.labelled.add(kept)
        if finished.z % self.step == 0:
            place = finished.z // self.step
            self.coronal[0][:, place] = kept[1][self.rows]
            self.coronal[1][:, place] = finished.labels[self.rows]

    def finish(self) -> None:
        from ...evaluation.pictures import montage  # only a run that draws pays for importing matplotlib

        tiles = self._tiles()
        figure = montage(tiles, min(COLUMNS, len(tiles)), caption=self.path.stem, labels=self.labels)
        with whole_file(self.path) as temporary:
            figure.savefig(temporary, format="png")

    def _as_kept(self, image: np.ndarray) -> np.ndarray:
        if not self.is_ct:  # its range may be any, as 0 to 1
            return image.astype(np.float32)
        limits = np.iinfo(np.int16)
        return image.clip(limits.min, limits.max).astype(np.int16)

    def _tiles(self) -> list[Row]:
        """The axial slices, lowest first, then the coronal slice with the most labels; cut to the body."""
        from ...evaluation.pictures import Cut, Row, as_shown, body_box, richest, window_of

        kept = (self.labelled if self.labelled.kept else self.every).chosen()
        image, drawn = np.stack([image for _, image, _ in kept]), np.stack([drawn for _, _, drawn in kept])
        window = window_of(image, is_ct=self.is_ct)
        _, rows, columns = body_box(image, is_ct=self.is_ct).slices
        axial = image[:, rows, columns], drawn[:, rows, columns]
        coronal = self.coronal[0][..., columns], self.coronal[1][..., columns]

        def tile(slices: tuple[np.ndarray, np.ndarray], at: int, aspect: float, note: str) -> Row:
            image, drawn = (as_shown(each, Cut(0, at)) for each in slices)
            return Row(image, (drawn,), aspect, note, window)

        z_mm, y_mm, x_mm = self.grid.spacing_mm
        _, height, width = self.grid.shape
        places = [self.grid.affine @ (z, (height - 1) / 2, (width - 1) / 2, 1) for z, _, _ in kept]
        tiles = [tile(axial, at, y_mm / x_mm, f"z = {place[2]:.0f} mm") for at, place in enumerate(places)]
        best = richest(self.coronal[1], self.labels, axis=0)
        return [*tiles, tile(coronal, best, z_mm * self.step / x_mm, "coronal")]


class _Spread:
    """Picks AXIAL slices, evenly spread, from those that come one by one; keeps at most twice as many meanwhile."""

    def __init__(self) -> None:
        self.kept: list[_Kept] = []
        self._step, self._seen = 1, 0

    def add(self, one: _Kept) -> None:
        if self._seen % self._step == 0:
            if len(self.kept) == 2 * AXIAL:
                del self.kept[1::2]
                self._step *= 2
            self.kept.append(one)
        self._seen += 1

    def chosen(self) -> list[_Kept]:
        """At most AXIAL slices, evenly spread, lowest first."""
        number = min(AXIAL, len(self.kept))
        places = ((np.arange(number) + 0.5) * len(self.kept) / number).astype(int)
        return sorted((self.kept[place] for place in places), key=lambda kept: kept[0])
