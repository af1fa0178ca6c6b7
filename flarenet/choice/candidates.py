"""The candidates to choose from: finished runs that hold cases out, alone or several together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ..data.dataset import Case
from ..data.labels import LabelSet, difference
from ..errors import RunError
from ..inference.models.about import PLAN, read_about
from ..inference.models.found import finished_models
from ..planning.plan_file import load_plan
from ..planning.runs import Run
from ..planning.split import Splits
from ..workspace import Workspace


@dataclass(frozen=True)
class Candidate:
    """A model, or several that predict together; in each fold, those that hold its cases out.

    name     "TRAINER/STEP", or several joined by " + "
    folders  fold -> model folders
    groups   groups that the models predict together
    """

    name: str
    folders: Mapping[int, tuple[Path, ...]]
    groups: frozenset[str]


def find_candidates(
    workspace: Workspace, folds: Collection[int], labels: LabelSet
) -> tuple[list[Candidate], dict[str, str]]:
    """(candidates by name, model folder that is left out -> why).

    There is a candidate for every trainer and step with a finished run that segments in any of `folds`. Models with
    another label table than `labels` are left out. Runs that do not state which cases they have seen do not count.
    Raises RunError, with the command to type, where there is no candidate.
    """
    found: dict[str, dict[int, tuple[Path, ...]]] = defaultdict(dict)
    groups, left_out = dict[str, frozenset[str]](), dict[str, str]()
    for folder in finished_models(workspace.root):
        if not folder.is_relative_to(workspace.runs) or (about := read_about(folder)).seen is None:
            continue
        plan = load_plan(folder / PLAN)
        name, answered = str(Run(about.trainer, about.step)), plan.trainer(about.trainer).network.groups
        for fold in folds:
            if not answered or folder != workspace.run(about.trainer, about.step, fold):
                continue
            if other := difference(plan.labels, labels):
                left_out[str(folder)] = f"{other[0]}, where the data set has {other[1]}"
            else:
                found[name][fold], groups[name] = (folder,), frozenset(answered)
    if not found:
        others = f", but {len(left_out)} of another label table" if left_out else ""
        raise RunError(
            workspace.runs,
            found=f"no finished run that segments and holds cases out{others}",
            expected=f"at least one in fold {' or '.join(map(str, folds))}",
            remedy=f"flarenet_train {workspace.flags} --fold {min(folds)}",
        )
    return [Candidate(name, found[name], groups[name]) for name in sorted(found)], left_out


def ensembles(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Each pair of `candidates`, and all of them together where there are more than two."""
    every = [tuple(candidates)] if len(candidates) > 2 else []
    return [_together(members) for members in (*combinations(candidates, 2), *every)]


def unseen(candidates: Iterable[Candidate], fold: int, splits: Splits, cases: Iterable[Case]) -> list[Case]:
    """The annotated cases that `fold` holds out and from which no model of `candidates` has learned."""
    folders = [folder for candidate in candidates for folder in candidate.folders[fold]]
    names = splits.held_out(fold).difference(*(read_about(folder).seen or () for folder in folders))
    return [case for case in cases if case.label is not None and case.name in names]


def _together(members: Sequence[Candidate]) -> Candidate:
    shared = set.intersection(*(set(member.folders) for member in members))
    folders = {fold: tuple(folder for member in members for folder in member.folders[fold]) for fold in sorted(shared)}
    groups = frozenset(group for member in members for group in member.groups)
    return Candidate(" + ".join(member.name for member in members), folders, groups)
