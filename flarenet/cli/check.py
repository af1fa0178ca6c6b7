"""flarenet_plan --check: everything that is wrong or odd about a data set, as a table and as JSON.

With --report also as a page, which shows the data set too.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DatasetError, some_of
from .shell import pool

if TYPE_CHECKING:
    from ..data.findings import Finding
    from ..data.verify import Check
    from ..reporting.content import Section
    from ..workspace import Workspace
    from .sources import Opened

MOST_NAMES = 5


def check(opened: Opened, arguments: Namespace) -> int:
    """Check the data set, print and write the findings, and nothing else; returns the exit code.

    With --report the page is written too, and the measurements made for it are kept as by planning.
    """
    from ..data.verify import say_ignored
    from ..schema import save

    found, sections = (_look_closely if arguments.report is not None else _look)(opened, arguments)
    print_findings(found.findings)
    for said in say_ignored(found.ignored.values()):
        print(f"note: {said}")
    path = Path(arguments.json or opened.workspace.check)
    save(found, path)
    warned = len({finding.case for finding in found.findings if finding.case} - set(found.refused))
    print(f"{found.cases} cases: {len(found.refused)} refused, {warned} with warnings only; report: {path}")
    if arguments.report is not None:
        _write(sections, opened.workspace, arguments.report)
    return found.exit_code


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a table of findings, refusals first; a finding that several cases share is one row."""
    from ..data.findings import alike
    from ..terminal import new_table, show

    if not findings:
        return
    table = new_table("", "", "case", "file", "found", "expected", "what to do", show_lines=True)
    for members in alike(findings):
        table.add_row(*_row(members))
    show(table)


def _look(opened: Opened, arguments: Namespace) -> tuple[Check, list[Section]]:
    from ..data.verify import Check, check_dataset

    dataset, findings = opened.findings()
    if dataset is None:
        return Check(dataset=opened.workspace.dataset, cases=0, findings=tuple(findings)), []
    return check_dataset(dataset, pool=pool(arguments), earlier=findings)[0], []


def _look_closely(opened: Opened, arguments: Namespace) -> tuple[Check, list[Section]]:
    """The check, and the sections of the page; only its findings if no case can be measured."""
    from ..data.verify import Check
    from ..lock import locked
    from ..planning.measuring.fingerprint import fingerprint
    from ..reporting.dataset import findings_section, look_sections

    dataset, findings = opened.findings()
    if dataset is None:
        found = Check(dataset=opened.workspace.dataset, cases=0, findings=tuple(findings))
        return found, [findings_section(found)]
    where, cached = pool(arguments), opened.workspace.measured
    try:
        with locked(opened.workspace.prepared):
            measured, _ = fingerprint(dataset, pool=where, cached=cached, rehash=arguments.rehash)
    except DatasetError:  # no case can be used: the check says why for each
        found, _ = _look(opened, arguments)
        return found, [findings_section(found)]
    return look_sections(dataset, measured, pool=where, earlier=findings)


def _write(sections: Sequence[Section], workspace: Workspace, folder: str) -> None:
    from ..reporting.page import write_files, write_page

    out = Path(folder) if folder else workspace.prepared / "report"
    write_files(out / "files", sections)
    write_page(out / "report.html", f"{workspace.dataset}: data set", sections)
    print(f"written: {out / 'report.html'}")


def _row(members: Sequence[Finding]) -> tuple[str, ...]:
    first = members[0]
    names = [member.case or "(the set)" for member in members]
    file = first.file_name + (", ..." if len(members) > 1 else "")
    return first.severity, some_of(names, MOST_NAMES), file, first.found, first.expected, first.remedy
