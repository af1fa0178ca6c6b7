"""Slices of a case to browse: one picture of grey values, and one of each label map to lay over it.

The page holds all of them, so the size of a case is bounded: at most MOST_SLICES slices, evenly spread over the part
with labels, and at most WIDTH pixels wide. With two models a case takes 0.2 to 0.5 MB, as measured.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from ..data.labels import HIDDEN, LabelSet
from ..evaluation.pictures import Cut, as_shown, choose_cuts, colour_of
from .content import Picture, Strip
from .pixels import grey_pixels, jpeg, label_pixels
from .subjects import TRUTH, ShownScan, Subject

MOST_SLICES = 40
WIDTH = 256
MARGIN = 2
"""How many slices are shown beyond the first and beyond the last with a label."""


def make_strip(subject: Subject, scan: ShownScan, labels: LabelSet) -> Strip:
    """The axial slices of a case in radiological display: the patient's left on the right, the front up."""
    chosen = _chosen(scan)
    _, y_mm, x_mm = scan.image.grid.spacing_mm
    _, rows, columns = scan.image.data.shape
    width = min(WIDTH, columns)
    size = width, max(1, round(width * rows * y_mm / (columns * x_mm)))
    across = int(np.ceil(np.sqrt(len(chosen))))
    richest = choose_cuts(scan.layers[TRUTH], labels)[0].index
    grey = _mosaic((grey_pixels(as_shown(scan.image.data, Cut(0, z)), scan.window, size) for z in chosen), across, size)
    layers = {}
    for title, layer in scan.layers.items():
        drawn = _mosaic((label_pixels(as_shown(layer, Cut(0, z)), size) for z in chosen), across, size)
        layers[title] = Picture(title, title, _png(drawn))
    return Strip(
        case=subject.case,
        caption=subject.caption,
        z=tuple(scan.first + z for z in chosen),
        start=int(np.abs(np.array(chosen) - richest).argmin()),
        columns=across,
        width=size[0],
        height=size[1],
        image=Picture(subject.case, subject.case, jpeg(grey), "image/jpeg"),
        layers=layers,
    )


def _chosen(scan: ShownScan) -> list[int]:
    depth = len(scan.image.data)
    labelled = np.flatnonzero(np.any([_labelled(layer) for layer in scan.layers.values()], axis=0))
    first, last = (labelled[0], labelled[-1]) if labelled.size else (0, depth - 1)
    first, last = max(0, first - MARGIN), min(depth - 1, last + MARGIN)
    return sorted({int(z) for z in np.linspace(first, last, min(MOST_SLICES, last - first + 1)).round()})


def _labelled(layer: np.ndarray) -> np.ndarray:
    """bool [Z]: which slices of a label map hold a label."""
    return np.asarray(((layer > 0) & (layer < HIDDEN)).any(axis=(1, 2)))


def _mosaic(planes: Iterable[np.ndarray], across: int, size: tuple[int, int]) -> np.ndarray:
    """Planes [height, width] in one picture, `across` to a row; places without a plane are 0."""
    width, height = size
    placed = list(planes)
    whole = np.zeros((-(-len(placed) // across) * height, across * width), dtype=np.uint8)
    for at, plane in enumerate(placed):
        row, column = divmod(at, across)
        whole[row * height : (row + 1) * height, column * width : (column + 1) * width] = plane
    return whole


def _png(drawn: np.ndarray) -> bytes:
    """A PNG of labels in their colours, with a transparent background."""
    image = Image.fromarray(drawn, mode="P")
    colours = [(0.0, 0.0, 0.0), *(colour_of(value) for value in range(1, 256))]
    image.putpalette([round(255 * part) for colour in colours for part in colour])
    content = io.BytesIO()
    image.save(content, "PNG", transparency=0, optimize=True)
    return content.getvalue()
