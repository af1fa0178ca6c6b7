"""Charts: in the page in the colour of its text, as files dark on white."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from ..planning.measuring.measure import percentile
from ..whole import whole_file
from .content import Chart

INK = "#1b1f24"
"""Stands for the text colour of the page, dark or light, which replaces it there."""

COLOURS = ("#3b82c4", "#e0862a", "#3c9d63", "#b066d0", "#d14b57", "#8a7a2f", "#2aa5a5", "#c2679a")
"""The colours of models and cohorts, in order and repeated; they are visible on white and on black."""

MOST_POINTS = 60
"""The most cases of a box that are drawn as single points."""

FEW_POINTS, FEW_LINES = 30, 3
"""A line of up to so many points has markers; a group of up to so many lines is opaque."""

LEGEND_LETTERS = 60
"""The characters of a legend line that fit into the narrowest chart."""

ACROSS = 4
"""How many histograms stand side by side."""

SMALLEST, SMALLEST_OF_HALF = 0.65, 0.58
"""The scale to which a chart, or one of half width, shrinks before it scrolls: its text stays readable, and a narrow
one fits a phone's 390 pixels."""

MOST_CHARTS = 100
"""How many charts keep their SVG in memory; a page has fewer."""

_STYLE: Any = {
    **{f"{what}.color": INK for what in ("text", "xtick", "ytick")},
    **{"axes.edgecolor": INK, "axes.labelcolor": INK, "axes.facecolor": "none", "figure.facecolor": "none"},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "font.size": 9.5},
    **{"legend.frameon": False, "grid.color": "#808080", "grid.alpha": 0.25, "svg.fonttype": "none"},
    "text.parse_math": False,  # a name may hold any characters
}
NO_METADATA: Any = {"Date": None, "Creator": None, "Format": None, "Type": None}

Points = Sequence[tuple[float, float]]


def colour_at(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def inline_svg(chart: Chart) -> str:
    """The chart as an <svg> in the text colour of the page; the same chart gives the same SVG.

    It shrinks with the page, down to a scale at which its text can still be read.
    """
    text = _svg(chart)
    drawing = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<defs>") :].replace(INK, "currentColor"))
    width, height = (72 * inches for inches in chart.figure.get_size_inches())
    smallest = SMALLEST_OF_HALF if chart.is_half else SMALLEST
    size = f'viewBox="0 0 {width:g} {height:g}" style="max-width: {width:.0f}pt; min-width: {smallest * width:.0f}pt"'
    return f'<svg {size} role="img" aria-label="{html.escape(chart.name)}">{drawing}'


def save_chart(chart: Chart, path: Path) -> None:
    """Write `path`.svg and `path`.png, on white."""
    with whole_file(path.with_name(f"{path.name}.svg")) as temporary:
        # the first fill is the background, which is transparent in the page
        temporary.write_text(_svg(chart).replace("fill: none", "fill: #ffffff", 1), encoding="utf-8")
    with whole_file(path.with_name(f"{path.name}.png")) as temporary:
        chart.figure.savefig(temporary, format="png", dpi=200, facecolor="white")


def box_plots(scores: Mapping[str, Mapping[str, Sequence[float]]], *, axis: str) -> Figure:
    """A group of boxes per label, with a box per model: quartiles and median, whiskers to at most 1.5 times the
    interquartile range, and the cases as points where they are few.

    scores  label -> model -> the scores of its cases, 0 to 100
    """
    models = list(dict.fromkeys(model for boxes in scores.values() for model in boxes))
    step = 0.8 / max(len(models), 1)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(max(6.0, 1.2 + len(scores) * (0.35 + 0.25 * len(models))), 3.6)
        for number, model in enumerate(models):
            places = np.arange(len(scores)) + (number - (len(models) - 1) / 2) * step
            boxes = [list(row.get(model, ())) for row in scores.values()]
            _boxes(axes, boxes, places, 0.8 * step, colour_at(number), model)
        axes.set(ylabel=axis, ylim=(-3, 103), xlim=(-0.6, len(scores) - 0.4))
        axes.set_xticks(range(len(scores)), list(scores), rotation=35, ha="right", rotation_mode="anchor")
        axes.grid(axis="y")
        _legend(axes, models)
    return figure


def _boxes(axes: Axes, boxes: list[list[float]], places: np.ndarray, width: float, colour: str, model: str) -> None:
    many = max(map(len, boxes), default=0) > MOST_POINTS
    line = {"color": colour, "linewidth": 1.2}
    axes.boxplot(
        boxes,
        positions=places,
        widths=width,
        manage_ticks=False,
        patch_artist=True,
        showfliers=many,
        boxprops={"facecolor": f"{colour}40", "edgecolor": colour},
        medianprops={"color": INK, "linewidth": 1.6},
        whiskerprops=line,
        capprops=line,
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour},
    )
    for values, place in zip([] if many else boxes, places):
        spread = np.linspace(-0.3, 0.3, len(values)) * width if len(values) != 1 else 0.0
        axes.plot(place + spread, values, ".", color=colour, markersize=4)
    axes.plot([], [], "s", color=colour, label=model)


def scatter(groups: Mapping[str, Points], *, x: str, y: str, log_x: bool = False, **limits: Any) -> Figure:
    """Points by group, each group in its own colour; more than 500 points become one bitmap.

    groups  name -> its points (x, y)
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(6.4, 3.8)
        many = sum(map(len, groups.values())) > 500
        for number, (name, points) in enumerate(groups.items()):
            xs, ys = zip(*points) if points else ((), ())
            axes.scatter(xs, ys, s=14, alpha=0.75, color=colour_at(number), label=name, rasterized=many)
        if log_x:
            axes.set_xscale("log")
            plain = FuncFormatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_major_formatter(plain)
            if max(found := [point[0] for points in groups.values() for point in points]) < 10 * min(found):
                axes.xaxis.set_minor_formatter(plain)  # there may be no power of ten to read
            else:
                axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=x, ylabel=y, **limits)
        axes.grid()
        _legend(axes, groups)
    return figure


def lines(
    groups: Mapping[str, Sequence[Points]], *, x: str, y: str, limit: tuple[float, str] | None = None, **limits: Any
) -> Figure:
    """Lines by group, the lines of a group in one colour; a line of one point is a dot.

    groups  name -> its lines, each a sequence of points (x, y)
    limit   a y value to mark, and its text
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(6.4, 3.8)
        for number, (name, members) in enumerate(groups.items()):
            for at, points in enumerate(members):
                axes.plot(
                    *zip(*points),
                    color=colour_at(number),
                    linewidth=1.4,
                    marker="." if len(points) <= FEW_POINTS else None,
                    alpha=1 if len(members) <= FEW_LINES else 0.5,
                    label="_" if at else name,
                )
        if limit is not None:
            axes.axhline(limit[0], color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.text(1, limit[0], limit[1], ha="right", va="bottom", transform=axes.get_yaxis_transform())
        axes.set(xlabel=x, ylabel=y, **limits)
        axes.grid()
        _legend(axes, groups)
    return figure


def ranges(rows: Mapping[str, Mapping[str, tuple[float, float, float]]], *, x: str) -> Figure:
    """Ranges as bars with a mark: a row per label, with a bar per group.

    rows  label -> group -> (lowest, middle, highest)
    """
    groups = list(dict.fromkeys(group for row in rows.values() for group in row))
    step = 0.8 / max(len(groups), 1)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(6.4, 0.9 + len(rows) * (0.16 + 0.13 * len(groups)))
        for number, group in enumerate(groups):
            found = {at: row[group] for at, row in enumerate(rows.values()) if group in row}
            places = [at + (number - (len(groups) - 1) / 2) * step for at in found]
            low, middle, high = zip(*found.values())
            axes.hlines(places, low, high, color=colour_at(number), linewidth=3, alpha=0.6, label=group)
            axes.plot(middle, places, "|", color=INK, markersize=6)
        axes.set(xlabel=x, ylim=(len(rows) - 0.4, -0.6))
        axes.set_yticks(range(len(rows)), list(rows))
        axes.grid(axis="x")
        _legend(axes, groups)
    return figure


def histograms(rows: Mapping[str, Mapping[str, np.ndarray]], values: np.ndarray, *, x: str) -> Figure:
    """Axes per label, each with a curve per group, scaled so that the curves enclose the same area. The range shown
    holds 99 % of the counts of every label.

    rows    label -> group -> counts [B]
    values  the middles of the bins [B]
    """
    groups = list(dict.fromkeys(group for row in rows.values() for group in row))
    counted = [np.sum(list(row.values()), axis=0) for row in rows.values()]
    low = min(percentile(counts, values, 0.5) for counts in counted)
    high = max(percentile(counts, values, 99.5) for counts in counted)
    down = max(1, -(-len(rows) // ACROSS))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.6, 0.7 + 1.5 * down), layout="constrained")
        every = figure.subplots(down, ACROSS, sharex=True, squeeze=False).ravel()
        for axes, (label, row) in zip(every, rows.items()):
            for group, counts in row.items():
                axes.plot(values, counts / counts.sum(), color=colour_at(groups.index(group)), linewidth=1.3)
            axes.set(title=label, xlim=(low, high), ylim=(0, None), yticks=[])
            axes.grid(axis="x")
        for axes in every[len(rows) :]:
            axes.remove()
        for axes in every[max(0, len(rows) - ACROSS) : len(rows)]:  # the axes with nothing below them
            axes.tick_params(labelbottom=True)
        figure.supxlabel(x, fontsize=9)
        handles = [Line2D([], [], color=colour_at(number), label=group) for number, group in enumerate(groups)]
        figure.legend(handles=handles, loc="outside upper left", ncols=8)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _legend(axes: Axes, names: Any) -> None:
    """A legend above the axes, where it hides nothing; none for a single name."""
    if len(names) > 1:
        ncols = max(1, LEGEND_LETTERS // (4 + max(map(len, names))))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=ncols, borderaxespad=0, handletextpad=0.3)


@lru_cache(MOST_CHARTS)
def _svg(chart: Chart) -> str:
    """The chart as SVG without a background; rendered once, for the page and for its file."""
    text = io.StringIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": chart.name}):
        chart.figure.savefig(text, format="svg", metadata=NO_METADATA, facecolor="none")
    return text.getvalue()
