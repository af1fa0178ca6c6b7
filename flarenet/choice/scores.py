"""What a candidate says about the cases that its models never saw, and how well."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ..data.cases import Pool
from ..data.dataset import Case
from ..data.labels import LabelSet
from ..errors import FlarenetError
from ..evaluation.pairs import CaseScores, Pair, evaluate
from ..evaluation.tables import Metrics, summarise, write_metrics
from ..inference.about import WEIGHTS, read_about
from ..inference.ensemble import open_models
from ..inference.predict import Outcome, Predictor, predict_pairs
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
    models = candidate.folders[fold]
    found = score_cases(
        cases,
        _folder(candidate, fold, workspace),
        opened=lambda: open_models(models, device=device),
        known=_known(candidate, labels),
        labels=labels,
        title=f"{candidate.name}, fold {fold}",
        workers=workers,
    )
    return [CaseScores(name, scores, found.failed.get(name)) for name, scores in found.cases.items()]


def predicted_pairs(
    candidate: Candidate, fold: int, cases: Sequence[Case], *, workspace: Workspace, labels: LabelSet
) -> list[Pair]:
    """The truths and predictions of what `score` has scored."""
    return _pairs(cases, _folder(candidate, fold, workspace), _known(candidate, labels))


def score_cases(
    cases: Sequence[Case],
    folder: Path,
    *,
    opened: Callable[[], Predictor],
    known: Collection[int],
    labels: LabelSet,
    title: str,
    workers: int | Pool = 1,
) -> Metrics:
    """Predict `cases` into `folder`, score them, and write metrics.json and scores.csv beside the predictions.

    opened  gives the Predictor; called only where a prediction is missing
    known   the values that it answers: a case is scored for those that were looked for in it, and left out without any
    """
    _predict([case for case in cases if case.annotated & set(known)], folder, opened=opened, title=title)
    pairs = _pairs(cases, folder, known)
    found = summarise(evaluate(pairs, labels, workers=workers, keep=folder / "cases"), labels)
    write_metrics(folder, found)
    return found


def _pairs(cases: Sequence[Case], folder: Path, known: Collection[int]) -> list[Pair]:
    return [
        Pair(case.name, case.label, folder / f"{case.name}.nii.gz", asked, case.values, case.reading)
        for case in cases
        if case.label is not None and (asked := case.annotated & set(known))
    ]


def _known(candidate: Candidate, labels: LabelSet) -> set[int]:
    return {value for group in candidate.groups for value in labels.groups[group]}


def _folder(candidate: Candidate, fold: int, workspace: Workspace) -> Path:
    weights = [read_about(folder).sha256[WEIGHTS] for folder in candidate.folders[fold]]
    digest = hashlib.sha256(" ".join(weights).encode()).hexdigest()[:12]
    return workspace.compare / candidate.name.replace("/", "-").replace(" ", "") / f"fold_{fold}-{digest}"


def _predict(cases: Sequence[Case], folder: Path, *, opened: Callable[[], Predictor], title: str) -> None:
    """Predict what is not there yet. A case that fails has no prediction, is named on stderr, and scores 0."""
    outputs = {case.name: folder / f"{case.name}.nii.gz" for case in cases}
    todo = [case for case in cases if not outputs[case.name].is_file()]
    if not todo:
        return
    predictor, console = opened(), Console(stderr=True)

    def tell(image: Path, result: Outcome | FlarenetError) -> None:
        if isinstance(result, FlarenetError):
            console.print(f"{image.name}: {result}", markup=False, highlight=False)

    for case in track(todo, description=title, console=console, transient=True):
        predict_pairs(predictor, {case.image: outputs[case.name]}, progress=tell, reading=case.reading)
