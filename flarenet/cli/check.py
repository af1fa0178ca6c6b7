"""flarenet_plan --check: everything that is wrong or odd about a data set, at once, as a table and as JSON."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .shell import pool

if TYPE_CHECKING:
    from ..data.findings import Finding
    from ..data.verify import Check
    from .sources import Opened

WIDTH_WITHOUT_TERMINAL = 160
MOST_NAMES = 5


def check(opened: Opened, arguments: Namespace) -> int:
    """Check the data set, print what was found, write the report and nothing else; returns the exit code."""
    from ..schema import save

    found = _look(opened, arguments)
    print_findings(found.findings)
    path = Path(arguments.report or opened.workspace.check)
    save(found, path)
    warned = len({finding.case for finding in found.findings if finding.case} - set(found.refused))
    print(f"{found.cases} cases: {len(found.refused)} refused, {warned} with warnings only; report: {path}")
    return found.exit_code


def print_findings(findings: Sequence[Finding]) -> None:
    """A table on stdout, refusals first; the same finding of several cases is one row."""
    from rich.console import Console
    from rich.table import Table

    if not findings:
        return
    table = Table(show_lines=True)
    for name in ("", "case", "file", "found", "expected", "what to do"):
        table.add_column(name, overflow="fold")
    for row in _rows(findings):
        table.add_row(*row)
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    Console(file=sys.stdout, width=width, highlight=False, markup=False).print(table)


def _look(opened: Opened, arguments: Namespace) -> Check:
    from ..data.verify import Check, check_dataset

    dataset, findings = opened.findings()
    if dataset is None:
        return Check(dataset=opened.workspace.dataset, cases=0, findings=tuple(findings))
    return check_dataset(dataset, workers=pool(arguments), beside=findings)


def _rows(findings: Iterable[Finding]) -> list[tuple[str, ...]]:
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.severity, finding.found, finding.expected, finding.remedy), []).append(finding)
    rows: list[tuple[str, ...]] = []
    for (severity, found, expected, remedy), members in sorted(alike.items(), key=lambda item: item[0][0]):
        names = [member.case or "(the set)" for member in members]
        more = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
        file = Path(members[0].file).name + (", ..." if len(members) > 1 else "")
        rows.append((severity, ", ".join([*names[:MOST_NAMES], *more]), file, found, expected, remedy))
    return rows
