"""The finished runs that a step builds on: the one it starts from, and its teachers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..data.labels import LabelSet, difference
from ..errors import RunError
from ..inference.models.about import WEIGHTS, About, is_finished, read_about, read_plan, unsafe
from ..planning.runs import Run


@dataclass(frozen=True)
class Foundation:
    """A finished run: its model folder, and the content of about.json in it."""

    folder: Path
    about: About

    @property
    def weights_sha256(self) -> str:
        return self.about.sha256[WEIGHTS]


def find_foundation(
    run: Run, folder: Path, *, trainer: str, command: str, held_out: frozenset[str], labels: LabelSet
) -> Foundation:
    """The run in `folder`, for a step of `trainer` that holds out the cases `held_out`.

    command  the command that trains the run
    labels   the label table of the step's plan
    Raises RunError, with the command, where the run is not finished, has learned from a held-out case or may have, or
    has another label table.
    """
    if not is_finished(folder):
        raise RunError(
            f"{trainer} needs {run.trainer} step {run.step}",
            found=f"no finished run in {folder}",
            expected="a finished one",
            remedy=command,
        )
    about = read_about(folder)
    if held_out and (about.seen is None or not held_out.isdisjoint(about.seen)):
        raise RunError(
            f"{trainer} builds on {folder}",
            found="a model that learned from cases that are held out here, or does not say from which",
            expected="one of the same folds",
            remedy=f"remove this folder, then {command}",
        )
    with unsafe(about.flarenet):
        plan = read_plan(folder, about)
    segments = plan.trainer(about.trainer).network.groups  # an autoencoder has none
    if segments and (other := difference(plan.labels, labels)):
        raise RunError(
            f"{trainer} builds on {folder}",
            found=f"a model of another label table: {other[0]}",
            expected=f"one of the plan's: {other[1]}",
            remedy=f"remove this folder, then {command}",
        )
    return Foundation(folder, about)
