import html
import json
import re

import pytest
from matplotlib.image import imread

from flarenet.reporting.charts import box_plots, inline_svg
from flarenet.reporting.content import (
    Browser,
    Cell,
    Chart,
    Gallery,
    Heading,
    Listing,
    Picture,
    Section,
    Strip,
    Table,
    Words,
)
from flarenet.reporting.page import write_files, write_page
from tests.reporting.chromium import ask

PICTURE = Picture("picture", "a <b> picture", b"\x89PNG picture")
WIDE = Table(
    "wide",
    "A wide table",
    (tuple(Heading(f"a long heading {number}") for number in range(12)),),
    (
        (
            Cell("<script>alert(1)</script>"),
            *(Cell(f"{number}.25", best=number == 3, share=0.5) for number in range(11)),
        ),
    ),
)


def _chart() -> Chart:
    return Chart("boxes", "boxes", box_plots({"liver": {"A": [90.0, 80.0]}}, axis="DSC (%)"))


STRIP = Strip("first", "first: DSC 90.00", (3, 6, 9), 1, 2, 20, 10, PICTURE, {"ground truth": PICTURE, "A": PICTURE})
SECTIONS = [
    Section("one", "One & only", (Words(("some words",)), WIDE, Listing("a list", ("x" * 200,)))),
    Section("two", "Two", (_chart(),)),
    Section("three", "Three", (Gallery((PICTURE,)), Browser((STRIP,), {"liver": "#b5493a"}))),
]


def _page(tmp_path) -> str:
    write_page(tmp_path / "page.html", "A & B <c>", SECTIONS)
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_comes_from_data_is_escaped(tmp_path):
    page = _page(tmp_path)
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "A &amp; B &lt;c&gt;" in page and 'alt="a &lt;b&gt; picture"' in page


@pytest.mark.parametrize("name", ["a/../../x", "/x", '" onload="alert(1)', "x" * 300, "肝脏 <b>"])
def test_a_name_from_data_stays_in_its_folder_and_in_its_attribute(tmp_path, name):
    chart = Chart(name, "a chart", box_plots({"liver": {"A": [90.0]}}, axis="DSC (%)"))
    picture, table = Picture(name, "a picture", b"PNG", "image/webp"), Table(name, "a table", ((Heading("a"),),), ())
    sections = [Section("one", "One", (chart, Gallery((picture,)), table))]
    files = tmp_path / "report" / "files"
    write_files(files, sections)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in written} == {files}
    assert {path.suffix for path in written} == {".svg", ".png", ".webp", ".csv", ".tex"}
    write_page(tmp_path / "page.html", "title", sections)
    labels = re.findall(r'<svg [^>]*aria-label="([^"]*)">', (tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [html.unescape(label) for label in labels] == [name]


def test_nothing_is_fetched(tmp_path):
    page = _page(tmp_path)
    assert "default-src 'none'" in page
    assert all(source.startswith("data:image/") for source in re.findall(r'\bsrc="([^"]+)', page))
    assert all(target.startswith("#") for target in re.findall(r'\bhref="([^"]+)', page))
    assert not re.search(r"<link|@import|url\((?!#)|\bfetch\(|XMLHttpRequest|<iframe|srcset", page)


def test_the_same_sections_give_the_same_page(tmp_path):
    assert _page(tmp_path) == _page(tmp_path)
    assert inline_svg(_chart()) == inline_svg(_chart())  # of which each is drawn


def test_names_in_charts_are_no_formulas():
    assert "$_$ liver" in inline_svg(Chart("a", "a", box_plots({"$_$ liver": {"A$_$": [90.0]}}, axis="DSC")))


def test_a_chart_is_drawn_once_as_svg_for_its_file_on_white(tmp_path, monkeypatch):
    chart, drawn = _chart(), []
    draw = chart.figure.savefig
    monkeypatch.setattr(
        chart.figure, "savefig", lambda where, format, **how: drawn.append(format) or draw(where, format=format, **how)
    )
    sections = [Section("one", "One", (chart,))]
    write_files(tmp_path, sections)
    write_page(tmp_path / "page.html", "title", sections)
    assert drawn == ["svg", "png"]
    ground = r'<path d="M 0 259.2 [^"]*" style="fill: ([^"]*)"'
    files = (tmp_path / "boxes.svg", tmp_path / "page.html")
    assert [re.search(ground, path.read_text()).group(1) for path in files] == ["#ffffff", "none"]


def test_charts_take_the_ink_of_the_page(tmp_path):
    drawing = _page(tmp_path).partition("<svg")[2].partition("</svg>")[0]
    assert "currentColor" in drawing and "#1b1f24" not in drawing and "DSC (%)" in drawing


def test_files_lie_beside(tmp_path):
    write_files(tmp_path, SECTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("boxes.png", "boxes.svg", "picture.png", "wide.csv", "wide.tex")
    ]
    assert imread(tmp_path / "boxes.png")[0, 0].tolist() == [1, 1, 1, 1]
    assert "#1b1f24" in (tmp_path / "boxes.svg").read_text()


def test_a_phone_scrolls_down_only_and_wide_tables_within_themselves(tmp_path):
    _page(tmp_path)
    assert ask(tmp_path / "page.html", "document.documentElement.scrollWidth", width=390) == "390"
    assert int(ask(tmp_path / "page.html", "document.querySelector('table').offsetWidth")) > 390


def test_only_short_lists_are_open(tmp_path):
    lists = (Listing("short", ("x",) * 10), Listing("long", ("x",) * 11))
    write_page(tmp_path / "page.html", "title", [Section("lists", "Lists", lists)])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.index("<details open><summary><h3>short") < page.index("<details><summary><h3>long")


def test_light_and_dark(tmp_path):
    _page(tmp_path)
    style = "getComputedStyle(document.querySelector('svg text') || document.querySelector('svg')).color"
    paper = "getComputedStyle(document.body).backgroundColor"
    told = [ask(tmp_path / "page.html", f"{style} + ' on ' + {paper}", dark=dark) for dark in (False, True)]
    assert told == ["rgb(27, 31, 36) on rgb(255, 255, 255)", "rgb(230, 233, 237) on rgb(20, 23, 27)"]


def test_slices_are_leafed_through(tmp_path):
    _page(tmp_path)
    steps = """(() => {
        const said = [], find = (name) => document.querySelector('.browser .' + name);
        const look = () => said.push(find('place').textContent, find('stage').lastChild.style.transform,
                                     find('stage').lastChild.style.opacity);
        look();
        find('slice').value = 2; find('slice').dispatchEvent(new Event('input')); look();
        find('slice').dispatchEvent(new KeyboardEvent('keydown', {key: 'l', bubbles: true})); look();
        return JSON.stringify([document.querySelectorAll('.panel').length, ...said]).replaceAll('"', "'");
    })()"""
    assert json.loads(ask(tmp_path / "page.html", steps).replace("'", '"')) == [
        2,
        *("z = 6", "translate(-50%, 0%)", "0.55"),
        *("z = 9", "translate(0%, -50%)", "0.55"),
        *("z = 9", "translate(0%, -50%)", "0"),
    ]
