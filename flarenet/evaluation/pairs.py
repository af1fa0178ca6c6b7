"""Score two folders of label maps case by case: every truth is scored, or reported with what is wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..data.cases import HERE, Pool, map_cases
from ..data.dataset import Dataset
from ..data.labels import LabelPattern, LabelSet, ignored_share
from ..data.names import by_case, files_in
from ..data.nifti import inspect_labels, read_grid, read_labels
from ..data.reading import STRICT, Reading
from ..errors import DatasetError, FlarenetError, StorageError, without_folders
from ..schema import Frozen, digest, load_or_none, save
from ..volume import Volume
from ..whole import sha256_of
from .lesions import Lesion, find_lesions
from .masks import TwoMaps, check_same_grid
from .rules import PLAIN, Rules
from .scores import LabelScore, score_case

MEASURES = 2
"""Increased whenever a measure changes, so that scores kept before are computed again."""


@dataclass(frozen=True)
class Pair:
    """A truth, the prediction that should exist for it, and the values to score.

    values   value in the truth's file -> value of the label table, or HIDDEN; empty where they are the same
    reading  how both files, and the image that they belong to, are read
    """

    name: str
    truth: Path
    prediction: Path
    to_score: LabelPattern
    values: Mapping[int, int] = field(default_factory=dict)
    reading: Reading = STRICT


@dataclass(frozen=True)
class CaseScores:
    """The result of one case: `scores` by label name. `failure` says why a case could not be scored properly: with a
    missing or broken prediction every label to score counts as 0 and every lesion as missed; without a readable truth
    there are no scores at all."""

    name: str
    scores: dict[str, LabelScore]
    failure: str | None = None
    lesions: tuple[Lesion, ...] = ()


class Kept(Frozen):
    """The file with the scores of a case; `key` is a digest of all that they depend on."""

    key: str
    scores: dict[str, LabelScore]
    lesions: tuple[Lesion, ...]


def pair_up(
    truth: Path,
    prediction: Path,
    *,
    dataset: Dataset,
    rules: Rules = PLAIN,
    reading: Reading = STRICT,
    skip_missing: bool = False,
) -> tuple[list[Pair], list[str]]:
    """The pairs of two folders of CASE.nii.gz (or .nii), and notes on what does not fit.

    Every file of `truth` makes a pair; with `skip_missing` only those that have a prediction. Raises DatasetError where
    there is no pair, or either folder does not exist.
    """
    known = dataset.by_name
    truths, predicted = _label_maps(truth, known), _label_maps(prediction, known)
    looked_for = {name: case.looked_for for name, case in known.items()}
    every = [
        Pair(
            name,
            path,
            predicted.get(name, prediction / path.name),
            rules.to_score(looked_for.get(name), dataset.labels),
            dataset.values_of(path),
            reading,
        )
        for name, path in truths.items()
    ]
    pairs = [pair for pair in every if pair.name in predicted or not skip_missing]
    if not pairs:
        raise DatasetError(truth, found=f"{len(every)} label maps to score", expected="CASE.nii.gz in both folders")
    notes = _notes(pairs, dataset, rules, truths=set(truths), predicted=set(predicted))
    return pairs, notes if predicted else [f"no label map in {prediction.name}", *notes]


def _notes(
    pairs: Sequence[Pair], dataset: Dataset, rules: Rules, *, truths: set[str], predicted: set[str]
) -> list[str]:
    """What does not fit, each with the cases or labels concerned."""
    scored, known = {pair.name for pair in pairs}, dataset.by_name
    unlabelled = {name for name, case in known.items() if case.looked_for is None}
    undeclared = {name for name, case in known.items() if case.label is not None and not case.declared}
    notes = {
        "not in dataset.json, so scored on every label": scored - set(known),
        "without a label in dataset.json, so scored on every label": scored & unlabelled,
        "nobody stated or inferred what was looked for, so scored on every label": scored & undeclared,
        "not the case's own label file, so read with the values that predictions have, not with that file's": {
            pair.name for pair in pairs if pair.name in known and known[pair.name].values not in ({}, pair.values)
        },
        "nothing was looked for, so not scored": {pair.name for pair in pairs if not pair.to_score},
        "without a prediction, left out as requested": truths - scored,
        "predictions without a ground truth, left out": predicted - truths,
        "labels of the challenge that the data set does not name, so not the challenge's own digits": (
            rules.lacking(dataset.labels)
        ),
        "tolerances of dataset.json that are not the challenge's, so not the challenge's own digits": (
            rules.differing(dataset.labels)
        ),
    }
    return [f"{what}: {', '.join(sorted(names))} ({len(names)})" for what, names in notes.items() if names]


def evaluate(
    pairs: Sequence[Pair],
    labels: LabelSet,
    *,
    rules: Rules = PLAIN,
    pool: Pool = HERE,
    keep: Path | None = None,
    describe: str = "scoring",
) -> list[CaseScores]:
    """The scores of every pair, in order; a case that fails is reported and does not stop the others.

    keep      a folder for one file per scored case; scores kept there for the same files and settings are reused
    describe  what the progress bar says
    """
    score = partial(score_pair, labels=labels, rules=rules, keep=keep)
    done, failures = map_cases(score, pairs, pool=pool, describe=describe, need_mb=need_mb)
    by_name = {case.name: case for case in done}
    by_name |= {pair.name: _lost(pair, labels, str(error)) for pair, error in failures}
    return [_without_folders(by_name[pair.name], pair) for pair in pairs]


def _without_folders(case: CaseScores, pair: Pair) -> CaseScores:
    """`case` with a failure that names files without their folders, since tables and pages are passed on."""
    if case.failure is None:
        return case
    return replace(case, failure=without_folders(case.failure, (pair.truth.parent, pair.prediction.parent)))


def score_pair(pair: Pair, *, labels: LabelSet, rules: Rules = PLAIN, keep: Path | None = None) -> CaseScores:
    """Read and score one pair; what is wrong with its files is reported in the result, not raised."""
    key = None if keep is None else _key(pair, labels, rules)
    if keep is None or key is None:
        return _measure(pair, labels, rules)
    path = keep / f"{pair.name}.json"
    if (kept := load_or_none(Kept, path)) is not None and kept.key == key:
        return CaseScores(pair.name, kept.scores, lesions=kept.lesions)
    case = _measure(pair, labels, rules)
    if case.failure is None:
        try:
            save(Kept(key=key, scores=case.scores, lesions=case.lesions), path)
        except StorageError as error:  # the scores themselves are valid
            what = f"{keep}: scores are not kept ({error.found}): a killed evaluation would score these cases again"
            warnings.warn(what, stacklevel=2)
    return case


def _measure(pair: Pair, labels: LabelSet, rules: Rules) -> CaseScores:
    try:
        read = inspect_labels(pair.truth, labels, values=pair.values, reading=pair.reading)
        _check_told(read.volume, pair.truth, rules)
    except (FlarenetError, OSError) as error:
        return CaseScores(pair.name, {}, f"ground truth: {error}")
    truth = read.volume
    try:
        if not pair.prediction.is_file():
            return _nothing_found(pair, labels, truth, f"no prediction {pair.prediction}")
        # before memory is taken for its voxels
        check_same_grid(truth.grid, read_grid(pair.prediction, pair.reading.of_labels()))
        maps = TwoMaps(truth, read_labels(pair.prediction, labels, reading=pair.reading), read.spacing_mm)
    except (FlarenetError, OSError) as error:
        return _nothing_found(pair, labels, truth, str(error))
    scores = score_case(maps, labels=labels, to_score=pair.to_score, rules=rules)
    return CaseScores(pair.name, scores, lesions=tuple(find_lesions(maps, labels=labels, to_score=pair.to_score)))


def _check_told(truth: Volume, file: Path, rules: Rules) -> None:
    """Raise DatasetError for a truth that ignores every voxel, or any voxel where the rules do not allow that."""
    share = ignored_share(truth.data)
    if share == 1:
        raise DatasetError(file, found="every voxel ignored", expected="some that somebody annotated")
    if share and not rules.ignores:
        expected, remedy = "a label or background in all of them", "leave --official out: then they do not count"
        raise DatasetError(file, found=f"{share:.2%} of the voxels ignored", expected=expected, remedy=remedy)


def _nothing_found(pair: Pair, labels: LabelSet, truth: Volume, failure: str) -> CaseScores:
    """The scores without a usable prediction: 0 for every label, even if absent from the truth; all lesions missed."""
    maps = TwoMaps(truth, Volume(np.broadcast_to(np.uint8(0), truth.grid.shape), truth.grid))
    zero = {"dsc": 0.0, "nsd": 0.0, "volume_ml": None}
    scores = {
        name: score.model_copy(update=zero)
        for name, score in score_case(maps, labels=labels, to_score=pair.to_score).items()
    }
    return CaseScores(pair.name, scores, failure, tuple(find_lesions(maps, labels=labels, to_score=pair.to_score)))


def _lost(pair: Pair, labels: LabelSet, failure: str) -> CaseScores:
    """0 for every label of a case whose scoring ended without a result, such as by a killed process."""
    return CaseScores(
        pair.name, {name: LabelScore(dsc=0.0, nsd=0.0) for name in labels.names_of(pair.to_score)}, failure
    )


def _key(pair: Pair, labels: LabelSet, rules: Rules) -> str | None:
    """A digest of both files and of everything that decides how they are scored. None where either is missing or cannot
    be read: scoring reports which, and that decides how the case counts."""
    try:
        if not (pair.truth.is_file() and pair.prediction.is_file()):
            return None
        files = [sha256_of(pair.truth), sha256_of(pair.prediction)]
    except OSError:
        return None
    return digest(
        {
            "measures": MEASURES,
            "files": files,
            "labels": labels.model_dump(mode="json"),
            "asked": sorted(pair.to_score),  # the name in files of earlier versions, whose digests hold it
            "values": sorted(pair.values.items()),
            "reading": pair.reading.facts(),
            "rules": asdict(rules) | {"tubes": sorted(rules.tubes)},
        }
    )


def need_mb(pair: Pair) -> float:
    """The memory in MB to score a pair: Python with numpy and scipy, both maps, and masks, cells and components of a
    label that is spread over the whole scan. Measured; a usual case takes two thirds of it."""
    return 200 + 6 * math.prod(read_grid(pair.truth, pair.reading).shape) / (1 << 20)


def _label_maps(folder: Path, cases: Container[str]) -> dict[str, Path]:
    """The label maps of a folder by case name, sorted. Raises DatasetError where there is no such folder."""
    if not folder.is_dir():
        raise DatasetError(folder, found="no such folder", expected="a folder of label maps CASE.nii.gz")
    return by_case(files_in(folder), cases)
