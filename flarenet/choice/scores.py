"""What a candidate says about the cases that its models never saw, and how well."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ..data.cases import Pool
from ..data.dataset import Case
from ..data.labels import LabelSet
from ..errors import DatasetError, FlarenetError
from ..evaluation.pairs import CaseScores, Pair, evaluate
from ..evaluation.tables import Metrics, summarise, write_metrics
from ..inference.ensemble import open_models
from ..inference.model import WEIGHTS, read_about
from ..inference.predict import Outcome, predict_pairs
from ..schema import load
from ..workspace import Workspace
from .candidates import Candidate


def score(
    candidate: Candidate,
    fold: int,
    cases: Sequence[Case],
    *,
    workspace: Workspace,
    labels: LabelSet,
    device: str = "auto",
    workers: int | Pool = 1,
) -> list[CaseScores]:
    """The scores of `cases`, each for what was looked for in it and the candidate answers; the others are left out.

    Predictions and scores lie in the workspace under the hash of the models' weights, and are made once.
    """
    known = {value for group in candidate.groups for value in labels.groups[group]}
    asked = [case for case in cases if case.annotated & known]
    folder = _folder(candidate, fold, workspace)
    kept = _kept(folder)
    if kept is None or kept.failed or set(kept.cases) != {case.name for case in asked}:
        _predict(candidate.folders[fold], asked, folder, device=device, title=f"{candidate.name}, fold {fold}")
        pairs = [
            Pair(case.name, case.label, folder / f"{case.name}.nii.gz", case.annotated & known, case.values)
            for case in asked
            if case.label is not None
        ]
        kept = summarise(evaluate(pairs, labels, workers=workers), labels)
        write_metrics(folder, kept)
    return [CaseScores(name, scores, kept.failed.get(name)) for name, scores in kept.cases.items()]


def _folder(candidate: Candidate, fold: int, workspace: Workspace) -> Path:
    weights = [read_about(folder).sha256[WEIGHTS] for folder in candidate.folders[fold]]
    digest = hashlib.sha256(" ".join(weights).encode()).hexdigest()[:12]
    return workspace.compare / candidate.name.replace("/", "-").replace(" ", "") / f"fold_{fold}-{digest}"


def _kept(folder: Path) -> Metrics | None:
    path = folder / "metrics.json"
    return load(Metrics, path, DatasetError) if path.is_file() else None


def _predict(models: Sequence[Path], cases: Sequence[Case], folder: Path, *, device: str, title: str) -> None:
    """Predict what is not there yet. A case that fails has no prediction, is named on stderr, and scores 0."""
    outputs = {case.name: folder / f"{case.name}.nii.gz" for case in cases}
    todo = [case for case in cases if not outputs[case.name].is_file()]
    if not todo:
        return
    predictor, console = open_models(models, device=device), Console(stderr=True)

    def tell(image: Path, result: Outcome | FlarenetError) -> None:
        if isinstance(result, FlarenetError):
            console.print(f"{image.name}: {result}", markup=False, highlight=False)

    for case in track(todo, description=title, console=console, transient=True):
        predict_pairs(predictor, {case.image: outputs[case.name]}, progress=tell, reading=case.reading)
