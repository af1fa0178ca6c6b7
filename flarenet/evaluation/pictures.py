"""Overlay pictures: slices of the image and of label maps drawn over it, side by side.

Radiological display: the patient's left is on the picture's right, the front is up in axial slices, the head is up in
coronal ones.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from ..data.labels import HIDDEN, LabelSet
from ..volume import Box, Volume, box_where, canonical, crop
from ..whole import whole_file

WINDOW_HU = (-160.0, 240.0)
"""The usual window of the abdomen: level 40, width 400."""

SKIN_HU = -300.0
"""An intensity between air and skin."""

_PANEL_INCHES, _GAP_INCHES, _HEAD_INCHES, _TITLES_INCHES, _ENTRY_INCHES = 2.8, 0.06, 0.75, 0.3, 0.2
_ENTRY_WIDTH_INCHES = 1.7
_TALLEST_INCHES = 6 * _PANEL_INCHES  # a whole body is about four times as high as wide; one sagittal slice has no width
_OPACITY = 0.55
_FRONT, _HEAD = 1, 0  # the canonical axis (z, y, x) that coronal and axial slices are taken across
_AS_WRITTEN: Any = {"text.parse_math": False}
"""Names of cases and labels may hold any character; matplotlib would read text between two $ as a formula."""

_PLACING: Any = {"origin": "lower", "interpolation": "nearest"}  # rows grow to the front or to the head

_COLOURS = (
    *("#b5493a", "#3cb44b", "#f4a6c8", "#4363d8", "#ff7f0e", "#42d4f4", "#f032e6", "#bfef45"),
    *("#00705c", "#8c8c00", "#dcbeff", "#8a2be2", "#aaffc3", "#ffee00", "#8fa3bf"),
)
"""The colours of the first labels: far apart for neighbours, such as tumor and liver, or vena cava and aorta."""


Frame = tuple[slice, slice]
"""A part of a slice: its rows and columns."""


@dataclass(frozen=True)
class Cut:
    """One slice: across canonical axis 0 (axial) or 1 (coronal), at `index`."""

    axis: int
    index: int


@dataclass(frozen=True, eq=False)
class Row:
    """A slice as it is shown.

    image    [H, W]
    layers   label slices, uint8 [H, W], to be laid over it
    aspect   height of a voxel over its width
    note     a text for the corner of the image
    window   the intensities drawn as black and as white
    outline  whether the outlines of the first layer are drawn on the others too
    notes    texts for the corners of the layers
    boxes    for each layer, the parts of the slice to frame on it
    """

    image: np.ndarray
    layers: tuple[np.ndarray, ...]
    aspect: float = 1.0
    note: str = ""
    window: tuple[float, float] = WINDOW_HU
    outline: bool = False
    notes: tuple[str, ...] = ()
    boxes: tuple[tuple[Frame, ...], ...] = ()


def window_of(image: np.ndarray, *, is_ct: bool) -> tuple[float, float]:
    """The intensities drawn as black and as white for an image [Z, Y, X]: the abdominal window for CT, else the minimum
    and the 99.5th percentile."""
    return WINDOW_HU if is_ct else (float(image.min()), float(np.percentile(image, 99.5)))


def body_box(image: np.ndarray, *, is_ct: bool) -> Box:
    """The box of the body in an image [Z, Y, X]: of what is denser than air in CT, else of what is brighter than the
    median."""
    floor = SKIN_HU if is_ct else float(np.percentile(image, 50))
    return box_where(image > floor) or Box((0, 0, 0), image.shape)


def colour_of(value: int) -> tuple[float, float, float]:
    """The fixed colour (red, green, blue, each 0 to 1) of a label value >= 1: grey for HIDDEN, the first 15 by eye."""
    if value == HIDDEN:
        return 0.75, 0.75, 0.75
    if value <= len(_COLOURS):
        digits = _COLOURS[value - 1]
        red, green, blue = (int(digits[at : at + 2], 16) / 255 for at in (1, 3, 5))
        return red, green, blue
    # steps of the golden ratio around the circle of hues keep any number of further labels apart
    return colorsys.hsv_to_rgb(value * 0.618034 % 1, 0.65 if value % 2 else 0.9, 0.95)


def overlay(
    image: Volume,
    maps: Mapping[str, Volume],
    *,
    labels: LabelSet,
    path: Path,
    caption: str,
    is_ct: bool = True,
) -> None:
    """Write a PNG to `path`: a row per slice, a column for the image and one for each of `maps`.

    image  in any orientation, HU where is_ct
    maps   title -> label map, uint8, on the image's grid (any orientation of the same space)
    The slices are chosen from the first map that holds a label, see choose_cuts; the middle ones where all are empty.
    """
    image, _ = canonical(image)
    window = window_of(image.data, is_ct=is_ct)
    drawn = {title: canonical(volume)[0] for title, volume in maps.items()}
    for title, volume in drawn.items():
        if volume.data.shape != image.data.shape:
            raise ValueError(f"{title}: shape {volume.data.shape} is not the image's, {image.data.shape}")
    cuts = choose_cuts(next((v.data for v in drawn.values() if v.data.any()), np.zeros(image.data.shape)), labels)
    body = body_box(image.data, is_ct=is_ct)
    cuts = [Cut(cut.axis, min(max(cut.index, body.start[cut.axis]), body.stop[cut.axis] - 1)) for cut in cuts]
    image = crop(image, body)
    rows = [
        Row(
            _plane(image.data, cut, body),
            tuple(_plane(crop(volume, body).data, cut, body) for volume in drawn.values()),
            aspect=image.grid.spacing_mm[1 - cut.axis] / image.grid.spacing_mm[2],
            window=window,
        )
        for cut in cuts
    ]
    figure = sheet(rows, tuple(drawn), caption=caption, labels=labels)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


def choose_cuts(label_map: np.ndarray, labels: LabelSet) -> list[Cut]:
    """The slices to show of a canonical label map [Z, Y, X].

    These are the axial slice with the most distinct labels (of equals, the one with the most labelled voxels); where
    there are several groups and the map holds the last one, the axial slice with the most voxels of it; and the coronal
    slice with the most distinct labels.
    """
    axial = Cut(_HEAD, richest(label_map, labels, axis=_HEAD))
    coronal = Cut(_FRONT, richest(label_map, labels, axis=_FRONT))
    last = np.isin(label_map, list(labels.groups.values())[-1])
    if len(labels.groups) < 2 or not last.any():
        return [axial, coronal]
    lesion = Cut(_HEAD, int(last.sum(axis=(1, 2)).argmax()))
    return [axial, coronal] if lesion == axial else [axial, lesion, coronal]


def richest(label_map: np.ndarray, labels: LabelSet, *, axis: int) -> int:
    """The index along `axis` of the slice of a uint8 map [Z, Y, X] with the most distinct labels, of equals the one
    with the most labelled voxels; the middle slice of an empty map."""
    if not label_map.any():
        return label_map.shape[axis] // 2
    planes = np.moveaxis(label_map, axis, 0)
    voxels = np.array([np.bincount(plane.ravel(), minlength=256) for plane in planes])  # [slices, values], in one pass
    distinct = np.count_nonzero(voxels[:, list(labels.values)], axis=1)
    labelled = voxels[:, 1:HIDDEN].sum(axis=1)
    return int(np.lexsort((labelled, distinct))[-1])


@rc_context(_AS_WRITTEN)
def sheet(rows: Sequence[Row], titles: Sequence[str], *, caption: str, labels: LabelSet) -> Figure:
    """A figure of `rows`: a column for the images, in grey, and one for each layer, with its title."""
    columns = 1 + len(titles)
    present = sorted({int(value) for row in rows for layer in row.layers for value in np.unique(layer)} - {0})
    entries = int(columns * _PANEL_INCHES / _ENTRY_WIDTH_INCHES)  # entries in a line of the legend
    heights = [_PANEL_INCHES * row.aspect * row.image.shape[0] / row.image.shape[1] for row in rows]
    head = _HEAD_INCHES if caption else _TITLES_INCHES
    figure, axes = _frame(heights, columns, head=head, foot=_ENTRY_INCHES * (2 + len(present) // entries))
    if caption:
        figure.suptitle(caption, color="white", fontsize=12)
    for panels, row in zip(axes, rows):
        for axis, layer in zip(panels, [None, *row.layers]):
            _show(axis, row)
            if layer is not None:
                axis.imshow(_painted(layer), aspect=row.aspect, **_PLACING)
        for axis in panels[2:] if row.outline else ():
            _outline(axis, row.layers[0])
        for axis, note in zip(panels, (row.note, *row.notes)):
            _note(axis, note)
        for axis, frames in zip(panels[1:], row.boxes):
            _frame_in(axis, frames)
    for axis, title in zip(axes[0], ["image", *titles]):
        axis.set_title(title, color="white", fontsize=10)
    names = {value: "not annotated" if value == HIDDEN else labels.names[value] for value in present}
    _legend(figure, {names[value]: colour_of(value) for value in present}, entries)
    return figure


@rc_context(_AS_WRITTEN)
def montage(tiles: Sequence[Row], columns: int, *, caption: str, labels: LabelSet) -> Figure:
    """A figure of `tiles`, row by row: each is an image, in grey, with its first layer over it."""
    tiles_by_row = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    shapes = [[tile.aspect * tile.image.shape[0] / tile.image.shape[1] for tile in row] for row in tiles_by_row]
    present = sorted({int(value) for tile in tiles for value in np.unique(tile.layers[0])} - {0})
    entries = int(columns * _PANEL_INCHES / _ENTRY_WIDTH_INCHES)
    heights = [_PANEL_INCHES * max(row) for row in shapes]
    foot = _ENTRY_INCHES * (2 + len(present) // entries)
    figure, axes = _frame(heights, columns, head=_HEAD_INCHES, foot=foot)
    figure.suptitle(caption, color="white", fontsize=12)
    for panels, row in zip(axes, tiles_by_row):
        for axis, tile in zip(panels, row):
            _show(axis, tile)
            axis.imshow(_painted(tile.layers[0]), aspect=tile.aspect, **_PLACING)
            _note(axis, tile.note)
        for axis in panels[len(row) :]:
            axis.set_axis_off()
    _legend(figure, {labels.names[value]: colour_of(value) for value in present}, entries)
    return figure


def _frame(heights: list[float], columns: int, *, head: float, foot: float) -> tuple[Figure, list[list[Axes]]]:
    """A black figure with rows of axes of the given heights, between a head for titles and a foot for the legend.
    Heights beyond _TALLEST_INCHES are cut to it; a picture keeps its aspect, and is narrower there.

    All sizes are in inches. The axes are placed by hand, because matplotlib's automatic layouts leave wide gaps between
    pictures of fixed aspect.
    """
    heights = [min(tall, _TALLEST_INCHES) for tall in heights]
    width = columns * _PANEL_INCHES + (columns + 1) * _GAP_INCHES
    height = head + sum(heights) + len(heights) * _GAP_INCHES + foot
    figure = Figure(figsize=(width, height), dpi=110, facecolor="black")
    FigureCanvasAgg(figure)
    axes, top = [], height - head
    for tall in heights:
        lefts = [_GAP_INCHES + column * (_PANEL_INCHES + _GAP_INCHES) for column in range(columns)]
        places = [(left / width, (top - tall) / height, _PANEL_INCHES / width, tall / height) for left in lefts]
        axes.append([figure.add_axes(place) for place in places])
        top -= tall + _GAP_INCHES
    return figure, axes


def _plane(data: np.ndarray, cut: Cut, body: Box) -> np.ndarray:
    return as_shown(data, Cut(cut.axis, cut.index - body.start[cut.axis]))


def as_shown(data: np.ndarray, cut: Cut) -> np.ndarray:
    """A slice of canonical data [Z, Y, X], with its last axis flipped so that the patient's left is on the right."""
    return data.take(cut.index, axis=cut.axis)[:, ::-1]


def _show(axis: Axes, row: Row) -> None:
    black, white = row.window
    axis.imshow(row.image, cmap="gray", vmin=black, vmax=white, aspect=row.aspect, **_PLACING)
    axis.set_axis_off()
    for x, side in ((0.02, "R"), (0.98, "L")):
        align = "left" if side == "R" else "right"
        axis.text(x, 0.5, side, color="yellow", fontsize=9, ha=align, va="center", transform=axis.transAxes)


def _outline(axis: Axes, layer: np.ndarray) -> None:
    for value in set(np.unique(layer).tolist()) - {0, HIDDEN}:
        axis.contour(layer == value, levels=[0.5], colors="white", linewidths=0.7)


def _frame_in(axis: Axes, frames: Sequence[Frame]) -> None:
    for rows, columns in frames:
        width, height = columns.stop - columns.start, rows.stop - rows.start
        corner = (columns.start - 0.5, rows.start - 0.5)
        axis.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="#ffe14d", linewidth=1.2))


def _note(axis: Axes, text: str) -> None:
    edge = [withStroke(linewidth=2, foreground="black")]
    axis.text(0.02, 0.98, text, color="white", fontsize=8, va="top", transform=axis.transAxes, path_effects=edge)


def _painted(label_plane: np.ndarray) -> np.ndarray:
    """RGBA float [H, W, 4]: labels in their colours, background transparent."""
    table = np.zeros((256, 4), dtype=np.float32)
    for value in range(1, 256):
        table[value] = (*colour_of(value), _OPACITY)
    return table[label_plane]


def _legend(figure: Figure, colours: Mapping[str, tuple[float, float, float]], columns: int) -> None:
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    if handles:
        figure.legend(handles=handles, loc="lower center", ncols=columns, fontsize=8, frameon=False, labelcolor="white")
