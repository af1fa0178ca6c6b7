"""The problems found while a data set is read, collected so that all can be shown at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import FlarenetError
from .findings import Finding, refusal, remark


class Problems:
    """What is wrong with a data set, in the order in which it was found; `errors` are those behind the refusals."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.errors: list[FlarenetError] = []

    @property
    def refuse_the_set(self) -> bool:
        """Whether anything is wrong beyond single cases."""
        return any(finding.severity == "refuse" and not finding.case for finding in self.findings)

    def add(self, error: FlarenetError, *, case: str = "") -> None:
        self.errors.append(error)
        self.findings.append(refusal(case, error))

    def remark(self, file: object, *, found: str, expected: str) -> None:
        """Something to look at in the set that refuses nothing."""
        self.findings.append(remark(file, found=found, expected=expected))

    @contextmanager
    def collected(self, case: str = "") -> Iterator[None]:
        """Collect a FlarenetError that ends the block, in place of raising it."""
        try:
            yield
        except FlarenetError as error:
            self.add(error, case=case)
