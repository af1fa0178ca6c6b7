"""Checks that the steps of a plan fit its groups and its runs, whenever a plan is read or changed."""

from __future__ import annotations

from collections.abc import Iterable

from ..data.labels import LabelSet
from ..errors import PlanError
from .plan import Plan, Step
from .pseudo_rules import check_rules
from .runs import Run


def check_step(step: Step, plan: Plan, own: Run, where: str) -> None:
    """Raise PlanError for a step, the run `own`, that names a group or a run that `plan` lacks, a run of its own
    trainer that is not earlier, or a teacher that does not predict the group."""
    check_groups((*step.groups, *step.teachers), plan.labels, where)
    check_rules(step.pseudo_rules, step.teachers, plan.labels, f"{where}.pseudo")
    if step.starts_from and step.encoder_from:
        raise PlanError(where, found="starts_from and encoder_from", expected="one of them, or neither")
    for run in step.builds_on:
        if run not in plan.runs:
            expected = f"a run of this plan: {', '.join(map(str, plan.runs))}"
            raise PlanError(where, found=f"run '{run}'", expected=expected)
        if run.trainer == own.trainer and run.step >= own.step:
            remedy = "to train for more epochs, add another step that starts from it"
            raise PlanError(where, found=f"run '{run}', for {own}", expected="an earlier step", remedy=remedy)
    for key, asked in (("teachers", step.teachers), ("pseudo.earlier", step.pseudo_rules.earlier)):
        for group, run in asked.items():
            answered = plan.trainers[run.trainer].network.groups
            if group not in answered:
                found = f"{run}, which answers {', '.join(answered) or 'no group'}"
                raise PlanError(f"{where}.{key}.{group}", found=found, expected=f"a run that answers {group}")


def check_groups(groups: Iterable[str], labels: LabelSet, where: str) -> None:
    """Raise PlanError for the first of `groups` that is not in the label table."""
    for group in groups:
        if group not in labels.groups:
            raise PlanError(where, found=f"group {group!r}", expected=", ".join(labels.groups))


def check_warm_ups(changed: Plan, before: Plan, source: object) -> None:
    """Raise PlanError for a step of which a change has left nothing but a warm-up: its learning rate would only rise.

    before  the plan without the changes; what its steps have was somebody's choice. A step of one epoch, a trial, may
            be all warm-up.
    """
    for name, part in changed.trainers.items():
        steps = before.trainers[name].steps if name in before.trainers else ()
        known = {(step.epochs, step.warmup_epochs) for step in steps}
        for number, step in enumerate(part.steps):
            if (step.epochs, step.warmup_epochs) not in known and step.warmup_epochs > max(1, step.epochs - 1):
                raise PlanError(
                    f"{source}: trainers.{name}.steps.{number}.warmup_epochs",
                    found=f"{step.warmup_epochs}, of {step.epochs} epochs",
                    expected="fewer than the epochs",
                    remedy="set warmup_epochs too, or give --epochs N to the command that trains, which scales it",
                )
