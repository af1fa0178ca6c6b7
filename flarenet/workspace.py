"""The one place that knows where each artefact lies.

ROOT/raw/NAME/            dataset.json and the images, as the user keeps them; never written
ROOT/prepared/NAME/       fingerprint.json, plan.json, splits.json, dataset.json with everything settled, and one
                          folder per configuration of prepared cases
ROOT/runs/NAME/TRAINER/step_N/   a model folder, with the state of its training beside it; it holds out fold 0
ROOT/runs/NAME/TRAINER/fold_K/step_N/   the same for another fold, or for "all", which holds nothing out
ROOT/compare/NAME/        what flarenet_compare found: predictions of held-out cases and their scores
ROOT/ablations/NAME/      what flarenet_ablate trained and found
ROOT/pseudo/NAME/TRAINER-HASH/   label maps that a finished model predicted
ROOT/models/NAME/         what flarenet_model installed: the model folders of one model file, and its manifest
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import DatasetError, UsageError, unknown

ROOT_VARIABLE = "FLARENET_ROOT"

Fold = int | Literal["all"]
"""Which cases a run holds out: those of one fold, or none."""

_STEP = re.compile("step_([0-9]+)")


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
        """The folder of what was measured of each case."""
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

    def pseudo(self, trainer: str, model_hash: str) -> Path:
        """The folder of the label maps predicted by one model."""
        return self.root / "pseudo" / self.dataset / f"{trainer}-{model_hash[:12]}"


def find_root(root: str | None = None) -> Path:
    """The root given by `--root`, else by FLARENET_ROOT, else the current folder.

    Raises UsageError where it is no folder.
    """
    path = Path(root or os.environ.get(ROOT_VARIABLE) or ".").expanduser()
    if not path.is_dir():
        raise UsageError(
            f"root {path}",
            found="no such folder",
            expected=f"a folder, given by --root or {ROOT_VARIABLE}, that holds raw/NAME/",
        )
    return path.resolve()


def open_workspace(root: Path, dataset: str) -> Workspace:
    """The workspace of a data set whose raw folder exists. Raises UsageError listing the real ones."""
    workspace = Workspace(root, dataset)
    if not workspace.raw.is_dir():
        raise unknown("data set", dataset, _folders(root / "raw"))
    return workspace


def open_planned(root: Path, dataset: str) -> Workspace:
    """The workspace of a data set that has a plan. Raises with the command to type where it has none."""
    workspace = open_workspace(root, dataset)
    if not workspace.plan.is_file():
        raise DatasetError(
            workspace.plan, found="no plan", expected="a planned data set", remedy=f"flarenet_plan -d {dataset}"
        )
    return workspace


def only_planned(root: Path) -> Workspace:
    """The workspace of the one planned data set of `root`. Raises where there is none or more than one."""
    planned = [name for name in _folders(root / "prepared") if Workspace(root, name).plan.is_file()]
    if len(planned) == 1:
        return Workspace(root, planned[0])
    if not planned:
        raise DatasetError(
            root / "prepared",
            found="no planned data set",
            expected="one",
            remedy=f"flarenet_plan -d NAME, or --root or {ROOT_VARIABLE} where it was planned below another root",
        )
    raise UsageError(f"root {root}", found=f"planned data sets {', '.join(planned)}", expected="one, or -d NAME")


def newest_model(root: Path) -> Path:
    """The model of `root`, trained or installed, that is newest and segments, as models_in takes it.

    Raises UsageError where there is none.
    """
    named = {folder: folder for folder in segmenting_models(root)}
    for folder in installed_models(root):  # they answer as one, whatever number of folds they have
        named |= {model: folder for model in models_in(folder)}
    if not named:
        raise UsageError(
            f"root {root}",
            found="no finished model in runs/ and none in models/",
            expected="one",
            remedy="flarenet_train DualDecoder2D, or flarenet_model install FILE.zip, or name a model folder by -m",
        )
    return named[max(sorted(named), key=lambda folder: (folder / "about.json").stat().st_mtime_ns)]


def find_models(word: str, root: str | None = None) -> list[Path]:
    """The model folders that a word after -m stands for: a folder as models_in takes it, here or below the root, or
    the name of an installed model.

    root  as find_root takes it; not needed for a folder from here
    Raises UsageError, with the real ones, for any other word.
    """
    if Path(word).is_dir():
        return models_in(Path(word))
    found = find_root(root)
    installed = installed_models(found)
    for folder in installed:
        if folder.name == word:
            return models_in(folder)
    if (found / word).is_dir():
        return models_in(found / word)
    absolute = Path(word).is_absolute()
    runs = [str(folder if absolute else folder.relative_to(found)) for folder in finished_models(found)]
    raise unknown("model", word, [folder.name for folder in installed] + runs)


def models_in(folder: Path) -> list[Path]:
    """The models that a folder stands for: itself; or, where it is a trainer's or a fold's, the last step of each
    finished fold in it. A fold that has not come to the last step of the others is left out.
    """
    finished = _finished(folder, "step_*", "fold_*/step_*")
    last = max(finished.values(), default=0)
    return sorted(model for model, step in finished.items() if step == last) or [folder]


def finished_models(root: Path) -> list[Path]:
    """The model folders of `root` whose training has ended, of all data sets, steps and folds."""
    return sorted(_finished(root, "runs/*/*/**/step_*"))


def segmenting_models(root: Path) -> list[Path]:
    """The finished_models that predict labels: an autoencoder does not."""
    return [folder for folder in finished_models(root) if folder.relative_to(root).parts[2] != "MAE"]


def _finished(folder: Path, *below: str) -> dict[Path, int]:
    """{model folder: its step} of those that fit a pattern below `folder`; step_4_backup is nobody's step."""
    models = [about.parent for pattern in below for about in folder.glob(f"{pattern}/about.json")]
    steps = {model: _STEP.fullmatch(model.name) for model in models}
    return {model: int(step[1]) for model, step in steps.items() if step}


def installed_models(root: Path) -> list[Path]:
    """The folders of the installed models, by name."""
    folders = [installed_model(root, name) for name in _folders(root / "models") if not name.startswith(".")]
    return [folder for folder in folders if (models_in(folder)[0] / "about.json").is_file()]


def installed_model(root: Path, name: str) -> Path:
    """Where the installed model of a name lies, or would."""
    return root / "models" / name


def _folders(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
