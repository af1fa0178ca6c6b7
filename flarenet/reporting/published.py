"""The numbers published in the paper, to show next to one's own; they are of other cases and not comparable."""

from __future__ import annotations

from importlib.resources import as_file, files

from ..errors import DatasetError
from ..schema import Frozen, load

Printed = tuple[float, ...]
"""A mean in percent and, where it was printed, its standard deviation."""

MARK = "†"


class PublishedPair(Frozen):
    dsc: Printed
    nsd: Printed


class PublishedScores(Frozen):
    """A pair of columns of one of the paper's tables.

    dsc, nsd  label, named as label_table.plain writes names -> the printed numbers
    average   the printed numbers over all labels
    """

    table: int
    name: str
    dsc: dict[str, Printed]
    nsd: dict[str, Printed]
    average: PublishedPair


class PublishedCase(Frozen):
    """A row of the paper's table 7.

    size  (x, y, z) in voxels
    """

    case: str
    size: tuple[int, int, int]
    seconds: float
    gpu_peak_mb: float
    gpu_area_mb_s: float


class Published(Frozen):
    source: str
    columns: tuple[PublishedScores, ...]
    efficiency: tuple[PublishedCase, ...]


def published() -> Published:
    with as_file(files("flarenet.reporting") / "published.json") as path:
        return load(Published, path, DatasetError)
