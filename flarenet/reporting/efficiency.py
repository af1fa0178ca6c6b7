"""The cost of prediction by case, as in the paper's Table 7: time, memory and the area under its curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from ..evaluation.efficiency import TOLERATED_MB, TOLERATED_S, CaseCost, Efficiency
from .charts import Points, lines
from .content import Cell, Chart, Heading, Listing, Part, Section, Table, Words, plain_table
from .published import MARK, PublishedCase

Costs = Mapping[str, Efficiency]
"""Model name -> the cost of its predictions."""

ON_A_GPU = {"gpu_peak_mb": "GPU peak (MB)", "gpu_area_mb_s": "GPU area (MB s)"}
COLUMNS = {"seconds": "time (s)", **ON_A_GPU, "cpu_percent": "CPU (%)", "peak_rss_mb": "RAM peak (MB)"}
"""The numbers of a case -> their headings."""

TOLERATED = {"seconds": TOLERATED_S, "gpu_peak_mb": TOLERATED_MB}
TOTALS = ("seconds", "gpu_area_mb_s", "gpu_peak_mb", "peak_rss_mb")
"""The numbers that are also given for all cases together: sums, as in the challenge, and the largest peaks."""


def efficiency_section(costs: Costs, *, published: Sequence[PublishedCase] = ()) -> Section:
    """Table 7 for one or more models, memory over time, and the paper's own rows where they are given."""
    on_a_gpu = any(cost.gpu_peak_mb is not None for each in costs.values() for cost in each.cases.values())
    failed = tuple(
        Listing(f"{name}: {len(each.failed)} failed", tuple(f"{c}: {why}" for c, why in each.failed.items()), bad=True)
        for name, each in costs.items()
        if each.failed
    )
    parts: list[Part] = [_about(costs, on_a_gpu), *failed, _table(costs, on_a_gpu), *_curves(costs)]
    if published:
        parts.append(_published(published))
    return Section("efficiency", "Efficiency", tuple(parts))


def _about(costs: Costs, on_a_gpu: bool) -> Words:
    devices = "; ".join(f"{name}: {each.device}, {len(each.cases)} cases" for name, each in costs.items())
    meaning = "One process per case, from its start to the written file."
    if on_a_gpu:
        meaning += " GPU memory: that of the whole device in use; area: its sum over time."
    return Words((f"{devices}.", meaning))


def _table(costs: Costs, on_a_gpu: bool) -> Table:
    columns = {field: words for field, words in COLUMNS.items() if on_a_gpu or field not in ON_A_GPU}
    cases = {case: cost for each in costs.values() for case, cost in each.cases.items()}
    rows = tuple(
        (
            Cell(case),
            Cell(_size(cost.size)),
            *(_cell(each.cases.get(case), f) for each in costs.values() for f in columns),
        )
        for case, cost in sorted(cases.items(), key=lambda item: (item[1].size[2], item[0]))
    )
    compared = _compared(costs)
    n = max(len(each.cases) for each in compared.values())
    means = {name: {field: mean_of(each, field) for field in columns} for name, each in compared.items()}
    best = {field: _least(means[name][field] for name in means) for field in columns}
    foot = (
        (
            Cell(f"mean, n = {n}"),
            Cell(""),
            *(_number(row[f], best=row[f] == best[f]) for row in means.values() for f in columns),
        ),
        (
            Cell(f"sum, of peaks the largest, n = {n}"),
            Cell(""),
            *(_total(each, field) for each in compared.values() for field in columns),
        ),
    )
    head = (
        (Heading(""), Heading(""), *(Heading(name, len(columns)) for name in costs)),
        (Heading("case"), Heading("size"), *(Heading(words) for _ in costs for words in columns.values())),
    )
    notes = [f"Red: more than the {TOLERATED_S:g} s or the {TOLERATED_MB:g} MB that the FLARE challenges tolerate."]
    if len(costs) > 1:
        notes.append("Below the line: the n cases that all models finished. Bold: the least on average.")
    return Table("efficiency", "Cost of a case", head, rows, foot, notes=tuple(notes))


def _compared(costs: Costs) -> Costs:
    """Costs over the cases that every model with results finished, so that an extra easy case helps no model."""
    finished = [set(each.cases) for each in costs.values() if each.cases]
    shared = set.intersection(*finished) if finished else set()
    return {
        name: each.model_copy(update={"cases": {case: cost for case, cost in each.cases.items() if case in shared}})
        for name, each in costs.items()
    }


def mean_of(efficiency: Efficiency, field: str) -> float | None:
    """The mean of the field over the cases that have it; None where none has."""
    numbers = _numbers(efficiency, field)
    return mean(numbers) if numbers else None


def _total(efficiency: Efficiency, field: str) -> Cell:
    if field not in TOTALS:
        return Cell("")
    return _number(getattr(efficiency.totals, field) if efficiency.cases else None)


def _numbers(efficiency: Efficiency, field: str) -> list[float]:
    found = (getattr(cost, field) for cost in efficiency.cases.values())
    return [number for number in found if number is not None]


def _cell(cost: CaseCost | None, field: str) -> Cell:
    number = None if cost is None else getattr(cost, field)
    return _number(number, bad=number is not None and number > TOLERATED.get(field, number))


def _number(number: float | None, *, best: bool = False, bad: bool = False) -> Cell:
    if number is None:
        return Cell("-")
    return Cell(f"{number:.2f}" if number < 100 else f"{number:.0f}", best=best, bad=bad)


def _least(numbers: Iterable[float | None]) -> float | None:
    """The least of `numbers`; None where fewer than two are not None."""
    there = [number for number in numbers if number is not None]
    return min(there) if len(there) > 1 else None


def _size(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _curves(costs: Costs) -> Iterable[Chart]:
    """Memory over time, a line per case; no chart where nothing was sampled."""
    kinds = {"gpu_mb": ("GPU memory", (TOLERATED_MB, "tolerated")), "rss_mb": ("Main memory", None)}
    for field, (words, limit) in kinds.items():
        drawn = {name: list(_sampled(each, field)) for name, each in costs.items()}
        if any(drawn.values()):
            figure = lines(
                {name: curves for name, curves in drawn.items() if curves},
                x="time since the start (s)",
                y=f"{words} (MB)",
                limit=limit,
                ylim=(0, None),
                xlim=(0, None),
            )
            yield Chart(f"efficiency_{field}", f"{words} of each case as it is predicted; a line is a case.", figure)


def _sampled(efficiency: Efficiency, field: str) -> Iterable[Points]:
    for cost in efficiency.cases.values():
        points = [(sample.at_s, getattr(sample, field)) for sample in cost.samples]
        if points := [point for point in points if point[1] is not None]:
            yield points


def _published(cases: Sequence[PublishedCase]) -> Table:
    rows = [
        (each.case, _size(each.size), f"{each.seconds:.2f}", f"{each.gpu_peak_mb:.0f}", f"{each.gpu_area_mb_s:.0f}")
        for each in cases
    ]
    head = ("case", "size", COLUMNS["seconds"], *ON_A_GPU.values())
    title = f"{MARK} published, Table 7"
    note = f"{MARK} As published, of other cases on another machine: for orientation only."
    return plain_table("efficiency_published", title, head, rows, notes=(note,))
