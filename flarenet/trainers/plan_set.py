"""The PLAN stage after measuring: decide every number of a data set, then write it down and prepare the cases.

What trainers read is written from the facts to what follows from them: fingerprint.json, dataset.json, splits.json,
plan.json, then the stores; a case that could not be prepared leaves dataset.json again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ..data.cases import Pool
from ..data.dataset import Dataset
from ..data.settled import save_settled
from ..data.store import Store
from ..errors import FlarenetError, PlanError
from ..planning.budget import Budget
from ..planning.fingerprint import Fingerprint, settle
from ..planning.memory import GB, stored_gb
from ..planning.plan import Plan
from ..planning.plan_file import override, save_plan
from ..planning.planned import plan_again
from ..planning.split import Splits, load_splits, make_splits
from ..preparation.dataset import prepare_dataset
from ..schema import as_saved, load, save
from ..whole import move_aside
from ..workspace import Workspace
from .planner import make_plan

Say = Callable[[str], None]


def decide(
    found: Fingerprint,
    workspace: Workspace,
    *,
    recipe: str,
    budget: Budget | None = None,
    unlabelled: bool = True,
    changes: Sequence[str] = (),
) -> Plan:
    """The plan of what was measured, as make_plan, with as many folds as the set has; nothing is written.

    Other folds would deal all cases anew, which finished runs have seen: only a person may ask for that, by `changes`.
    """
    plan, before = make_plan(found, recipe, budget=budget, unlabelled=unlabelled, changes=changes), _dealt(workspace)
    if before is None or len(before.folds) == plan.folds or any(change.startswith("folds=") for change in changes):
        return plan
    return override(plan, [f"folds={len(before.folds)}"])


def carry_out(
    plan: Plan,
    dataset: Dataset,
    found: Fingerprint,
    workspace: Workspace,
    *,
    workers: int | Pool = 1,
    verify: bool = False,
    say: Say = print,
    warn: Say = print,
) -> list[tuple[str, FlarenetError]]:
    """Write `plan` and what it was made from, then prepare the cases; returns those that could not be prepared.

    verify  as prepare_dataset takes it
    say     told which files of before are kept, and where    warn  told where the disk may be too small
    The caller holds the lock of `workspace.prepared`.
    """
    before, settled = _dealt(workspace), settle(dataset, found)
    save(found, workspace.fingerprint)
    _keep_edited(workspace.plan, plan, say)
    save_settled(settled, workspace.settled)
    if before is not None and len(before.folds) != plan.folds:
        say(f"dealt to {plan.folds} folds; those that were there are kept as {move_aside(workspace.splits)}")
    save(make_splits(settled.cases, plan.folds, seed=plan.seed, before=before), workspace.splits)
    save_plan(plan, workspace.plan)
    _warn_of_room(plan, found, workspace, warn)
    unprepared = prepare_dataset(settled, plan, workspace, workers=workers, verify=verify)
    if unprepared:  # nobody can train on these
        save_settled(settled.without(name for name, _ in unprepared), workspace.settled)
    return unprepared


def _dealt(workspace: Workspace) -> Splits | None:
    """The folds that the set has."""
    return load_splits(workspace.splits) if workspace.splits.is_file() else None


def _keep_edited(path: Path, plan: Plan, say: Say) -> None:
    """A plan is made to be edited: another one that is there already moves aside, and no edit is lost."""
    if not path.is_file() or path.read_bytes() == as_saved(plan).encode():
        return
    kept = move_aside(path)
    say(f"the plan that was there is kept as {kept}")
    try:
        before = load(Plan, kept, PlanError)
    except PlanError:
        return  # edited into none, or of another version: it tells no recipe and no budget
    if plan_again(before) != plan_again(plan):
        say(f"it was made by another recipe or budget: {plan_again(before)}")


def _warn_of_room(plan: Plan, found: Fingerprint, workspace: Workspace, warn: Say) -> None:
    """Say where the disk may not hold what is yet to be prepared. What compression saves is not known before."""
    need_gb = 0.0
    for name, configuration in plan.configurations.items():
        there = set(Store(workspace.store(name)).names())
        cases = tuple(case for case in found.cases if case.name not in there)
        need_gb += stored_gb(found.model_copy(update={"cases": cases}), configuration)
    free_gb = shutil.disk_usage(workspace.prepared).free / GB
    if need_gb > free_gb:
        said = f"up to {need_gb:.1f} GB to prepare, {free_gb:.1f} GB free in {workspace.prepared}"
        warn(f"{said}; a full disk ends the command, which then goes on")
