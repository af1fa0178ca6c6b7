"""The models of a report: their names, their scores (read or computed), and the cost of their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.cases import HERE, Pool
from ..data.dataset import Dataset
from ..data.names import check_name
from ..data.reading import STRICT, Reading
from ..errors import DatasetError, UsageError
from ..evaluation.efficiency import Efficiency, read_efficiency
from ..evaluation.pairs import Pair, pair_up
from ..evaluation.rules import Rules
from ..evaluation.tables import METRICS, Metrics, read_scores, score_pairs


@dataclass(frozen=True)
class ScoredModel:
    """A model of a report.

    pairs       its cases; empty where only their scores are available
    efficiency  the cost of its predictions; None where that was not measured
    """

    name: str
    metrics: Metrics
    pairs: tuple[Pair, ...] = ()
    efficiency: Efficiency | None = None


@dataclass(frozen=True)
class Reader:
    """How predictions become scores.

    truth    the folder of the ground truth
    scores   the folder in which computed scores are kept, below NAME
    reading  how truths, predictions and their images are read
    """

    truth: Path
    dataset: Dataset
    rules: Rules
    scores: Path
    pool: Pool = HERE
    reading: Reading = STRICT

    def read(self, name: str, folder: Path) -> ScoredModel:
        """The model `name`: `folder` holds its predictions, or the scores that flarenet_evaluate wrote of them.

        Raises DatasetError where the folder does not exist, or holds scores of another mode or of other labels.
        """
        check_name(name, "-p")
        if (folder / METRICS).is_file():
            metrics = read_scores(folder)
            self._check(metrics, folder / METRICS)
            return ScoredModel(name, metrics, efficiency=read_efficiency(folder))
        pairs, notes = pair_up(self.truth, folder, dataset=self.dataset, rules=self.rules, reading=self.reading)
        labels, rules = self.dataset.labels, self.rules
        metrics = score_pairs(pairs, labels, self.scores / name, rules=rules, pool=self.pool, notes=notes)
        return ScoredModel(name, metrics, tuple(pairs), read_efficiency(folder))

    def _check(self, metrics: Metrics, path: Path) -> None:
        if metrics.mode != self.rules.mode:
            remedy = "name the folder of the predictions, or say --official for all or for none"
            raise DatasetError(path, found=f"mode {metrics.mode}", expected=self.rules.mode, remedy=remedy)
        expected = self.dataset.labels.names_of(self.dataset.labels.values)
        if tuple(metrics.classes) != expected:
            raise DatasetError(path, found=f"labels {', '.join(metrics.classes)}", expected=", ".join(expected))


def read_models(named: Sequence[tuple[str, Path]], reader: Reader) -> list[ScoredModel]:
    """The models in the order of `named`, (name, folder). Raises UsageError where two have the same name."""
    names = [name for name, _ in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"-p: the name {twice[0]}", found="two models", expected="a name for each, as NAME=DIR")
    return [reader.read(name, folder) for name, folder in named]
