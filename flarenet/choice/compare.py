"""Compares trainers, steps and ensembles on cases that none of their models has seen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from ..data.cases import HERE, Pool
from ..data.dataset import Case
from ..data.labels import LabelSet
from ..data.settled import load_settled
from ..errors import RunError
from ..evaluation.pairs import CaseScores
from ..evaluation.scores import Score
from ..evaluation.tables import ClassScore, mean_score, summarise
from ..inference.models.about import PLAN
from ..planning.fusion import Fusion
from ..planning.plan_file import load_plan
from ..planning.runs import as_run
from ..planning.split import Splits, load_splits
from ..schema import Frozen, save
from ..workspace import Workspace
from .candidates import Candidate, ensembles, find_candidates, unseen
from .largest_parts import Effect, Tried, try_largest_parts
from .scores import predicted_pairs, scans_as_read, score

NONE = Score(dsc=None, nsd=None)


class Row(Frozen):
    """One candidate.

    name     name of the candidate
    models   its model folders, in the order of the folds
    mean     mean over `groups`; its scores are None where the candidate does not predict every group of the data set
    groups   group -> mean of its classes, for groups that the candidate predicts and some case is annotated for
    classes  label name -> score, for labels with a score
    failed   case -> reason
    """

    name: str
    models: tuple[str, ...]
    mean: Score
    groups: dict[str, Score]
    classes: dict[str, ClassScore]
    failed: dict[str, str]


class Comparison(Frozen):
    """What compare.json holds.

    cases        fold -> the cases that all candidates were scored on
    rows         the candidates, that with the best mean first, those without a mean last
    best         name of the best candidate; None where no candidate predicts every group
    parts        label -> effect of the rule `fusion.largest` on the best candidate's predictions
    shares       label -> effect of the rule `fusion.least_share`, with largest_parts.SHARE, likewise
    keep         labels to give `largest`: those that the best candidate's plan gives it, then those that it also helps;
                 empty where it helps no others
    least_share  label -> share to give `least_share`, likewise; no label is new to both, see Tried.chosen
    left_out     model folder -> how its label table differs from the data set's
    """

    dataset: str
    cases: dict[str, tuple[str, ...]]
    rows: tuple[Row, ...]
    best: str | None
    parts: dict[str, Effect] = {}
    shares: dict[str, Effect] = {}
    keep: tuple[str, ...] = ()
    least_share: dict[str, float] = {}
    left_out: dict[str, str] = {}


def compare(
    workspace: Workspace, *, folds: Collection[int] = (), device: str = "auto", pool: Pool = HERE
) -> Comparison:
    """Score every finished trainer and step, then ensembles of each trainer's best step; write compare.json.

    folds  the folds to compare on; empty: all that every candidate has
    Raises RunError where there is no candidate, where the candidates share no fold, or where no case is unseen by all.
    """
    dataset, splits = load_settled(workspace.settled), load_splits(workspace.splits)
    there, left_out = find_candidates(workspace, folds or range(len(splits.folds)), dataset.labels)
    single = _on_the_same(there, folds)
    cases = {fold: unseen(single, fold, splits, dataset.cases) for fold in single[0].folders}
    _check_some(cases, single, splits)
    scans, labels = scans_as_read(chain.from_iterable(cases.values())), dataset.labels
    scored = partial(score, scans=scans, workspace=workspace, labels=labels, device=device, pool=pool)

    def row(candidate: Candidate) -> Row:
        found = [case for fold, held_out in cases.items() for case in scored(candidate, fold, held_out)]
        return _row(candidate, found, labels)

    candidates = {candidate.name: candidate for candidate in single}
    rows = {name: row(candidate) for name, candidate in candidates.items()}
    together = {candidate.name: candidate for candidate in ensembles(_best_steps(single, rows))}
    rows |= {name: row(candidate) for name, candidate in together.items()}
    ordered = sorted(rows.values(), key=_place)
    best = None if ordered[0].mean.dsc is None else (candidates | together)[ordered[0].name]
    tried, own = Tried(), Fusion()
    if best is not None:
        tried = _try_parts(best, cases, workspace=workspace, labels=labels, pool=pool)
        folder, *_ = next(iter(best.folders.values()))
        own = load_plan(folder / PLAN).fusion  # an ensemble's fusion is the first one's
    keep, least_share = tried.chosen(own)
    found = Comparison(
        dataset=dataset.name,
        cases={str(fold): tuple(case.name for case in held_out) for fold, held_out in cases.items()},
        rows=tuple(ordered),
        best=None if best is None else best.name,
        parts=tried.largest,
        shares=tried.least_share,
        keep=keep,
        least_share=least_share,
        left_out=left_out,
    )
    save(found, workspace.compare / "compare.json")
    return found


def _try_parts(
    best: Candidate, cases: Mapping[int, Sequence[Case]], *, workspace: Workspace, labels: LabelSet, pool: Pool
) -> Tried:
    """What the rules for small parts do to the best candidate's predictions."""
    pairs = [
        pair
        for fold, held_out in cases.items()
        for pair in predicted_pairs(best, fold, held_out, workspace=workspace, labels=labels)
    ]
    return try_largest_parts(pairs, labels, pool=pool)


def _on_the_same(candidates: Sequence[Candidate], folds: Collection[int]) -> list[Candidate]:
    """The candidates that have all of `folds`, with these folds alone; empty `folds` are those that every one has."""
    wanted = set(folds) or set.intersection(*(set(candidate.folders) for candidate in candidates))
    chosen = [
        replace(candidate, folders={fold: candidate.folders[fold] for fold in sorted(wanted)})
        for candidate in candidates
        if wanted <= set(candidate.folders)
    ]
    if not wanted or not chosen:
        there = [f"{candidate.name} of {', '.join(map(str, sorted(candidate.folders)))}" for candidate in candidates]
        raise RunError(
            "finished runs by fold",
            found="; ".join(there),
            expected="runs of the same folds",
            remedy="flarenet_train TRAINER --fold K where one is missing, or flarenet_compare --fold K",
        )
    return chosen


def _check_some(cases: Mapping[int, Sequence[Case]], candidates: Sequence[Candidate], splits: Splits) -> None:
    """Raise RunError where no fold has a case left."""
    if not any(cases.values()):
        others = ", ".join(str(fold) for fold in splits.telling if fold not in cases)
        remedy = "cases listed by hand in splits.json, or flarenet_evaluate of --fold all on cases apart"
        if others:
            remedy = f"flarenet_train TRAINER --fold K, then flarenet_compare --fold K, with K of {others}"
        raise RunError(
            f"cases held out by fold{'s' * (len(cases) > 1)} {', '.join(map(str, cases))}",
            found=f"none that is annotated and that none of these has seen: {', '.join(c.name for c in candidates)}",
            expected="at least one",
            remedy=remedy,
        )


def _row(candidate: Candidate, scored: Sequence[CaseScores], labels: LabelSet) -> Row:
    found = summarise(scored, labels)
    answered = {group: score for group, score in found.groups.items() if score.dsc is not None}
    return Row(
        name=candidate.name,
        models=tuple(str(folder) for folders in candidate.folders.values() for folder in folders),
        mean=mean_score(answered) if candidate.groups.issuperset(labels.groups) else NONE,
        groups=answered,
        classes={name: score for name, score in found.classes.items() if score.n},
        failed=found.failed,
    )


def _place(row: Row) -> tuple[bool, float, float, str]:
    """A key to sort by: the best mean first; rows without one last, also behind a mean of 0."""
    return row.mean.dsc is None, -(row.mean.dsc or 0), -(row.mean.nsd or 0), row.name


def _best_steps(candidates: Iterable[Candidate], rows: Mapping[str, Row]) -> list[Candidate]:
    """For each trainer, its step with the best mean over the groups that it predicts; among equal ones the last."""
    best: dict[str, tuple[float, Candidate]] = {}
    for candidate in candidates:
        trainer = as_run(candidate.name).trainer
        dsc = mean_score(rows[candidate.name].groups).dsc or 0.0
        if trainer not in best or dsc >= best[trainer][0]:
            best[trainer] = dsc, candidate
    return [candidate for _, candidate in best.values()]
