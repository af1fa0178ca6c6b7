"""The identity of a training run. A run that was broken off goes on only where its identity is still the same."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from ..planning.facts import training_facts
from ..planning.plan import Plan, Step, TrainerPlan
from ..training.batches import Sample


def identity_of(
    step: Step,
    train: Sequence[Sample],
    held_out: Sequence[Sample],
    *,
    plan: Plan,
    part: TrainerPlan,
    starts_from: str | None,
) -> dict[str, JsonValue]:
    """The facts of a step's training, and each of its cases with the key of what it was made from.

    starts_from  the SHA-256 of the weights that the step begins with; None where they are random
    Device, precision and the numbers of workers and processes are no part of it: a run may go on elsewhere. Nor are
    the other steps of the plan.
    """
    return {
        **training_facts(plan, part, step=step),
        "starts_from": starts_from,
        "train": {sample.name: sample.key for sample in train},
        "held_out": {sample.name: sample.key for sample in held_out},
    }
