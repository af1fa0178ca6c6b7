"""Predicts and scores cases that the models have never seen."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console
from rich.progress import Progress

from ..data.cases import HERE, Pool
from ..data.dataset import Case
from ..data.labels import LabelSet
from ..data.reading import Reading
from ..errors import FlarenetError
from ..evaluation.pairs import CaseScores, Pair
from ..evaluation.tables import Metrics, score_pairs
from ..inference.many import predict_pairs
from ..inference.models.about import PLAN, WEIGHTS, read_about
from ..inference.outcome import Outcome
from ..inference.predict import Predictor
from ..schema import Frozen, load_or_none, save
from ..whole import remove_leftovers, sha256_of
from ..workspace import Workspace
from .candidates import Candidate

SCANS = "scans"


class ScanAsRead(Frozen):
    """What a prediction was made from, apart from the models.

    sha256   that of the scan's bytes
    reading  how they were read, see Reading.facts
    """

    sha256: str
    reading: dict[str, JsonValue]


def scans_as_read(cases: Iterable[Case]) -> dict[str, ScanAsRead]:
    """{case name: its scan as it is now}. Scans that cannot be read are left out: prediction reports them."""
    found = {}
    for case in cases:
        with suppress(OSError):
            found[case.name] = ScanAsRead(sha256=sha256_of(case.image), reading=case.reading.facts())
    return found


def score(
    candidate: Candidate,
    fold: int,
    cases: Sequence[Case],
    *,
    scans: Mapping[str, ScanAsRead],
    workspace: Workspace,
    labels: LabelSet,
    device: str = "auto",
    pool: Pool = HERE,
) -> list[CaseScores]:
    """The scores of `cases`, each for the labels that are annotated in it and that the candidate predicts.

    scans  scans_as_read of the cases
    Cases without such a label are left out. Predictions and scores lie in the workspace under a hash of the models'
    weights and plans (which state how models are used), and are made once for each scan.
    """
    models = candidate.folders[fold]
    found = score_cases(
        cases,
        _folder(candidate, fold, workspace),
        scans=scans,
        opened=lambda: Predictor(*models, device=device),
        known=_known(candidate, labels),
        labels=labels,
        title=f"{candidate.name}, fold {fold}",
        pool=pool,
    )
    return [CaseScores(name, scores, found.failed.get(name)) for name, scores in found.cases.items()]


def predicted_pairs(
    candidate: Candidate, fold: int, cases: Sequence[Case], *, workspace: Workspace, labels: LabelSet
) -> list[Pair]:
    """The truths and predictions that `score` has compared."""
    return _pairs(cases, _folder(candidate, fold, workspace), _known(candidate, labels))


def score_cases(
    cases: Sequence[Case],
    folder: Path,
    *,
    scans: Mapping[str, ScanAsRead],
    opened: Callable[[], Predictor],
    known: Collection[int],
    labels: LabelSet,
    title: str,
    pool: Pool = HERE,
) -> Metrics:
    """Predict `cases` into `folder`, score them, and write the metrics there too, see tables.score_pairs.

    scans   scans_as_read of the cases. What each prediction was made from is recorded in scans/CASE.json in `folder`
    opened  returns the Predictor; called only if a prediction is missing or was made from another scan
    known   values that the Predictor predicts. A case is scored for those of them that are annotated in it, and left
            out if there are none
    title   what the progress bars call the models
    """
    asked = [case for case in cases if case.annotated & set(known)]
    remove_leftovers(folder / SCANS)
    _predict(asked, folder, scans=scans, opened=opened, title=title)
    return score_pairs(_pairs(cases, folder, known), labels, folder, pool=pool, describe=f"scoring {title}")


def _pairs(cases: Sequence[Case], folder: Path, known: Collection[int]) -> list[Pair]:
    return [
        Pair(case.name, case.label, folder / f"{case.name}.nii.gz", to_score, case.values, case.reading)
        for case in cases
        if case.label is not None and (to_score := case.annotated & set(known))
    ]


def _known(candidate: Candidate, labels: LabelSet) -> set[int]:
    return {value for group in candidate.groups for value in labels.groups[group]}


def _folder(candidate: Candidate, fold: int, workspace: Workspace) -> Path:
    files = [read_about(folder).sha256[name] for folder in candidate.folders[fold] for name in (WEIGHTS, PLAN)]
    models = hashlib.sha256(" ".join(files).encode()).hexdigest()[:12]
    return workspace.compare / candidate.name.replace("/", "-").replace(" ", "") / f"fold_{fold}-{models}"


def _predict(
    cases: Sequence[Case], folder: Path, *, scans: Mapping[str, ScanAsRead], opened: Callable[[], Predictor], title: str
) -> None:
    """Make predictions that are missing or were made from another scan.

    A case that fails is named on stderr; it has no prediction, and so scores 0.
    """
    outputs = {case.name: folder / f"{case.name}.nii.gz" for case in cases}
    records = {case.name: folder / SCANS / f"{case.name}.json" for case in cases}

    def is_done(case: Case) -> bool:
        made_of = load_or_none(ScanAsRead, records[case.name])
        return outputs[case.name].is_file() and made_of is not None and made_of == scans.get(case.name)

    todo = [case for case in cases if not is_done(case)]
    if not todo:
        return
    predictor, console = opened(), Console(stderr=True)
    for case in todo:
        outputs[case.name].unlink(missing_ok=True)  # else the old one would stay if the new scan fails
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title, total=len(todo))

        def tell(part: Mapping[Path, Case], image: Path, result: Outcome | FlarenetError) -> None:
            name = part[image].name
            if isinstance(result, FlarenetError):
                console.print(f"{image.name}: {result}", markup=False, highlight=False)
            elif name in scans:
                save(scans[name], records[name])
            bar.advance(task)

        for reading, part in _parts(todo):
            pairs = {image: outputs[case.name] for image, case in part.items()}
            predict_pairs(predictor, pairs, progress=partial(tell, part), reading=reading)


def _parts(cases: Iterable[Case]) -> list[tuple[Reading, dict[Path, Case]]]:
    """(reading, {image: case}): what one call of predict_pairs takes. Two cases may have one image."""
    parts: dict[tuple[Reading, int], dict[Path, Case]] = {}
    before = Counter[Path]()
    for case in cases:
        parts.setdefault((case.reading, before[case.image]), {})[case.image] = case
        before[case.image] += 1
    return [(reading, part) for (reading, _), part in parts.items()]
