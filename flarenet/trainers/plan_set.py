"""Planning after measuring: decide every number of a data set, then write the plan and prepare the cases.

Files are written in the order in which they follow from each other: fingerprint.json, splits.json, dataset.json,
plan.json, then the stores; a case that could not be prepared is taken out of dataset.json again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

from ..data.cases import HERE, Pool
from ..data.dataset import Case, Dataset
from ..data.settled import Settled, save_settled
from ..data.store import Store
from ..errors import FlarenetError, PlanError
from ..planning.budget import Request
from ..planning.cost.memory import GB, gb_in_words, stored_gb
from ..planning.measuring.fingerprint import Fingerprint, settle
from ..planning.plan import Plan
from ..planning.plan_file import override, save_plan
from ..planning.planned import plan_again
from ..planning.split import Splits, load_splits, make_splits
from ..preparation.dataset import prepare_dataset
from ..schema import as_saved, load, load_or_none, save, save_to_load
from ..whole import copy_aside, move_aside
from ..workspace import Workspace
from .planner import make_plan

Say = Callable[[str], None]


def decide(fingerprint: Fingerprint, workspace: Workspace, *, request: Request, changes: Sequence[str] = ()) -> Plan:
    """The plan of a measured data set, as make_plan, with as many folds as splits.json has; nothing is written.

    Another number of folds would deal all cases anew, although finished runs have seen them: only `changes` may set it.
    Raises as make_plan, and PlanError for one fold where splits.json does not state it.
    """
    plan = make_plan(fingerprint, request, changes=changes)
    before = _dealt(workspace)
    there = 0 if before is None else len(before.folds)
    if plan.folds == 1 and there != 1:
        remedy = f"for one fixed part, list its cases in {workspace.splits} as the only fold"
        raise PlanError("--set folds=1", found="one fold, of all cases", expected="at least 2", remedy=remedy)
    if there in (0, plan.folds) or any(change.startswith("folds=") for change in changes):
        return plan
    return override(plan, [f"folds={there}"])


def carry_out(
    plan: Plan,
    dataset: Dataset,
    fingerprint: Fingerprint,
    workspace: Workspace,
    *,
    pool: Pool = HERE,
    verify: bool = False,
    say: Say = print,
    warn: Say = print,
) -> list[tuple[str, FlarenetError]]:
    """Write `plan` and what it was made from, then prepare the cases; returns (name, error) of those that failed.

    verify  as prepare_dataset takes it
    say     called with which earlier files are kept, and where
    warn    called with which folds hold out nothing, and if the disk may be too small
    The caller holds the lock of `workspace.prepared`. Raises PlanError or DatasetError, before any case is prepared,
    where one of the files would be too large to be read again.
    """
    settled = settle(dataset, fingerprint)
    save_to_load(fingerprint, workspace.fingerprint, PlanError)
    _keep_edited(workspace, plan, say)
    splits = _deal(settled.cases, plan, workspace, say)  # before dataset.json makes these cases known ones
    save_settled(settled, workspace.settled)
    save_plan(plan, workspace.plan)
    _warn_of_empty_folds(splits, settled.cases, warn)
    _warn_of_room(plan, fingerprint, workspace, warn)
    unprepared = prepare_dataset(settled, plan, workspace, pool=pool, verify=verify)
    if unprepared:  # nobody can train on these
        save_settled(settled.without(name for name, _ in unprepared), workspace.settled)
    return unprepared


def _dealt(workspace: Workspace) -> Splits | None:
    """The folds in splits.json; None where there is no such file."""
    return load_splits(workspace.splits) if workspace.splits.is_file() else None


def _deal(cases: Sequence[Case], plan: Plan, workspace: Workspace, say: Say) -> Splits:
    """The folds of `cases`, written to splits.json where they change; a copy of the old file is kept."""
    before = _dealt(workspace)
    splits = make_splits(cases, plan.folds, seed=plan.seed, before=before, known=_known(cases, workspace))
    if splits == before:
        return splits
    if before is not None:
        dealt = "new cases are dealt to the folds"
        if len(before.folds) != plan.folds:
            dealt = f"all cases are dealt to {plan.folds} folds"
        say(f"{dealt}; what was in {workspace.splits.name} is kept as {copy_aside(workspace.splits)}")
    save(splits, workspace.splits)
    return splits


def _warn_of_empty_folds(splits: Splits, cases: Sequence[Case], warn: Say) -> None:
    """Warn of folds that hold out nothing, unless no case is annotated at all."""
    empty = [str(number) for number in range(len(splits.folds)) if number not in splits.telling]
    if empty and any(case.annotated for case in cases):
        said = f"fold {', '.join(empty)} of splits.json holds out no case: too few patients share a pattern of labels"
        warn(f"{said}; its runs cannot be monitored, and flarenet_compare has nothing to score them on")


def _known(cases: Sequence[Case], workspace: Workspace) -> frozenset[str]:
    """The cases of the last planning, except those annotated since then. All cases where there was no planning, as
    where the folds were written before."""
    last = load_or_none(Settled, workspace.settled)
    if last is None:
        return frozenset(case.name for case in cases)
    annotated = {case.name for case in cases if case.annotated}
    return frozenset(case.name for case in last.cases if case.annotated or case.name not in annotated)


def _keep_edited(workspace: Workspace, plan: Plan, say: Say) -> None:
    """Move a different plan.json aside, so that no edit by hand is lost."""
    path = workspace.plan
    if not path.is_file() or path.read_bytes() == as_saved(plan).encode():
        return
    kept = move_aside(path)
    say(f"the previous plan is kept as {kept}")
    try:
        before = load(Plan, kept, PlanError)
    except PlanError:
        return  # not a valid plan any more, or of another version: its recipe and budget are unknown
    if (earlier := plan_again(before, workspace.root)) != plan_again(plan, workspace.root):
        say(f"it was made with a different recipe or budget: {earlier}")


def _warn_of_room(plan: Plan, fingerprint: Fingerprint, workspace: Workspace, warn: Say) -> None:
    """Warn if the disk may be too small for what is still to be prepared; compression is not known in advance."""
    need_gb = 0.0
    for name, configuration in plan.configurations.items():
        there = set(Store(workspace.store(name)).names())
        cases = tuple(case for case in fingerprint.cases if case.name not in there)
        need_gb += stored_gb(fingerprint.model_copy(update={"cases": cases}), configuration)
    free_gb = shutil.disk_usage(workspace.prepared).free / GB
    if need_gb > free_gb:
        said = f"up to {gb_in_words(need_gb)} to prepare, {gb_in_words(free_gb)} free in {workspace.prepared}"
        warn(f"{said}; if the disk is full the command ends, and can be resumed")
