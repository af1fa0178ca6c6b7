"""What a check finds in a data set: refusals and warnings, as data for a table and for JSON."""

from __future__ import annotations

from typing import Literal

from ..errors import FlarenetError
from ..schema import Frozen


class Finding(Frozen):
    """One problem.

    severity   "refuse": the case (or the set, where `case` is empty) cannot be used; "warn": a person should look
    case       its name, empty for the set as a whole      file  the file, or file and key, it is about
    exit_code  that of the error behind a refusal; 0 for a warning
    """

    severity: Literal["refuse", "warn"]
    case: str
    file: str
    found: str
    expected: str
    remedy: str
    exit_code: int = 0


def refusal(case: str, error: FlarenetError) -> Finding:
    """The Finding of an error that a case, or the set where `case` is empty, raised."""
    return Finding(
        severity="refuse",
        case=case,
        file=error.thing,
        found=error.found or "",
        expected=error.expected or "",
        remedy=error.remedy or "",
        exit_code=error.exit_code,
    )
