"""What sources say about cases and what becomes of it: a small JSON file for each case, and one report with a table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from ..data.labels import LabelSet
from ..planning.pseudo_rules import PseudoRules
from ..schema import Frozen, as_saved, load_or_none, save
from ..terminal import new_table
from ..whole import remove_leftovers


class Looked(Frozen):
    """What the sources say about a case, before any filter but for lesions that are too small. Labels by name.

    key     stands for the case, the sources and the least size
    scores  group -> label that nobody looked for and a source names -> mean Dice between the sources; no group without
            such a label, nor where there is one source
    hosts   lesion that people drew -> organ, or "background" for none -> share of its lesions that lie there
    """

    key: str
    scores: dict[str, dict[str, float]]
    hosts: dict[str, dict[str, float]]

    def score(self, group: str) -> float:
        """The mean over the labels of a group that has scores."""
        return sum(self.scores[group].values()) / len(self.scores[group])


class Fate(Frozen):
    """What became of the pseudo labels of a case. Labels by name; "no GROUP" where most sources see none of a group.

    key      stands for the case, the sources and all that decides
    dropped  the groups whose pseudo labels are not used
    voxels   label -> what most sources say    hidden  filter -> label -> how many of these voxels it took away
    """

    key: str
    dropped: tuple[str, ...]
    voxels: dict[str, int]
    hidden: dict[str, dict[str, int]]


class Report(Frozen):
    """What report.json holds.

    hosts   lesion -> the organs in which it is believed; a lesion that is not named, anywhere
    scores  case -> group -> the mean of its scores
    """

    teachers: dict[str, str]
    rules: PseudoRules
    hosts: dict[str, tuple[str, ...]]
    scores: dict[str, dict[str, float]]
    cases: dict[str, Fate]


Kept = TypeVar("Kept", Looked, Fate)


def load_kept(kind: type[Kept], path: Path, key: str) -> Kept | None:
    """What was written of a case, where it is there, readable and made from what `key` stands for."""
    found = load_or_none(kind, path)
    return found if found and found.key == key else None


def keep(value: Frozen, path: Path) -> None:
    """Write a file of this kind, and remove what killed processes left of it. One that says the same already stays, for
    several processes may come to it at once.
    """
    if path.is_file() and path.read_bytes() == as_saved(value).encode():
        return
    remove_leftovers(path.parent, path.name)
    save(value, path)


def print_report(report: Report, labels: LabelSet, console: Console) -> None:
    """Per label the voxels and the share that each filter hid, then per group how many cases are not used. What became
    of voxels without a label ("no GROUP") is in report.json alone."""
    voxels, hidden = Counter[str](), dict[str, Counter[str]]()
    for fate in report.cases.values():
        voxels.update(fate.voxels)
        for name, counts in fate.hidden.items():
            hidden.setdefault(name, Counter()).update(counts)
    title = f"pseudo labels of {len(report.cases)} cases, and the share of voxels that each filter hid"
    table = new_table(title, "label", ">voxels", *(f">{name}" for name in hidden))
    for label in labels.names:
        if voxels[label]:
            shares = (f"{counts[label] / voxels[label]:.2%}" if counts[label] else "-" for counts in hidden.values())
            table.add_row(label, str(voxels[label]), *shares)
    console.print(table)
    for group in report.teachers:
        dropped = [name for name, fate in report.cases.items() if group in fate.dropped]
        if dropped:
            console.print(f"{group}: pseudo labels of {len(dropped)} cases not used: {', '.join(dropped)}")
