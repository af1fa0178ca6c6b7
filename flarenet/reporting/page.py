"""Write sections as one self-contained HTML file, and their tables, charts and pictures as files for use elsewhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from .. import __version__
from ..whole import whole_file, write_text
from .charts import inline_svg, save_chart
from .content import Browser, Chart, Gallery, Picture, Section, Strip, Table
from .tables import to_csv, to_latex

LONGEST_NAME = 100


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the HTML file `path`. Text from data is escaped."""
    environment = Environment(
        loader=PackageLoader("flarenet.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"svg": inline_svg, "uri": _uri, "strips": _strips, "percent": _percent}
    page = environment.get_template("page.html")
    write_text(path, page.render(title=title, sections=sections, version=__version__))


def write_files(folder: Path, sections: Sequence[Section]) -> None:
    """Write tables as CSV and LaTeX, charts as SVG and PNG, pictures (not thumbnails) as they are, under safe names."""
    for part in (part for section in sections for part in section.parts):
        if isinstance(part, Table):
            write_text(folder / f"{_plain(part.name)}.csv", to_csv(part))
            write_text(folder / f"{_plain(part.name)}.tex", to_latex(part))
        elif isinstance(part, Chart):
            save_chart(part, folder / _plain(part.name))
        elif isinstance(part, Gallery) and not part.small:
            for picture in part.pictures:
                for ending, content in (picture.files or {picture.type.partition("/")[2]: picture.data}).items():
                    with whole_file(folder / f"{_plain(picture.name)}.{ending}") as temporary:
                        temporary.write_bytes(content)


def _plain(name: str) -> str:
    """A safe file name from `name`, which may come from data: it cannot lead to another folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:LONGEST_NAME]


def _uri(picture: Picture) -> str:
    return f"data:{picture.type};base64,{base64.b64encode(picture.data).decode('ascii')}"


def _strips(browser: Browser) -> list[dict]:
    """The data that the script in the page needs to show slices."""
    return [_strip(strip) for strip in browser.strips]


def _strip(strip: Strip) -> dict:
    return {
        "case": strip.case,
        "caption": strip.caption,
        "z": strip.z,
        "start": strip.start,
        "columns": strip.columns,
        "rows": -(-len(strip.z) // strip.columns),
        "aspect": f"{strip.width} / {strip.height}",
        "image": _uri(strip.image),
        "layers": [
            [title, _uri(layer)] for title, layer in strip.layers.items()
        ],  # in order, which a JSON object loses
    }


def _percent(share: float) -> int:
    return round(100 * share)
