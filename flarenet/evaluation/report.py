"""The report of an evaluation: one HTML file that opens anywhere, without a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..whole import write_text
from .tables import Metrics, mean_score, shown


def write_report(path: Path, metrics: Metrics, pictures: Mapping[str, Path], *, title: str) -> None:
    """Write the HTML file `path`: class, group and case tables, failures and notes.

    pictures  caption -> PNG file, shown in this order and embedded; may be empty
    """
    environment = Environment(
        loader=PackageLoader("flarenet.evaluation", "."), autoescape=True, undefined=StrictUndefined
    )
    embedded = {name: base64.b64encode(png.read_bytes()).decode("ascii") for name, png in pictures.items()}
    page = environment.get_template("report.html").render(
        title=title, metrics=metrics, pictures=embedded, shown=shown, mean_score=mean_score, share=_share
    )
    write_text(path, page)


def _share(value: float | None) -> int:
    """A score as the percentage of a cell that its bar fills."""
    return 0 if value is None else round(100 * value)
