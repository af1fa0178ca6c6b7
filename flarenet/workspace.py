"""The layout of a root folder; no other module knows where an artefact lies.

ROOT/raw/NAME/            dataset.json and the images, as the user keeps them; only flarenet_plan --from writes there
ROOT/prepared/NAME/       fingerprint.json, plan.json, splits.json, check.json, dataset.json as planning settled it;
                          measured/, report/, and one folder per configuration of prepared cases
ROOT/runs/NAME/TRAINER/step_N/   a model folder and the state of its training; it holds out fold 0
ROOT/runs/NAME/TRAINER/fold_K/step_N/   the same for another fold, or for "all", which holds nothing out
ROOT/compare/NAME/        from flarenet_compare: predictions of held-out cases and their scores
ROOT/ablations/NAME/      from flarenet_ablate: its runs and results
ROOT/pseudo/NAME/         predictions of teachers, and the pseudo labels made from them
ROOT/models/NAME/         from flarenet_model install: the model folders of one model file, and its manifest
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import DatasetError, UsageError, did_you_mean

ROOT_VARIABLE, CACHE_VARIABLE = "FLARENET_ROOT", "FLARENET_CACHE"

Fold = int | Literal["all"]
"""Which cases a run holds out: those of one fold or, for "all", none."""


@dataclass(frozen=True)
class Workspace:
    """The paths of one data set under one root."""

    root: Path
    dataset: str

    @property
    def flags(self) -> str:
        """How a command that a user is told to type names the data set: "-d NAME", with root_flag."""
        return f"-d {shlex.quote(self.dataset)}{root_flag(self.root)}"

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
        """The folder with the measurements of each case, a file per case; see planning.measuring.cache."""
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
        """The model folder of one step, finished or running; `step` counts from 1."""
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
        """The folder of a trainer's predictions, or of something made from such predictions.

        what  the trainer, or what was made: the first part of the folder's name
        key   the digest of everything that the content depends on
        """
        return self.root / "pseudo" / self.dataset / f"{what}-{key[:12]}"


def find_root(root: str | None = None) -> Path:
    """The root given by `--root`, else FLARENET_ROOT, else the current folder. Raises UsageError if it is no folder."""
    path = Path(root).expanduser() if root else _usual_root()
    if not path.is_dir():
        raise UsageError(
            f"root {path}",
            found="no such folder",
            expected=f"a folder, given by --root or {ROOT_VARIABLE}, that holds raw/NAME/",
        )
    return path.resolve()


def root_flag(root: Path) -> str:
    """What ends a command that a user is told to type: " --root DIR", or "" where it finds `root` without that flag."""
    return "" if root.resolve() == _usual_root().resolve() else f" --root {shlex.quote(str(root))}"


def _usual_root() -> Path:
    return Path(os.environ.get(ROOT_VARIABLE) or ".").expanduser()


def open_workspace(root: Path, dataset: str) -> Workspace:
    """The workspace of a data set. Raises UsageError, listing the known data sets, where it has no raw folder."""
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
        remedy = f"flarenet_plan {workspace.flags}"
        raise DatasetError(workspace.plan, found="no plan", expected="a planned data set", remedy=remedy)
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
    """Where commands keep what they can recreate: FLARENET_CACHE, else `flarenet` in XDG_CACHE_HOME or ~/.cache.

    None, so that nothing is kept, where FLARENET_CACHE is empty, XDG_CACHE_HOME is relative, or there is no home.
    """
    if CACHE_VARIABLE in os.environ:
        return Path(os.environ[CACHE_VARIABLE]).absolute() if os.environ[CACHE_VARIABLE] else None
    path = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "flarenet"
    return path if path.is_absolute() else None


def _folders(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
