"""Tables as text for files: CSV for programs, LaTeX (booktabs) for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from .content import Cell, Heading, Table

PLUS_MINUS = " ± "
_ESCAPED = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"±": r"$\pm$", "†": r"$\dagger$", "<": "$<$", ">": "$>$"},
    }
)


def to_csv(table: Table) -> str:
    """The table as CSV: one line of headings, then rows and foot; "mean ± sd" becomes two columns."""
    names = [" ".join(filter(None, column)) for column in zip(*map(_spread, table.head))]
    rows = [[cell.text for cell in row] for row in (*table.rows, *table.foot)]
    split = [any(PLUS_MINUS in row[at] for row in rows) for at in range(len(names))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([part for name, two in zip(names, split) for part in ((name, f"{name} sd") if two else (name,))])
    for row in rows:
        writer.writerow([part for words, two in zip(row, split) for part in (_halves(words) if two else (words,))])
    return text.getvalue()


def to_latex(table: Table) -> str:
    """The table as a LaTeX tabular with booktabs rules, the best in bold; title and notes are comments above it."""
    columns = "".join("l" if at in table.words else "r" for at in range(len(_spread(table.head[-1]))))
    lines = [*(f"% {words}" for words in (table.title, *table.notes)), rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [_line([_heading(heading) for heading in row]) for row in table.head]
    for rows in filter(None, (table.rows, table.foot)):
        lines += [r"\midrule", *(_line([_cell(cell) for cell in row]) for row in rows)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _spread(headings: Sequence[Heading]) -> list[str]:
    return [heading.text for heading in headings for _ in range(heading.span)]


def _halves(words: str) -> tuple[str, str]:
    mean, _, sd = words.partition(PLUS_MINUS)
    return mean, sd


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _heading(heading: Heading) -> str:
    text = heading.text.translate(_ESCAPED)
    return text if heading.span == 1 else rf"\multicolumn{{{heading.span}}}{{c}}{{{text}}}"


def _cell(cell: Cell) -> str:
    text = cell.text.translate(_ESCAPED)
    return rf"\textbf{{{text}}}" if cell.best else text
