"""The content of a page as plain data, in reading order. Each part is shown by the template named by its `kind`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from matplotlib.figure import Figure
from rich.table import Table as RichTable
from rich.text import Text as RichText

HALF_INCHES = 6.4

SHORT_LIST = 10


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    best   whether it is bold
    bad    whether it is red
    share  0 to 1, drawn as a bar behind the words; None: no bar
    """

    text: str
    best: bool = False
    bad: bool = False
    share: float | None = None


@dataclass(frozen=True)
class Heading:
    text: str
    span: int = 1


@dataclass(frozen=True)
class Table:
    """A table.

    name    the name of its files
    head    the rows of headings
    rows    the rows of cells
    foot    the rows of cells below a line
    words   the indices of the text columns, which are aligned to the left
    notes   sentences below the table
    folded  whether it is closed at first
    """

    kind: ClassVar = "table"
    name: str
    title: str
    head: tuple[tuple[Heading, ...], ...]
    rows: tuple[tuple[Cell, ...], ...]
    foot: tuple[tuple[Cell, ...], ...] = ()
    words: frozenset[int] = frozenset({0})
    notes: tuple[str, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Words:
    """Paragraphs.

    bad  whether they report something wrong
    """

    kind: ClassVar = "words"
    lines: tuple[str, ...]
    bad: bool = False


@dataclass(frozen=True)
class Listing:
    """A list that a reader can close; a long one is closed at first."""

    kind: ClassVar = "listing"
    title: str
    lines: tuple[str, ...]
    bad: bool = False

    @property
    def is_short(self) -> bool:
        return len(self.lines) <= SHORT_LIST


@dataclass(frozen=True, eq=False)
class Chart:
    """A vector chart.

    name  the name of its files, which page.write_files makes safe
    """

    kind: ClassVar = "chart"
    name: str
    caption: str
    figure: Figure

    @property
    def is_half(self) -> bool:
        """Whether two of them have room side by side."""
        return self.figure.get_figwidth() <= HALF_INCHES


@dataclass(frozen=True)
class Picture:
    """A picture.

    data   the bytes of its file
    type   the type of that file, as in "image/png"
    files  file ending -> bytes of the files written next to the page; empty: `data` is written
    """

    name: str
    caption: str
    data: bytes = field(repr=False)
    type: str = "image/png"
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Gallery:
    """Pictures one below the other.

    small    whether they are thumbnails, side by side
    colours  as in Browser, for a legend
    """

    kind: ClassVar = "gallery"
    pictures: tuple[Picture, ...]
    small: bool = False
    colours: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Strip:
    """Slices of one case, tiled in one picture.

    z        the index of each slice in the scan, from 0 at the feet
    start    the index in `z` of the slice that is shown first
    columns  how many slices stand in a row of the picture
    width    of a slice, in pixels
    height   of a slice, in pixels
    image    the slices without labels
    layers   title -> the labels of the slices, transparent elsewhere
    """

    case: str
    caption: str
    z: tuple[int, ...]
    start: int
    columns: int
    width: int
    height: int
    image: Picture
    layers: Mapping[str, Picture]


@dataclass(frozen=True)
class Browser:
    """Slices of cases to browse.

    colours  label name -> its colour, as in "#b5493a"
    """

    kind: ClassVar = "browser"
    strips: tuple[Strip, ...]
    colours: Mapping[str, str]


Part = Table | Words | Listing | Chart | Gallery | Browser


@dataclass(frozen=True)
class Section:
    """A heading and the parts below it.

    name  its anchor in the page
    """

    name: str
    title: str
    parts: tuple[Part, ...]


def plain_table(name: str, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], **more) -> Table:
    """A table of plain text; `more` are further fields of Table."""
    cells = tuple(tuple(Cell(text) for text in row) for row in rows)
    return Table(name, title, (tuple(Heading(text) for text in head),), cells, **more)


def from_terminal(name: str, table: RichTable, **more) -> Table:
    """The Table for a table that is printed on a terminal; `more` are further fields of Table."""
    words = frozenset(at for at, column in enumerate(table.columns) if column.justify == "left")
    head = tuple(_words(column.header) for column in table.columns)
    rows = list(zip(*([_words(cell) for cell in column.cells] for column in table.columns)))
    title = _words(table.title)
    return plain_table(name, title[:1].upper() + title[1:], head, rows, words=words, **more)


def _words(cell: object) -> str:
    return RichText.from_markup(cell).plain if isinstance(cell, str) else str(cell or "")
