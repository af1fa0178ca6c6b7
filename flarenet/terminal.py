"""Tables on a terminal, all in one style, with the notes and failures below them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

WIDTH_WITHOUT_TERMINAL = 160
"""Characters of a line that goes to a file or a pipe."""


class _Words(Table):
    """A table of literal text: "lesion [benign]" must not be read as rich markup for a style called 'benign'."""

    def add_row(self, *cells: RenderableType | None, **how: Any) -> None:
        super().add_row(*(escape(cell) if isinstance(cell, str) else cell for cell in cells), **how)


def new_table(title: str, *names: str, show_lines: bool = False) -> Table:
    """An empty table with a column for each of `names`. A name that begins with ">" aligns its column to the right.

    A cell that is too long for its column is wrapped, so that nothing is cut off. Title, names and cells are escaped
    and so printed literally; the console that prints the table must have markup enabled.
    """
    table = _Words(title=escape(title), title_justify="left", show_lines=show_lines)
    for name in names:
        shown = escape(name.removeprefix(">"))
        table.add_column(shown, justify="right" if name.startswith(">") else "left", overflow="fold")
    return table


def show(*tables: Table, notes: Iterable[str] = (), failed: Mapping[str, str] = {}) -> None:
    """Print tables to stdout, then a line for each note and for each entry {what failed: why}."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)
    for table in tables:
        console.print(table)
    for note in notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    for what, reason in failed.items():
        console.print(f"failed: {what}: {reason}", markup=False)
