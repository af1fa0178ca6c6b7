"""Which fields of a plan decide a prepared case, a training and a prediction; no other place sorts them.

Facts are JSON values. They, or their digest, are stored with each result: where one changes, the result is stale.
"""

from __future__ import annotations

from pydantic import JsonValue

from ..data.labels import LabelSet
from .fusion import Fusion
from .plan import Configuration, Plan, Step, TrainerPlan

OF_PREPARATION = {"spacing_mm", "normalisation", "clip_hu", "interpolation"}
OF_TRAINING = OF_PREPARATION | {"patch", "neighbours"}
OF_PREDICTION = OF_TRAINING | {"inference_spacing_mm", "overlap"}
"""The fields of a configuration that decide preparation, training and prediction; `why` decides nothing."""

OF_EACH_GROUP = {"rule", "flips"}
"""The fields of Fusion that decide the map of a single group; the others are rules for connected parts."""


def preparation_facts(configuration: Configuration, labels: LabelSet) -> list[JsonValue]:
    """What decides how cases are prepared. Configurations for which it is the same can share a store."""
    return [
        {group: list(values) for group, values in labels.groups.items()},
        configuration.model_dump(mode="json", include=OF_PREPARATION),
    ]


def training_facts(plan: Plan, part: TrainerPlan, *, step: Step) -> dict[str, JsonValue]:
    """What decides the weights that a step ends with, apart from its cases, the runs it builds on and the machine.

    part  the plan of the step's trainer. Its other steps count only as far as this step builds on them
    Into how many parts a batch is divided (update.accumulate) is not a fact, nor is the number of processes.
    """
    return {
        "step": step.model_dump(mode="json"),
        "trainer": _in_one_part(part).model_dump(mode="json", exclude={"steps", "why"}),
        "configuration": plan.configurations[part.configuration].model_dump(mode="json", include=OF_TRAINING),
        "labels": plan.labels.model_dump(mode="json", include={"names", "groups"}),  # tolerances are of scores alone
        "seed": plan.seed,
    }


def _in_one_part(part: TrainerPlan) -> TrainerPlan:
    """`part` with undivided batches, so that dividing them changes no fact, nor those of plans from before it."""
    return part.model_copy(update={"update": part.update.model_copy(update={"accumulate": 1})})


def prediction_facts(configuration: Configuration, fusion: Fusion, *, whole: bool) -> list[JsonValue]:
    """What decides a model's prediction, apart from its weights, its labels and the scan.

    whole  whether it is the whole label map; else it is the map of each group, which is all that a teacher predicts
    """
    unused = set() if fusion.least_share else {"least_share"}  # so that facts from before this rule stay the same
    return [
        configuration.model_dump(mode="json", include=OF_PREDICTION),
        fusion.model_dump(mode="json", include=None if whole else OF_EACH_GROUP, exclude=unused),
    ]
