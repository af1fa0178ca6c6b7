"""What a prediction may change of its models' plans: how answers are put together, and how far windows overlap."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import UsageError
from ...planning.plan import Plan
from ...planning.plan_file import override
from .about import Described, check_together, describe
from .found import models_in

_OVERLAP = re.compile(r"configurations\.([^.=]+)\.overlap=")


def with_changes(models: Sequence[Described | Path | str], changes: Sequence[str]) -> list[Described]:
    """The models, or those that folders stand for (models_in), after `changes`; all with the fusion of the first one.
    Takes and raises what Predictor does."""
    for change in changes:
        if not change.startswith("fusion.") and not _OVERLAP.match(change):
            expected = "fusion.FIELD=VALUE or configurations.NAME.overlap=SHARE"
            raise UsageError(f"--set {change!r}", found="a value settled in training", expected=expected)
    described = [
        model if isinstance(model, Described) else describe(model)
        for given in models
        for model in ([given] if isinstance(given, Described) else models_in(Path(given)))
    ]
    check_together(described)
    plans = _changed(described, changes) if changes else [model.plan for model in described]
    fusion = plans[0].fusion
    return [replace(model, plan=plan.model_copy(update={"fusion": fusion})) for model, plan in zip(described, plans)]


def _changed(models: Sequence[Described], changes: Sequence[str]) -> list[Plan]:
    """The plan of each model after those of `changes` that concern it. Raises UsageError for one that concerns none."""
    used = [model.plan.trainer(model.trainer).configuration for model in models]
    meant = {change: found[1] for change in changes if (found := _OVERLAP.match(change))}
    for change, name in meant.items():
        if name not in ("*", *used):
            expected = f"one that a model uses: {', '.join(sorted(set(used)))}"
            raise UsageError(f"--set {change!r}", found=f"configuration {name!r}", expected=expected)
    return [
        override(model.plan, [change for change in changes if meant.get(change, own) in ("*", own)], trained=True)
        for model, own in zip(models, used)
    ]
