"""Which cases are held out in which fold: fixed when a data set is planned, the same for every trainer.

ROOT/prepared/NAME/splits.json lists them and may be edited: what a fold names is held out there, all else trains.
Planning again deals new cases only.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..data.dataset import Case
from ..data.labels import LabelPattern
from ..data.names import composed
from ..errors import PlanError, UsageError, did_you_mean, some_of
from ..schema import LARGEST_TABLE_BYTES, Frozen, load
from ..workspace import Fold, Workspace


class Splits(Frozen):
    """The names of the cases that each fold holds out; none twice. Cases that it does not name train in every fold."""

    largest_bytes = LARGEST_TABLE_BYTES
    version: Literal[1] = 1
    folds: Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)]

    def held_out(self, fold: Fold) -> frozenset[str]:
        """The cases that `fold` (from 0 on) holds out, none for "all". Raises UsageError for any other fold."""
        if fold == "all":
            return frozenset()
        if not 0 <= fold < len(self.folds):
            raise UsageError(f"fold {fold}", found=f"{len(self.folds)} folds", expected=f"0 to {len(self.folds) - 1}")
        return frozenset(self.folds[fold])

    def held_out_by_run(self, fold: Fold) -> frozenset[str]:
        """As held_out, for a run that is to be trained. Also raises PlanError for a fold that holds out nothing, except
        fold 0, the default: a set of few patients may have no other."""
        names = self.held_out(fold)
        if not names and fold not in (0, "all"):
            expected = f"cases, as of fold {', '.join(map(str, self.telling)) or 'none'}"
            remedy = "--fold all, which trains on every case"
            raise PlanError(f"fold {fold}", found="no case that it holds out", expected=expected, remedy=remedy)
        return names

    @property
    def telling(self) -> tuple[int, ...]:
        """The folds that hold out at least one case, on which a run can be validated."""
        return tuple(number for number, names in enumerate(self.folds) if names)


@dataclass
class _Dealt:
    """What a fold has been dealt: cases by name, and how many cases and patients of each pattern."""

    names: list[str] = field(default_factory=list)
    cases: Counter[LabelPattern] = field(default_factory=Counter)
    patients: Counter[LabelPattern] = field(default_factory=Counter)

    def add(self, patient: Sequence[Case]) -> None:
        self.names += [case.name for case in patient]
        self.cases.update(case.annotated for case in patient)
        self.patients.update(_patterns(patient))

    def share(self, patterns: Iterable[LabelPattern], cases_of: Mapping[LabelPattern, int]) -> float:
        """Its shares of all cases of `patterns`, added up; a rare pattern counts as much as a common one."""
        return math.fsum(self.cases[pattern] / cases_of[pattern] for pattern in patterns)  # the same in any order


def make_splits(
    cases: Sequence[Case], folds: int, *, seed: int, before: Splits | None = None, known: Collection[str] = ()
) -> Splits:
    """Deal the patients of all annotated cases to `folds`, so that each fold has its share of every pattern.

    before  the folds that are there: every name stays in its fold, so that no finished run has trained on a case that
            is held out now; ignored where it has another number of folds
    known   the cases that were there when `before` was dealt or written: those that it does not name go on to train
    The order of dealing follows from `seed` and the patients' names alone. A patient goes where the smallest share of
    its patterns is, then where the cases are fewest, but never where nobody else of a pattern would be left to learn
    from: with no such fold, as the only patient of a pattern, it is held out nowhere. Nor are patients without any
    annotated case, who cannot be scored. A new case of a known patient goes where that patient is. A single fold takes
    no new patient: whoever wrote it decided who is held out.
    """
    patients = _patients(cases)
    seen_in = Counter(pattern for own in patients.values() for pattern in _patterns(own))
    cases_of = Counter(case.annotated for own in patients.values() for case in own)
    if before is None or len(before.folds) != folds:
        before, known = Splits(folds=((),) * folds), ()
    kept = _fold_of(before)
    dealt = [_Dealt() for _ in range(folds)]
    new: list[list[Case]] = []
    for _, own in sorted(patients.items(), key=lambda item: _rank(item[0], seed)):
        if all(case.name not in kept and case.name not in known for case in own):
            new.append(own)
        for number, stay in _homes(own, kept, known).items():
            dealt[number].add(stay)
    for own in new:
        patterns = _patterns(own)
        free = [fold for fold in dealt if all(fold.patients[pattern] + 1 < seen_in[pattern] for pattern in patterns)]
        if free and folds > 1:
            min(free, key=lambda fold: (fold.share(patterns, cases_of), len(fold.names))).add(own)
    return Splits(
        folds=tuple((*names, *sorted(set(fold.names).difference(names))) for names, fold in zip(before.folds, dealt))
    )


def load_splits(path: str | Path) -> Splits:
    """The folds as planning wrote them, or as edited since. Raises PlanError naming the file and what is wrong."""
    path = Path(path)
    if not path.is_file():
        raise PlanError(
            path,
            found="no such file",
            expected="the folds of the data set",
            remedy=f"flarenet_plan {Workspace(path.absolute().parents[2], path.parent.name).flags}",
        )
    found = load(Splits, path, PlanError)
    splits = Splits(folds=tuple(tuple(map(composed, fold)) for fold in found.folds))
    twice = [name for name, count in Counter(name for fold in splits.folds for name in fold).items() if count > 1]
    if twice:
        raise PlanError(path, found=f"case {twice[0]} twice", expected="every case once")
    return splits


def unmatched(held_out: Collection[str], cases: Iterable[Case], source: object) -> list[str]:
    """The names, of those `held_out` by a fold, that no case has, because it was removed or is broken.

    Raises PlanError, with `source`, where no case has any of them: the fold would hold out nothing.
    """
    there = sorted(case.name for case in cases)
    lacking = sorted(set(held_out).difference(there))
    if lacking and len(lacking) == len(held_out):
        raise PlanError(
            f"{source}: a fold of {len(held_out)} cases",
            found=f"none of the data set's, but {some_of(lacking)}",
            expected=f"names of its cases, as {some_of(there, 5)}",
            remedy=did_you_mean(lacking[0], there),
        )
    return lacking


def _patients(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """The cases of every patient of whom any is annotated."""
    patients = defaultdict(list)
    for case in cases:
        patients[case.patient or case.name].append(case)
    return {patient: own for patient, own in patients.items() if _patterns(own)}


def _patterns(cases: Iterable[Case]) -> set[LabelPattern]:
    return {case.annotated for case in cases if case.annotated}


def _homes(own: Sequence[Case], kept: Mapping[str, int], known: Collection[str]) -> dict[int, list[Case]]:
    """Fold -> the cases of a patient that it holds out: those it named before, and new ones where the patient is."""
    first = min((kept[case.name] for case in own if case.name in kept), default=None)
    homes = defaultdict(list)
    for case in own:
        fold = kept.get(case.name, None if case.name in known else first)
        if fold is not None:
            homes[fold].append(case)
    return homes


def _fold_of(splits: Splits) -> dict[str, int]:
    return {name: number for number, fold in enumerate(splits.folds) for name in fold}


def _rank(patient: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {patient}".encode()).hexdigest()
