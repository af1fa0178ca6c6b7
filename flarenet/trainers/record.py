"""What run.json says of a run, and whether that still holds; see training.run_file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import FlarenetError
from ..inference.about import WEIGHTS, read_about
from ..planning.plan import Plan
from ..schema import as_saved, digest, load_or_none
from ..training.batches import Sample
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
    models: Mapping[str, str],
) -> RunFile:
    """What run.json holds of a run before its first process.

    models  "TRAINER/STEP" -> SHA-256 of its weights, for every model that the run starts from or learns from
    """
    cases = [{sample.name: sample.key for sample in samples} for samples in (train, held_out)]
    return RunFile(
        title=title,
        seed=plan.seed,
        sha256={
            "plan": hashlib.sha256(as_saved(plan).encode()).hexdigest(),
            "dataset": sha256_of(workspace.settled),
            "cases": digest(cases),
            **models,
        },
    )


def trained_again(folder: Path, runs: Mapping[str, Path]) -> list[str]:
    """The runs whose weights are no longer those that the run in `folder` used.

    runs  "TRAINER/STEP" -> model folder
    A run is left out where its folder no longer holds a whole model, or where run.json is missing, damaged or does not
    name it: a finished run needs neither.
    """
    record = load_or_none(RunFile, folder / RUN_FILE)
    taken = record.sha256 if record else {}
    there = {run: weights for run, its in runs.items() if run in taken and (weights := _weights_of(its))}
    return [run for run, sha256 in there.items() if sha256 != taken[run]]


def _weights_of(folder: Path) -> str | None:
    """The SHA-256 of a model's weights; None where the folder holds no whole model."""
    try:
        return read_about(folder).sha256[WEIGHTS]
    except FlarenetError:
        return None
