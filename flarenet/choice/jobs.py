"""The two kinds of work of an ablation, each small enough to send to another process: train a run, score a trial."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.cases import Pool
from ..data.dataset import Case
from ..data.labels import LabelSet
from ..errors import FlarenetError, RunError
from ..evaluation.tables import Metrics
from ..inference.models.model import load_model
from ..inference.predict import Predictor
from ..planning.runs import Run
from ..trainers import TRAINERS
from ..workspace import Fold, Workspace
from .planned_runs import PlannedRun
from .scores import ScanAsRead, score_cases
from .variants import Answer


@dataclass(frozen=True)
class PieceWorkspace(Workspace):
    """The workspace of one run. Prepared cases, the run, and the runs that it builds on lie where their keys say.

    stores   configuration -> folder of prepared cases
    folders  run -> model folder
    """

    stores: Mapping[str, Path]
    folders: Mapping[Run, Path]

    def store(self, configuration: str) -> Path:
        return self.stores[configuration]

    def run(self, trainer: str, step: int, fold: Fold = 0) -> Path:
        return self.folders[Run(trainer, step)]


@dataclass(frozen=True)
class Training:
    """A run to train."""

    run: PlannedRun
    workspace: PieceWorkspace
    fold: Fold
    device: str

    @property
    def name(self) -> str:
        return self.run.name


def train_run(training: Training) -> None:
    """Train one run. Every exception becomes a FlarenetError, so that it ends this run and no other."""
    run = training.run
    # a daemon process, as a cluster's workers are, may not start loader processes
    loaders = 0 if multiprocessing.current_process().daemon else None
    trainer = TRAINERS[run.run.trainer](
        run.plan, training.workspace, fold=training.fold, device=training.device, workers=loaders
    )
    try:
        trainer.train(run.run.step)
    except FlarenetError:
        raise
    except Exception as error:
        raise RunError(f"training {run.name}", found=f"{type(error).__name__}: {error}", expected="an end") from error


@dataclass(frozen=True)
class Scoring:
    """A trial to score, whose models are finished.

    name     the trial's
    answers  the models that are scored, together
    models   the model folder of each of `answers`
    folder   where predictions and scores go
    scans    scans_as_read of the cases
    """

    name: str
    answers: tuple[Answer, ...]
    models: tuple[Path, ...]
    folder: Path
    cases: tuple[Case, ...]
    scans: Mapping[str, ScanAsRead]
    labels: LabelSet
    device: str
    pool: Pool


def score_trial(scoring: Scoring) -> tuple[str, Metrics]:
    """Predict and score one trial, with its own plan: a run may be shared by variants that predict differently."""
    labelled = ((answer.plan, answer.plan.trainer(answer.run.trainer).network.groups) for answer in scoring.answers)
    known = {value for plan, groups in labelled for group in groups for value in plan.labels.groups[group]}

    def opened() -> Predictor:
        models = [replace(load_model(folder), plan=one.plan) for folder, one in zip(scoring.models, scoring.answers)]
        return Predictor(*models, device=scoring.device)

    found = score_cases(
        scoring.cases,
        scoring.folder,
        scans=scoring.scans,
        opened=opened,
        known=known,
        labels=scoring.labels,
        title=scoring.name,
        pool=scoring.pool,
    )
    return scoring.name, found
