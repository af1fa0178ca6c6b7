"""What makes a training run what it is. A run that was broken off goes on only where all of this is the same."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from ..planning.plan import Plan, Step, TrainerPlan
from ..training.batches import Sample

_OF_NO_MATTER = {"why", "inference_spacing_mm", "overlap"}
"""Of a configuration: what prediction needs, and the reasons."""


def identity_of(
    step: Step,
    train: Sequence[Sample],
    held_out: Sequence[Sample],
    *,
    plan: Plan,
    part: TrainerPlan,
    starts_from: str | None,
) -> dict[str, JsonValue]:
    """The numbers of the step, and each of its cases with a key of what it was made from.

    starts_from  the SHA-256 of the weights that the step begins with; None where they are random
    Device, precision, worker and process counts are no part of it: a run may go on elsewhere. So are the other steps.
    """
    return {
        "step": step.model_dump(mode="json"),
        "trainer": part.model_dump(mode="json", exclude={"steps", "why"}),
        "configuration": plan.configurations[part.configuration].model_dump(mode="json", exclude=_OF_NO_MATTER),
        "labels": plan.labels.model_dump(mode="json", include={"names", "groups"}),  # tolerances are of scores alone
        "seed": plan.seed,
        "starts_from": starts_from,
        "train": {sample.name: sample.key for sample in train},
        "held_out": {sample.name: sample.key for sample in held_out},
    }
