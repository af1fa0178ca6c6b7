"""Pseudo labels: what finished models say about the labels that nobody looked for.

A teacher predicts on the scan's own grid. Its maps are kept under its weights' SHA-256, so a new teacher means
predicting again. What was drawn by hand never changes: see data.labels.complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from rich.progress import track

from ..data.dataset import Case
from ..data.labels import complete, split
from ..data.nifti import read_image, read_labels
from ..data.store import Store
from ..inference.predict import Predictor
from ..planning.plan import Plan
from ..preparation.dataset import case_key
from ..preparation.prepare import frame_between, prepare_map
from ..preparation.upright import on_grid, upright
from ..volume import Grid
from ..workspace import Workspace


class Teachers:
    """The finished models that a step names, and the labels they complete.

    predictors  group -> the Predictor of the run that answers it
    """

    def __init__(self, predictors: Mapping[str, Predictor], plan: Plan, workspace: Workspace) -> None:
        self._predictors, self._plan, self._workspace = dict(predictors), plan, workspace

    def complete(self, cases: Sequence[Case], configuration: str) -> Store:
        """A store of completed group maps for `cases`, on the prepared grids of `configuration`.

        Each record's `annotated` is the pattern that the completed maps answer. Only what is missing or stale is made.
        """
        store = Store(self._workspace.pseudo(f"completed-{configuration}", self._key))
        numbers = self._plan.configurations[configuration]
        todo = []
        for case in cases:
            key = hashlib.sha256((case_key(case, numbers, self._plan.labels) + self._key).encode()).hexdigest()
            if not store.is_current(case.name, key):
                todo.append((case, key))
        for case, key in track(todo, description="pseudo labels", disable=not todo):
            self._complete_case(case, key, store, configuration)
        return store

    @property
    def _key(self) -> str:
        named = sorted((group, predictor.model.weights_sha256) for group, predictor in self._predictors.items())
        return hashlib.sha256(repr(named).encode()).hexdigest()

    def _complete_case(self, case: Case, key: str, store: Store, configuration: str) -> None:
        labels = self._plan.labels
        prepared = Store(self._workspace.store(configuration)).read(case.name).record
        by_hand = self._by_hand(case, prepared.original)
        pseudo = {
            group: self._predict(case, prepared.key, group, predictor)
            for group, predictor in self._predictors.items()
            if not set(labels.groups[group]) <= case.annotated
        }
        maps, pattern = complete(by_hand, pseudo, labels, case.annotated)
        frame = frame_between(prepared.original, prepared.grid)
        store.write(
            case.name,
            annotated=pattern,
            key=key,
            grid=frame.grid,
            original=frame.original,
            image=None,
            maps={group: prepare_map(array, frame) for group, array in maps.items()},
        )

    def _by_hand(self, case: Case, grid: Grid) -> dict[str, np.ndarray]:
        labels = self._plan.labels
        if case.label is None:
            return {group: np.zeros(grid.shape, dtype=np.uint8) for group in labels.groups}
        drawn = read_labels(case.label, labels, values=case.values, reading=case.reading)
        return split(on_grid(drawn.data, drawn.grid, grid), labels, case.annotated)

    def _predict(self, case: Case, key: str, group: str, predictor: Predictor) -> np.ndarray:
        """The teacher's map on the scan's own grid, upright; `key` stands for the bytes of the scan."""
        store = Store(self._workspace.pseudo(predictor.model.trainer, predictor.model.weights_sha256))
        if not store.is_current(case.name, key):
            volume = upright(read_image(case.image, case.reading))
            maps = predictor.predict_groups(volume)
            store.write(
                case.name, annotated=(), key=key, grid=volume.grid, original=volume.grid, image=None, maps=maps
            )
        return np.asarray(store.read(case.name).maps[group])
