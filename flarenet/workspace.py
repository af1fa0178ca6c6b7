"""The one place that knows where each artefact lies.

ROOT/raw/NAME/            dataset.json and the images, as the user keeps them; written by flarenet_plan --from alone
ROOT/prepared/NAME/       fingerprint.json, plan.json, splits.json, dataset.json with everything settled, check.json;
                          measured/, report/, and one folder per configuration of prepared cases
ROOT/runs/NAME/TRAINER/step_N/   a model folder, with the state of its training beside it; it holds out fold 0
ROOT/runs/NAME/TRAINER/fold_K/step_N/   the same for another fold, or for "all", which holds nothing out
ROOT/compare/NAME/        what flarenet_compare found: predictions of held-out cases and their scores
ROOT/ablations/NAME/      what flarenet_ablate trained and found
ROOT/pseudo/NAME/         what teachers predicted, and what became of it as labels to learn from
ROOT/models/NAME/         what flarenet_model installed: the model folders of one model file, and its manifest
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import DatasetError, UsageError, did_you_mean

ROOT_VARIABLE, CACHE_VARIABLE = "FLARENET_ROOT", "FLARENET_CACHE"

Fold = int | Literal["all"]
"""Which cases a run holds out: those of one fold, or none."""


@dataclass(frozen=True)
class Workspace:
    """The paths of one data set under one root."""

    root: Path
    dataset: str

    @property
    def raw(self) -> Path:
        return self.root / "raw" / self.dataset

    @property
    def prepared(self) -> Path:
        return self.root / "prepared" / self.dataset

    @property
    def plan(self) -> Path:
        return self.prepared / "plan.json"

    @property
    def settled(self) -> Path:
        """The data set as planning settled it; see data.settled."""
        return self.prepared / "dataset.json"

    @property
    def fingerprint(self) -> Path:
        return self.prepared / "fingerprint.json"

    @property
    def check(self) -> Path:
        """What flarenet_plan --check found."""
        return self.prepared / "check.json"

    @property
    def measured(self) -> Path:
        """The folder with a file per case of what was measured; see planning.measuring.cache."""
        return self.prepared / "measured"

    @property
    def splits(self) -> Path:
        """Which cases each fold holds out; see planning.split."""
        return self.prepared / "splits.json"

    def store(self, configuration: str) -> Path:
        """The folder of the prepared cases of one configuration."""
        return self.prepared / configuration

    @property
    def runs(self) -> Path:
        return self.root / "runs" / self.dataset

    def run(self, trainer: str, step: int, fold: Fold = 0) -> Path:
        """The model folder of one finished or running step."""
        folder = self.runs / trainer
        return (folder if fold == 0 else folder / f"fold_{fold}") / f"step_{step}"

    @property
    def compare(self) -> Path:
        """The folder of flarenet_compare: predictions of held-out cases, their scores, and compare.json."""
        return self.root / "compare" / self.dataset

    @property
    def ablations(self) -> Path:
        """The folder of flarenet_ablate: its runs, what it prepared for them, and a folder of results for each list."""
        return self.root / "ablations" / self.dataset

    def pseudo(self, what: str, key: str) -> Path:
        """The folder of what a trainer's model predicted, or of something made of such predictions.

        what  the trainer, or what was made: the first part of the folder's name
        key   the digest of everything that the content depends on
        """
        return self.root / "pseudo" / self.dataset / f"{what}-{key[:12]}"


def find_root(root: str | None = None) -> Path:
    """The root given by `--root`, else by FLARENET_ROOT, else the current folder. Raises UsageError for no folder."""
    path = Path(root or os.environ.get(ROOT_VARIABLE) or ".").expanduser()
    if not path.is_dir():
        raise UsageError(
            f"root {path}",
            found="no such folder",
            expected=f"a folder, given by --root or {ROOT_VARIABLE}, that holds raw/NAME/",
        )
    return path.resolve()


def open_workspace(root: Path, dataset: str) -> Workspace:
    """The workspace of a data set. Raises UsageError, listing the data sets there are, where it has no raw folder."""
    workspace = Workspace(root, dataset)
    if not workspace.raw.is_dir():
        real = _folders(root / "raw")
        raise UsageError(
            f"unknown data set {dataset!r}",
            found=f"no folder {workspace.raw}",
            expected=", ".join(real) or f"a data set in {root / 'raw'}",
            remedy=did_you_mean(dataset, real, cutoff=0.4) or f"--root or {ROOT_VARIABLE} if it is below another root",
        )
    return workspace


def open_planned(root: Path, dataset: str) -> Workspace:
    """The workspace of a data set that has a plan. Raises DatasetError, with the command to type, where it has none."""
    workspace = open_workspace(root, dataset)
    if not workspace.plan.is_file():
        raise DatasetError(
            workspace.plan, found="no plan", expected="a planned data set", remedy=f"flarenet_plan -d {dataset}"
        )
    return workspace


def only_planned(root: Path) -> Workspace:
    """The workspace of the one planned data set of `root`. Raises DatasetError for none, UsageError for several."""
    planned = [name for name in _folders(root / "prepared") if Workspace(root, name).plan.is_file()]
    if len(planned) == 1:
        return Workspace(root, planned[0])
    if not planned:
        raise DatasetError(
            root / "prepared",
            found="no planned data set",
            expected="one",
            remedy=f"flarenet_plan -d NAME, or --root or {ROOT_VARIABLE} if it was planned below another root",
        )
    raise UsageError(f"root {root}", found=f"planned data sets {', '.join(planned)}", expected="one, or -d NAME")


def models_folder(root: Path) -> Path:
    """The folder of the installed models, with a folder for each."""
    return root / "models"


def cache_folder() -> Path | None:
    """Where commands keep what they can make anew: FLARENET_CACHE, else `flarenet` in XDG_CACHE_HOME or ~/.cache.

    None where FLARENET_CACHE is set and empty, and where there is no home: then nothing is kept.
    """
    if CACHE_VARIABLE in os.environ:
        return Path(os.environ[CACHE_VARIABLE]).absolute() if os.environ[CACHE_VARIABLE] else None
    path = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "flarenet"
    return path if path.is_absolute() else None


def _folders(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
