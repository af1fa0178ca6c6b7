"""Predictions of finished models for pseudo labels, stored unfiltered: one store of maps for each model and pass.

A model is identified by its weights and by how it predicts, a scan by the SHA-256 of its bytes. So another teacher, or
the same one with another overlap, means predicting again; other rules of filtering do not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..data.dataset import Case
from ..data.nifti import read_image
from ..data.store import Store
from ..inference.models.about import Described, read_about
from ..inference.predict import Predictor
from ..inference.views import view
from ..lock import locked
from ..planning.facts import prediction_facts
from ..planning.plan import Step
from ..planning.runs import Run
from ..preparation.upright import upright
from ..schema import digest
from ..whole import sha256_of
from ..workspace import Workspace

PSEUDO_VERSION = 1
"""Part of every key. A change of views or filters that changes results raises it, so that stored results are stale."""

Source = tuple[Run, int]
"""(a run; the number of the view of the scan that it saw)."""


class Sources:
    """The models behind a step's pseudo labels, and their stored predictions on each scan's own grid, upright.

    predictors  run -> its Predictor, for every run of runs_asked(step)
    """

    def __init__(self, predictors: Mapping[Run, Predictor], step: Step, workspace: Workspace) -> None:
        self._predictors, self._step, self._workspace = dict(predictors), step, workspace
        self._keys = {run: _model_key(asked.model) for run, asked in self._predictors.items()}

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that have a teacher."""
        return tuple(self._step.teachers)

    @property
    def seen(self) -> frozenset[str] | None:
        """The cases that any of the models learned from; None where a model does not say."""
        seen = [read_about(asked.model.folder).seen for asked in self._predictors.values()]
        return None if None in seen else frozenset(name for names in seen for name in names or ())

    @contextmanager
    def locked(self, wait: Callable[[str], object]) -> Iterator[None]:
        """Lock the stored predictions of every model. Where another run holds one, `wait` is called, then it waits."""
        folders = sorted({self._folder(run) for run in self._predictors})  # always in one order: no deadlock
        with ExitStack() as held:
            for folder in folders:
                held.enter_context(locked(folder, wait=wait))
            yield

    def of(self, group: str) -> list[Source]:
        """The sources for a group. The teacher with the unchanged scan, view 0, comes first."""
        rules = self._step.pseudo_rules
        passes = [(self._step.teachers[group], number) for number in range(rules.passes)]
        return passes + ([(rules.earlier[group], 0)] if group in rules.earlier else [])

    @property
    def key(self) -> str:
        """Identifies all models used, how they predict, and on how many views."""
        asked = {group: [[self._keys[run], number] for run, number in self.of(group)] for group in self.groups}
        return digest([PSEUDO_VERSION, asked])

    def predict(self, case: Case, groups: Collection[str]) -> None:
        """Predict `groups` of a case with their sources. Only missing, stale or damaged predictions are made."""
        wanted = {source for group in groups for source in self.of(group)}
        if not wanted:
            return
        key = digest([PSEUDO_VERSION, sha256_of(case.image), case.reading.facts()])
        missing = sorted(source for source in wanted if not self._holds(source, case.name, key))
        if not missing:
            return
        volume = upright(read_image(case.image, case.reading))
        for run in sorted({run for run, _ in missing}):
            model, numbers = self._predictors[run].model, [number for asked, number in missing if asked == run]
            augmentation = model.plan.trainer(model.trainer).augmentation
            answers = self._predictors[run].predict_views(volume, [view(number, augmentation) for number in numbers])
            for number, maps in zip(numbers, answers):
                self._store(run, number).write(
                    case.name,
                    annotated=(),
                    key=key,
                    grid=volume.grid,
                    original=volume.grid,
                    image=None,
                    maps=maps,
                    placed=False,
                )

    def stores(self, groups: Iterable[str]) -> dict[str, list[Store]]:
        """group -> the store of each of its sources, with a map of the group for every case that was predicted."""
        return {group: [self._store(*source) for source in self.of(group)] for group in groups}

    def _holds(self, source: Source, name: str, key: str) -> bool:
        return self._store(*source).is_current(name, key, verify=True)

    def _store(self, run: Run, number: int) -> Store:
        return Store(self._folder(run) / f"pass_{number}")

    def _folder(self, run: Run) -> Path:
        return self._workspace.pseudo(self._predictors[run].model.trainer, self._keys[run])


def runs_asked(step: Step) -> tuple[Run, ...]:
    """The runs that have to be finished for a step's pseudo labels; each once."""
    return tuple(dict.fromkeys((*step.teachers.values(), *step.pseudo_rules.earlier.values())))


def _model_key(model: Described) -> str:
    """Identifies all that a model's predictions depend on, apart from the scan and the view of it, and from device and
    precision: where these differ, an interrupted run resumes with the pseudo labels that it began with."""
    return digest([model.weights_sha256, *prediction_facts(model.configuration, model.plan.fusion, whole=False)])
