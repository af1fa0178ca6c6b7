"""What a check finds in a data set: refusals and warnings, as data for a table and for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from ..errors import DatasetError, FlarenetError
from ..schema import Frozen


class Finding(Frozen):
    """One problem.

    severity   "refuse": the case (or the set, where `case` is empty) cannot be used; "warn": a person should look
    case       the name of the case; empty for the set as a whole
    file       the file, or the file and key, that it is about
    exit_code  that of the error behind a refusal; 0 for a warning
    """

    severity: Literal["refuse", "warn"]
    case: str
    file: str
    found: str
    expected: str
    remedy: str
    exit_code: int = 0

    @property
    def file_name(self) -> str:
        """`file` without its folders; of the set as a whole with the last one, which tells its sources apart."""
        path = Path(self.file)
        return path.name if self.case else f"{path.parent.name}/{path.name}".lstrip("/")

    def __str__(self) -> str:
        remedy = f"\n  what to do: {self.remedy}" if self.remedy else ""
        return f"{self.file}\n  found: {self.found}\n  expected: {self.expected}{remedy}"


def refusal(case: str, error: FlarenetError) -> Finding:
    """The Finding for an error in a case, or in the set where `case` is empty."""
    return Finding(
        severity="refuse",
        case=case,
        file=error.thing,
        found=error.found or "",
        expected=error.expected or "",
        remedy=error.remedy or "",
        exit_code=error.exit_code,
    )


def remark(file: object, *, found: object, expected: object, remedy: str = "", case: str = "") -> Finding:
    """A warning. Functions that read a file leave `case` empty; of_case fills it in."""
    return Finding(severity="warn", case=case, file=str(file), found=str(found), expected=str(expected), remedy=remedy)


def of_case(name: str, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The same findings, about case `name`."""
    return tuple(finding.model_copy(update={"case": name}) for finding in findings)


def refusals(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that keep a case, or the set, from being used."""
    return tuple(finding for finding in findings if finding.severity == "refuse")


def alike(findings: Iterable[Finding]) -> list[list[Finding]]:
    """The findings in groups that differ in case and file only; refusals first, otherwise in their order."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.found, finding.expected, finding.remedy), []).append(finding)
    return sorted(groups.values(), key=lambda members: members[0].severity)


def as_error(findings: Sequence[Finding]) -> FlarenetError:
    """The error to raise for one or more refusals of one case; its exit code is the highest of theirs."""
    told = [
        _Refused(f.file, found=f.found, expected=f.expected, remedy=f.remedy or None, exit_code=f.exit_code)
        for f in findings
    ]
    if len(told) == 1:
        return told[0]
    return _Refused(
        f"case {findings[0].case}: {len(told)} problems",
        found="\n  ".join(str(error) for error in told),
        exit_code=max(error.exit_code for error in told),
    )


class _Refused(DatasetError):
    """A refusal with the exit code of the error that it was made of."""

    def __init__(self, thing: str, *, exit_code: int = DatasetError.exit_code, **words: object) -> None:
        super().__init__(thing, **words)  # type: ignore[arg-type]
        self.exit_code = exit_code
