"""What run.json says of a run, and whether it still holds; see training.run_file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import RunError
from ..inference.about import WEIGHTS, is_finished, read_about
from ..planning.plan import Plan
from ..schema import as_saved, digest, load
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
    """models: "TRAINER/STEP" -> SHA-256 of the weights, of every model that the run starts from or learns from"""
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
    """Those of `runs`, "TRAINER/STEP" -> model folder, whose weights are others by now than the run in `folder` took.

    Of a run that is not there any more nothing can be said, nor where run.json is not there or does not name it.
    Raises RunError where run.json is damaged.
    """
    if not (folder / RUN_FILE).is_file():
        return []
    taken = load(RunFile, folder / RUN_FILE, RunError).sha256
    there = {run: read_about(its).sha256[WEIGHTS] for run, its in runs.items() if run in taken and is_finished(its)}
    return [run for run, sha256 in there.items() if sha256 != taken[run]]
