"""Prepare every case of a data set for every configuration of a plan; what is current already is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..data.cases import Pool, map_cases
from ..data.dataset import Case, Dataset
from ..data.labels import LabelSet, split
from ..data.nifti import read_image, read_labels
from ..data.store import Store
from ..errors import FlarenetError
from ..planning.plan import Configuration, Plan
from ..schema import to_json
from ..whole import sha256_of
from ..workspace import Workspace
from .prepare import prepare_image, prepare_map

PREPARATION_VERSION = 1
"""Part of every key: a change of prepare that changes its output makes all stored cases stale."""


@dataclass(frozen=True)
class _Work:
    """One case for one configuration; small enough to send to another process."""

    case: Case
    labels: LabelSet
    configuration: Configuration
    store: Path

    @property
    def name(self) -> str:
        return self.case.name


def prepare_dataset(
    dataset: Dataset, plan: Plan, workspace: Workspace, *, workers: int | Pool = 1, skip: Collection[str] = ()
) -> list[tuple[str, FlarenetError]]:
    """Fill the stores of `plan` with the training cases of `dataset`, `skip` left out.

    Returns (case, error) of those that failed; the others are done.
    """
    failures: list[tuple[str, FlarenetError]] = []
    for name, configuration in plan.configurations.items():
        work = [
            _Work(case, plan.labels, configuration, workspace.store(name))
            for case in dataset.cases
            if case.name not in skip
        ]
        _, failed = map_cases(prepare_case, work, workers=workers, describe=f"prepare {name}")
        failures += [(item.name, error) for item, error in failed]
    return failures


def prepare_case(work: _Work) -> str:
    """Prepare one case unless its store holds it already, made from the same bytes by the same numbers."""
    store, key = Store(work.store), case_key(work.case, work.configuration, work.labels)
    if not store.is_current(work.case.name, key):
        prepared = prepare_image(read_image(work.case.image), work.configuration)
        maps = {}
        if work.case.label is not None:
            drawn = read_labels(work.case.label, work.labels)
            by_hand = split(drawn.data, work.labels, work.case.annotated)
            maps = {group: prepare_map(array, prepared.frame) for group, array in by_hand.items()}
        store.write(
            work.case.name,
            annotated=work.case.annotated,
            key=key,
            grid=prepared.frame.grid,
            original=prepared.frame.original,
            image=prepared.image,
            maps=maps,
        )
    return work.case.name


def case_key(case: Case, configuration: Configuration, labels: LabelSet) -> str:
    """What a prepared case was made from: bytes of image and label, pattern, groups and numbers, as one SHA-256."""
    made_from = [
        PREPARATION_VERSION,
        sha256_of(case.image),
        sha256_of(case.label) if case.label is not None else "",
        sorted(case.annotated),
        {group: list(values) for group, values in labels.groups.items()},
        configuration.model_dump(mode="json", include={"spacing_mm", "clip_hu"}),
    ]
    return hashlib.sha256(to_json(made_from).encode()).hexdigest()
