"""Which cases are held out in which fold: fixed when a data set is planned, the same for every trainer.

ROOT/prepared/NAME/splits.json lists them and may be edited: what a fold names is held out there, all else trains.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from ..data.dataset import Case
from ..data.labels import LabelPattern
from ..errors import PlanError
from ..schema import Frozen, load
from ..workspace import Fold


class Splits(Frozen):
    """The names of the cases that each fold holds out; none twice. Cases that it does not name train in every fold."""

    version: Literal[1] = 1
    folds: tuple[tuple[str, ...], ...]

    def held_out(self, fold: Fold) -> frozenset[str]:
        """The cases that `fold` (from 0 on) holds out, none for "all". Raises PlanError where there is no such fold."""
        if fold == "all":
            return frozenset()
        if not 0 <= fold < len(self.folds):
            raise PlanError(f"fold {fold}", found=f"{len(self.folds)} folds", expected=f"0 to {len(self.folds) - 1}")
        return frozenset(self.folds[fold])


def make_splits(cases: Sequence[Case], folds: int, *, seed: int, before: Splits | None = None) -> Splits:
    """Deal the patients of all annotated cases to `folds`, so that each fold has its share of every pattern.

    before  of an earlier plan: what has a fold there keeps it, so that no finished run has trained on a case that is
            held out now; ignored where it has another number of folds
    The order of dealing follows from `seed` and the patients' names alone. A patient goes where its patterns are
    fewest, then where the cases are fewest. Patients without any annotated case tell no score and are never held out;
    nor is the only patient of a pattern, which would leave nothing to learn from.
    """
    patients = _patients(cases)
    seen_in = Counter(pattern for own in patients.values() for pattern in _patterns(own))
    kept = _fold_of(before) if before is not None and len(before.folds) == folds else {}
    dealt: list[list[Case]] = [[] for _ in range(folds)]
    new: list[list[Case]] = []
    for _, own in sorted(patients.items(), key=lambda item: _rank(item[0], seed)):
        known = [kept[case.name] for case in own if case.name in kept]
        if known:
            dealt[known[0]] += own
        elif all(seen_in[pattern] > 1 for pattern in _patterns(own)):
            new.append(own)
    for own in new:
        min(dealt, key=lambda fold: (sum(case.annotated in _patterns(own) for case in fold), len(fold))).extend(own)
    return Splits(folds=tuple(tuple(sorted(case.name for case in fold)) for fold in dealt))


def load_splits(path: str | Path) -> Splits:
    """The folds that planning wrote, or a person since. Raises PlanError naming the file and what is wrong."""
    path = Path(path)
    if not path.is_file():
        raise PlanError(
            path,
            found="no such file",
            expected="the folds of the data set",
            remedy=f"flarenet_plan -d {path.parent.name}",
        )
    splits = load(Splits, path, PlanError)
    twice = [name for name, count in Counter(name for fold in splits.folds for name in fold).items() if count > 1]
    if twice:
        raise PlanError(path, found=f"case {twice[0]} twice", expected="every case once")
    return splits


def _patients(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """The cases of every patient of whom any is annotated."""
    patients = defaultdict(list)
    for case in cases:
        patients[case.patient or case.name].append(case)
    return {patient: own for patient, own in patients.items() if _patterns(own)}


def _patterns(cases: Iterable[Case]) -> set[LabelPattern]:
    return {case.annotated for case in cases if case.annotated}


def _fold_of(splits: Splits) -> dict[str, int]:
    return {name: number for number, fold in enumerate(splits.folds) for name in fold}


def _rank(patient: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {patient}".encode()).hexdigest()
