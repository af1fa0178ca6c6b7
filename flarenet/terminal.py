"""Tables on a terminal, all in one style."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table


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
