"""Makes a whole plan: the configurations by rule, then the part of every trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..errors import PlanError, unknown
from ..networks import NETWORKS
from ..planning.assign import assign, key_and_value
from ..planning.budget import Budget, Request
from ..planning.cost.memory import scans_of
from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import Plan, TrainerPlan
from ..planning.plan_file import override
from ..planning.planned import load_fingerprint
from ..planning.rules.configurations import Outline, make_outline
from ..schema import parse
from ..workspace import Workspace
from . import TRAINERS, TrainerDualDecoder2D, TrainerJoint
from .own import check_own_name
from .trainer import Trainer


def make_plan(fingerprint: Fingerprint, request: Request, *, changes: Sequence[str] = ()) -> Plan:
    """The Plan of a measured data set: configurations by rule, then the part of every trainer that has cases and that
    is needed (see _needed).

    changes  "KEY=VALUE", as planning.plan_file.override takes them, made last; those of the budget are made first, as
             every size is chosen to fit it
    Raises UsageError or PlanError for a change that does not fit, and PlanError for a plan that exceeds its budget.
    """
    request = replace(request, budget=_changed_budget(request.budget, changes))
    outline = make_outline(fingerprint, request)
    parts = {name: part for name, trainer in TRAINERS.items() if (part := trainer.plan(fingerprint, outline))}
    plan = Plan(
        recipe=request.recipe,
        without=request.without,
        dataset=fingerprint.dataset,
        labels=fingerprint.labels,
        fingerprint_hash=fingerprint.hash,
        budget=request.budget,
        scans=scans_of(fingerprint),
        configurations=outline.configurations,
        trainers=_needed(parts),
    )
    changed = override(plan, [change for change in changes if not _of_budget(change)])
    _every_network_exists(changed)
    _every_step_has_cases(changed, fingerprint)
    return changed


def _changed_budget(budget: Budget, changes: Sequence[str]) -> Budget:
    data = {"budget": budget.model_dump(mode="json")}
    for change in filter(_of_budget, changes):
        assign(data, *key_and_value(change))
    return parse(Budget, data["budget"], "--set budget", PlanError)


def _of_budget(change: str) -> bool:
    return key_and_value(change)[0].split(".")[0] == "budget"


def _needed(parts: Mapping[str, TrainerPlan]) -> dict[str, TrainerPlan]:
    """Those of `parts` that predict a group or that a step builds on; all where none predicts any, as in a set without
    labels. So MAE is planned beside transformers, but not beside U-Nets; with_trainer makes it where it is asked for.
    """
    segmenting = any(part.network.groups for part in parts.values())
    built_on = {run.trainer for part in parts.values() for step in part.steps for run in step.builds_on}
    return {name: part for name, part in parts.items() if part.network.groups or name in built_on or not segmenting}


def with_trainer(plan: Plan, trainer: type[Trainer], workspace: Workspace, *, changes: Sequence[str] = ()) -> Plan:
    """`plan` with a part for `trainer`, made from the fingerprint in `workspace`; an existing part stays.

    changes  "KEY=VALUE", as planning.plan_file.override takes them, made last
    The new part uses the plan's configurations, budget and seed, edited or not, and leaves out the cases that the plan
    leaves out. What it builds on is added too. plan.json is not changed: the folder of each run keeps the whole plan.
    Raises UsageError or UnsafeError as own.check_own_name, PlanError where the data set has nothing for the trainer,
    and as make_plan.
    """
    check_own_name(trainer, f"{trainer.__module__}:{trainer.__qualname__}")  # else it could pass for a registered one
    if trainer.name in plan.trainers:
        return override(plan, changes) if changes else plan
    fingerprint = load_fingerprint(workspace)
    changed = override(_joined(plan, trainer, fingerprint), changes)
    _every_network_exists(changed)
    _every_step_has_cases(changed, fingerprint)
    return changed


def _joined(plan: Plan, trainer: type[Trainer], fingerprint: Fingerprint) -> Plan:
    """`plan` with a part for `trainer`, and for each registered one that it builds on and that the plan lacks."""
    part = trainer.plan(fingerprint, Outline(plan.request, plan.configurations))
    if part is None:
        groups, patterns = ", ".join(plan.labels.groups), len([pattern for pattern in fingerprint.patterns if pattern])
        labelled = f"labelled cases of {patterns} pattern{'s' * (patterns != 1)}"
        raise PlanError(
            f"trainer {trainer.name}",
            found=f"nothing for it in {plan.dataset} with recipe {plan.recipe}: groups {groups}, "
            + (labelled if patterns else "no training case is labelled"),
            expected=f"one of {', '.join(plan.trainers)}",
        )
    for run in (run for step in part.steps for run in step.builds_on):
        if run.trainer in TRAINERS and run.trainer not in (trainer.name, *plan.trainers):
            plan = _joined(plan, TRAINERS[run.trainer], fingerprint)
    return plan.model_copy(update={"trainers": {**plan.trainers, trainer.name: part}})


def advised(plan: Plan) -> tuple[str, ...]:
    """The trainers to train by default, in order; empty where there is none.

    Joint where it is planned: trained for the same time it was the best of the candidates (docs/results.md, "Candidates
    at equal time"). Else DualDecoder2D. Either comes after the trainers that it builds on.
    """
    for last in (TrainerJoint.name, TrainerDualDecoder2D.name):
        if last in plan.trainers:
            return tuple(_after_what_it_needs(plan, last, set()))
    return ()


def _after_what_it_needs(plan: Plan, name: str, seen: set[str]) -> Iterator[str]:
    """Trainer `name`, after those that its steps build on; `seen` ones are skipped, new ones added to it."""
    seen.add(name)
    for step in plan.trainer(name).steps:
        for run in step.builds_on:
            if run.trainer not in seen:
                yield from _after_what_it_needs(plan, run.trainer, seen)
    yield name


def _every_network_exists(plan: Plan) -> None:
    for part in plan.trainers.values():
        if part.network.kind not in NETWORKS:
            raise unknown("network", part.network.kind, NETWORKS)


def _every_step_has_cases(plan: Plan, fingerprint: Fingerprint) -> None:
    for name, part in plan.trainers.items():
        for number, step in enumerate(part.steps):
            if fingerprint.count(step.subset.patterns) == 0:
                raise PlanError(
                    f"trainers.{name}.steps.{number}.subset",
                    found=f"patterns {[list(pattern) for pattern in step.subset.patterns]}, which no case has",
                    expected=f"some of {[list(pattern) for pattern in fingerprint.patterns]}",
                )
