"""The best and the worst cases in one picture, as in the paper's Figure 3, with frames around differences."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from ..data.labels import LabelSet
from ..evaluation.pictures import Cut, Frame, Row, as_shown, sheet
from .charts import NO_METADATA
from .content import Picture
from .subjects import TRUTH, ShownScan, Subject, different

BEST, WORST = 2, 2
THICK, NEAR, ROOM, MOST_FRAMES = 3, 3, 3, 6
"""In pixels: differences thinner than THICK count as mere edges; each is dilated by NEAR, and those that then touch
share a frame, at a distance of ROOM. A slice has at most MOST_FRAMES frames."""


def extreme_row(subject: Subject, scan: ShownScan, models: Sequence[str], *, note: str) -> Row:
    """The axial slice in which most voxels, over all models, differ from the truth, with a layer per model."""
    truth, to_score = scan.layers[TRUTH], subject.pair.to_score
    there = [model for model in models if model in scan.layers]
    wrong = {model: different(truth, scan.layers[model], to_score) for model in there}
    cut = Cut(0, int(sum(np.count_nonzero(each, axis=(1, 2)) for each in wrong.values()).argmax()))
    planes = {title: as_shown(layer, cut) for title, layer in scan.layers.items()}
    nothing = np.zeros_like(planes[TRUTH])
    _, y_mm, x_mm = scan.image.grid.spacing_mm
    return Row(
        as_shown(scan.image.data, cut),
        (planes[TRUTH], *(planes.get(model, nothing) for model in models)),
        aspect=y_mm / x_mm,
        note=f"{subject.case}\n{note}",
        window=scan.window,
        notes=("", *(f"DSC {100 * subject.dsc[m]:.2f}" if m in subject.dsc else "no prediction" for m in models)),
        boxes=((), *(_frames(as_shown(wrong[model], cut)) if model in wrong else () for model in models)),
    )


def _frames(wrong: np.ndarray) -> tuple[Frame, ...]:
    """Frames around at most MOST_FRAMES parts of a boolean slice [H, W], the largest first."""
    deep = ndimage.binary_opening(wrong, np.ones((THICK, THICK)))
    numbered, count = ndimage.label(ndimage.binary_dilation(deep, iterations=NEAR), np.ones((3, 3)))
    sizes = ndimage.sum_labels(deep, numbered, range(1, count + 1)) if count else np.zeros(0)
    found = ndimage.find_objects(np.where(deep, numbered, 0))
    return tuple(_wider(found[at], wrong.shape) for at in np.argsort(-sizes, kind="stable")[:MOST_FRAMES])


def _wider(frame: Frame, shape: tuple[int, ...]) -> Frame:
    rows, columns = (slice(max(0, s.start - ROOM), min(n, s.stop + ROOM)) for s, n in zip(frame, shape))
    return rows, columns


def extremes_picture(rows: Sequence[Row], models: Sequence[str], *, labels: LabelSet) -> Picture:
    """One figure of all rows, with PNG and SVG as its files."""
    figure = sheet(rows, (TRUTH, *models), caption="", labels=labels)
    files = {"png": _saved(figure, "png", dpi=200), "svg": _saved(figure, "svg", metadata=NO_METADATA)}
    caption = (
        "The best and the worst cases by mean DSC over the models: the axial slice of each in which most voxels differ "
        f"from the ground truth. Framed: what differs at least {THICK} pixels deep. A label that nobody looked for in "
        "a case is shown where it was predicted, and is not a difference. The patient's left is on the right."
    )
    return Picture("best_and_worst", caption, _saved(figure, "webp", dpi=160), "image/webp", files)


def _saved(figure: Figure, kind: str, **how: Any) -> bytes:
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "best_and_worst", "svg.fonttype": "none"}):
        figure.savefig(content, format=kind, **how)
    return content.getvalue()
