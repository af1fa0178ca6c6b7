"""What run.json says of a run, and whether that still holds; see training.run_file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import FlarenetError
from ..inference.models.about import WEIGHTS, read_about, read_plan
from ..planning.facts import training_facts
from ..planning.plan import Plan
from ..planning.runs import Run
from ..schema import as_saved, digest, load_or_none
from ..training.batches import Sample
from ..training.checkpoints import differences
from ..training.run_file import RUN_FILE, RunFile
from ..whole import sha256_of
from ..workspace import Workspace


def run_facts(
    title: str,
    train: Sequence[Sample],
    held_out: Sequence[Sample],
    *,
    plan: Plan,
    workspace: Workspace,
    models: Mapping[Run, str],
) -> RunFile:
    """What run.json holds of a run before its first process.

    models  run -> SHA-256 of its weights, for every model that the run starts from or learns from
    """
    cases = [{sample.name: sample.key for sample in samples} for samples in (train, held_out)]
    return RunFile(
        title=title,
        seed=plan.seed,
        sha256={
            "plan": hashlib.sha256(as_saved(plan).encode()).hexdigest(),
            "dataset": sha256_of(workspace.settled),
            "cases": digest(cases),
            **{str(run): sha256 for run, sha256 in models.items()},
        },
    )


def trained_again(folder: Path, runs: Mapping[Run, Path]) -> list[Run]:
    """The runs whose weights are no longer those that the run in `folder` used.

    runs  run -> model folder
    A run is left out where its folder no longer holds a whole model, or where run.json is missing, damaged or does not
    name it: a finished run needs neither.
    """
    record = load_or_none(RunFile, folder / RUN_FILE)
    taken = record.sha256 if record else {}
    there = {run: weights for run, its in runs.items() if str(run) in taken and (weights := _weights_of(its))}
    return [run for run, sha256 in there.items() if sha256 != taken[str(run)]]


def planned_otherwise(folder: Path, run: Run, plan: Plan, *, length: bool) -> tuple[str, str]:
    """(what the finished model in `folder` has, what `plan` has) where these differ in the training of `run`.

    length  whether epochs count too, and those of the warm-up
    Empty where they agree, where the model is not whole any more, and where `plan` does not name the run.
    """
    same = {} if length else {"epochs": 1, "warmup_epochs": 0}
    try:
        plans = (read_plan(folder, read_about(folder)), plan)
        was, now = (
            training_facts(each, each.trainer(run.trainer), step=each.step(*run).model_copy(update=same))
            for each in plans
        )
    except FlarenetError:
        return "", ""
    return differences(was, now)


def _weights_of(folder: Path) -> str | None:
    """The SHA-256 of a model's weights; None where the folder holds no whole model."""
    try:
        return read_about(folder).sha256[WEIGHTS]
    except FlarenetError:
        return None
