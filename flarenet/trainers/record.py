"""What run.json says of a run; see training.run_file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from ..planning.plan import Plan
from ..schema import as_saved, digest
from ..training.batches import Sample
from ..training.run_file import RunFile
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
