"""Tables on a terminal, all of one look."""

from __future__ import annotations

from rich.table import Table


def new_table(title: str, *names: str, show_lines: bool = False) -> Table:
    """An empty table with a column for each of `names`. A name that begins with ">" aligns its column to the right.

    A cell that is too long for its column goes on in the next line, so that nothing is cut off.
    """
    table = Table(title=title, title_justify="left", show_lines=show_lines)
    for name in names:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    return table
