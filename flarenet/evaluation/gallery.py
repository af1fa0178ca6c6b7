"""One overlay picture per scored case: image, ground truth, prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

from ..data.cases import HERE, Pool, map_cases
from ..data.dataset import Dataset
from ..data.labels import LabelSet
from ..data.names import files_by_case
from ..data.nifti import read_grid, read_image, read_labels
from ..data.reading import STRICT, Reading
from ..errors import FlarenetError, GeometryError
from ..volume import Volume
from .pairs import Pair
from .pictures import overlay
from .tables import Metrics, format_score, mean_score


@dataclass(frozen=True)
class Drawing:
    """A case to draw.

    image    the file of the scan
    pair     the files of truth and prediction
    caption  the title of the picture
    path     where the picture is written
    """

    name: str
    image: Path
    pair: Pair
    caption: str
    path: Path


def draw_cases(
    pairs: Sequence[Pair], metrics: Metrics, *, dataset: Dataset, images: Path, out: Path, pool: Pool = HERE
) -> tuple[dict[str, Path], list[tuple[Drawing, FlarenetError]]]:
    """Write `out`/CASE.png for every case that did not fail and whose image is in the folder `images`.

    Returns {caption: picture}, the lowest mean DSC first and cases without a score last, and (drawing, error) for each
    case that could not be drawn. Raises DatasetError where `images` holds no image.
    """
    found = files_by_case(images)
    drawings = [
        Drawing(pair.name, found[pair.name], pair, _caption(pair.name, metrics), out / f"{pair.name}.png")
        for pair in sorted(pairs, key=lambda pair: _rank(pair.name, metrics))
        if pair.name in found and pair.name not in metrics.failed
    ]
    draw = partial(draw_case, labels=dataset.labels, is_ct=dataset.modality == "CT")
    drawn, failures = map_cases(draw, drawings, pool=pool, describe="drawing", need_mb=_need_mb)
    return {drawing.caption: drawing.path for drawing in drawn}, failures


def draw_case(drawing: Drawing, *, labels: LabelSet, is_ct: bool) -> Drawing:
    """Draw one case; returns `drawing`. Raises GeometryError where a label map does not lie on the image's grid."""
    pair, reading = drawing.pair, drawing.pair.reading
    image = read_image(drawing.image, reading)
    maps = {
        "ground truth": read_on(image, pair.truth, labels, values=pair.values, reading=reading),
        "prediction": read_on(image, pair.prediction, labels, reading=reading),
    }
    overlay(image, maps, labels=labels, path=drawing.path, caption=drawing.caption, is_ct=is_ct)
    return drawing


def _need_mb(drawing: Drawing) -> float:
    return drawing_mb(drawing.image, drawing.pair.reading, maps=2)


def drawing_mb(image: Path, reading: Reading, *, maps: int) -> float:
    """The memory in MB to draw a case: Python with its libraries, the image, a mask of it, and `maps` label maps."""
    return 300 + (9 + 2 * maps) * prod(read_grid(image, reading).shape) / (1 << 20)


def read_on(
    image: Volume, path: Path, labels: LabelSet, *, values: Mapping[int, int] | None = None, reading: Reading = STRICT
) -> Volume:
    """Read a label map. Raises GeometryError where it does not lie on the grid of `image`."""
    volume = read_labels(path, labels, values=values, reading=reading)
    if not volume.grid.is_near(image.grid):
        raise GeometryError(path, found=f"another grid, shape {volume.grid.shape}", expected="the grid of the image")
    return volume


def _caption(name: str, metrics: Metrics) -> str:
    mean = mean_score(metrics.cases[name])
    return f"{name}: mean DSC {format_score(mean.dsc)}"


def _rank(name: str, metrics: Metrics) -> tuple[float, str]:
    mean = mean_score(metrics.cases[name]).dsc
    return (2.0 if mean is None else mean, name)
