"""Prepare every case of a data set for every configuration of a plan; what is current already is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from ..data.cases import HERE, Pool, map_cases
from ..data.dataset import Case, Dataset
from ..data.labels import LabelSet, split
from ..data.nifti import read_grid, read_image, read_labels
from ..data.store import CaseRecord, Store
from ..errors import FlarenetError
from ..planning.cost.memory import RANKED_BYTES
from ..planning.facts import preparation_facts
from ..planning.measuring.cache import Cache
from ..planning.plan import Configuration, Plan
from ..schema import digest
from ..volume import Volume, orientation_of, upright_grid
from ..whole import remove_leftovers, sha256_of
from ..workspace import Workspace
from .prepare import prepare_image, prepare_map
from .resample import resampled_shape
from .upright import on_grid, upright

PREPARATION_VERSION = 5
"""Part of every key. It is raised when the output of prepare changes, which makes all stored cases stale."""

PROCESS_MB, BYTES_PER_VOXEL, BYTES_PER_PREPARED_VOXEL = 150, 4, 6
"""Memory to prepare a case, measured and rounded up: of Python with what it imports, of a voxel of image and labels,
and of a voxel of the prepared ones until they are stored, besides one byte for each group's map."""

BYTES_PER_RANKED_VOXEL = RANKED_BYTES + 1
"""The same of a voxel of image and labels where an image has its own percentiles."""


@dataclass(frozen=True)
class Work:
    """One case to prepare for every configuration; small enough to send to another process.

    inputs  the SHA-256 of its image and label; None where the files have to be read for that
    verify  whether every byte of what is stored is read before it is taken for sound
    """

    case: Case
    labels: LabelSet
    configurations: Mapping[str, Configuration]
    workspace: Workspace
    inputs: tuple[str, str] | None = None
    verify: bool = False

    @property
    def name(self) -> str:
        return self.case.name


def prepare_dataset(
    dataset: Dataset, plan: Plan, workspace: Workspace, *, pool: Pool = HERE, verify: bool = False
) -> list[tuple[str, FlarenetError]]:
    """Fill the stores of `plan` with the training cases of `dataset`.

    A case is not opened if its files look as they did when planning measured them and it was prepared from those.
    With `verify`, every byte that is stored of it is read, and a damaged case is prepared again.
    Returns (case, error) of the cases that failed; the others are done. Raises NoRoom where the disk is full or cannot
    be written.
    """
    for folder in (workspace.prepared, workspace.measured, *map(workspace.store, plan.configurations)):
        remove_leftovers(folder)
    measured = Cache(workspace.measured, writable=False)
    work = [
        Work(case, plan.labels, plan.configurations, workspace, measured.digests(case), verify)
        for case in dataset.cases
    ]
    todo = [item for item in work if item.inputs is None or _stale(item, item.inputs)]
    _, failed = map_cases(prepare_case, todo, pool=pool, describe="prepare", need_mb=need_mb)
    return [(item.name, error) for item, error in failed]


def need_mb(work: Work) -> float:
    """The peak memory of the process that prepares a case, from the header of its image; rather too much than too
    little."""
    grid = read_grid(work.case.image, work.case.reading)
    upright = upright_grid(grid)
    reoriented = orientation_of(upright).apply_to_grid(upright)
    voxels = prod(grid.shape) + (0 if upright is grid else prod(upright.shape))
    prepared = max(
        prod(resampled_shape(reoriented.shape, reoriented.spacing_mm, configuration.spacing_mm))
        for configuration in work.configurations.values()
    )
    ranked = any(configuration.clip_hu is None for configuration in work.configurations.values())
    read = voxels * (BYTES_PER_RANKED_VOXEL if ranked else BYTES_PER_VOXEL)
    kept = prepared * (BYTES_PER_PREPARED_VOXEL + len(work.labels.groups))
    return PROCESS_MB + (read + kept) / (1 << 20)


def prepare_case(work: Work) -> str:
    """Prepare one case for each configuration whose store does not hold it from the same bytes by the same numbers.

    Its files are read once, however many configurations there are.
    """
    case, stale = work.case, _stale(work, work.inputs or _digest_of_inputs(work.case))
    if stale:
        image, label_map = upright(read_image(case.image, case.reading)), None
        if case.label is not None:
            by_hand = read_labels(case.label, work.labels, values=case.values, reading=case.reading)
            label_map = on_grid(by_hand.data, by_hand.grid, image.grid)
        for name, key in stale.items():
            _prepare(image, label_map, work, configuration=name, key=key)
    return case.name


def _stale(work: Work, inputs: tuple[str, str]) -> dict[str, str]:
    """{configuration: key} for the configurations whose store does not hold the case as made from these bytes by the
    present numbers."""
    keys = {name: _key(work.case, inputs, numbers, work.labels) for name, numbers in work.configurations.items()}
    stores = {name: Store(work.workspace.store(name)) for name in keys}
    return {name: key for name, key in keys.items() if not stores[name].is_current(work.name, key, verify=work.verify)}


def _prepare(image: Volume, label_map: np.ndarray | None, work: Work, *, configuration: str, key: str) -> None:
    prepared = prepare_image(image, work.configurations[configuration])
    maps = {}
    if label_map is not None:
        # every voxel is split alike, so the fewer voxels of the prepared grid do
        maps = split(prepare_map(label_map, prepared.frame), work.labels, work.case.annotated)
    Store(work.workspace.store(configuration)).write(
        work.case.name,
        annotated=work.case.annotated,
        key=key,
        numbers=prepared_by(work.configurations[configuration], work.labels),
        grid=prepared.frame.grid,
        original=prepared.frame.original,
        image=prepared.image,
        maps=maps,
    )


def _digest_of_inputs(case: Case) -> tuple[str, str]:
    return sha256_of(case.image), "" if case.label is None else sha256_of(case.label)


def _key(case: Case, inputs: tuple[str, str], configuration: Configuration, labels: LabelSet) -> str:
    """The digest of what a prepared case is made from: bytes of image and label, pattern, groups and numbers."""
    made_from = [
        PREPARATION_VERSION,
        *inputs,
        sorted(case.annotated),
        sorted(case.values.items()),
        case.reading.facts(),
        *preparation_facts(configuration, labels),
    ]
    return digest(made_from)


def prepared_by(configuration: Configuration, labels: LabelSet) -> str:
    """The digest, for a case's record, of the numbers that it is prepared by."""
    return digest([PREPARATION_VERSION, *preparation_facts(configuration, labels)])


def is_made_from(
    record: CaseRecord, case: Case, measured: Cache, *, configuration: Configuration, labels: LabelSet
) -> bool:
    """Whether a stored case has the pattern of `case`, and was made from the files that planning measured last.

    Of files that it never measured nothing is known.
    """
    inputs = measured.inputs(case)
    if inputs is None:
        return record.annotated == tuple(sorted(case.annotated))
    return record.key == _key(case, inputs, configuration, labels)
