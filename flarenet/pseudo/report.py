"""Records of pseudo labels, how far sources agree and what filters hid: a JSON file for each case, a report of all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from ..data.labels import LabelSet
from ..planning.pseudo_rules import PseudoRules
from ..planning.runs import RunName
from ..schema import Frozen, as_saved, load_or_none, save
from ..terminal import new_table
from ..whole import remove_leftovers


class Looked(Frozen):
    """How far the sources agree on a case, before filters but without lesions that are too small; labels by name.

    key     identifies the case, the sources and the least size
    scores  group -> label that is not annotated and that some source has -> mean Dice between the sources. Groups
            without such a label have no entry, and with one source there is none
    hosts   annotated lesion -> organ, or "background" for none -> share of its lesions that lie there
    """

    key: str
    scores: dict[str, dict[str, float]]
    hosts: dict[str, dict[str, float]]

    def score(self, group: str) -> float:
        """The mean score of the labels of a group that has scores."""
        return sum(self.scores[group].values()) / len(self.scores[group])


class Fate(Frozen):
    """What became of the pseudo labels of a case. Labels are given by name; "no GROUP" is background of a group.

    key      see Verdict.key
    dropped  groups whose pseudo labels are not used
    voxels   label -> number of voxels that most sources give it
    hidden   filter -> label -> how many of these voxels the filter hid
    """

    key: str
    dropped: tuple[str, ...]
    voxels: dict[str, int]
    hidden: dict[str, dict[str, int]]


class Report(Frozen):
    """What report.json holds.

    teachers  group -> its teacher
    hosts     lesion -> the organs in which it is accepted; a lesion without an entry is accepted anywhere
    scores    case -> group -> mean of the group's scores
    cases     case -> Fate of its pseudo labels
    """

    teachers: dict[str, RunName]
    rules: PseudoRules
    hosts: dict[str, tuple[str, ...]]
    scores: dict[str, dict[str, float]]
    cases: dict[str, Fate]


Kept = TypeVar("Kept", Looked, Fate)


def load_kept(kind: type[Kept], path: Path, key: str) -> Kept | None:
    """The record of a case, if it is there, readable and made from what `key` identifies; else None."""
    found = load_or_none(kind, path)
    return found if found and found.key == key else None


def keep(value: Frozen, path: Path) -> None:
    """Write a record, and remove what killed processes left of it.

    A file that already has this content is left alone, because several processes may write it at once.
    """
    if path.is_file() and path.read_bytes() == as_saved(value).encode():
        return
    remove_leftovers(path.parent, path.name)
    save(value, path)


def print_report(report: Report, labels: LabelSet, console: Console) -> None:
    """Print for each label its voxels and the share that each filter hid, then for each group the cases not used.

    Background ("no GROUP") is in report.json alone.
    """
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
            said = f"{group}: pseudo labels of {len(dropped)} cases not used: {', '.join(dropped)}"
            console.print(said, markup=False)
