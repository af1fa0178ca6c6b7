"""Finding models: those of a root, trained or installed, and those that a word after -m means. Needs no torch."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import FlarenetError, UsageError, unknown
from ..planning.plan_file import load_plan
from ..workspace import find_root, models_folder
from .about import ABOUT, PLAN, is_finished, read_about

_STEP = re.compile("step_([0-9]+)")


def newest_model(root: Path) -> Path:
    """The folder of the newest model of `root` that segments, trained or installed, for models_in.

    Raises UsageError where there is none.
    """
    named = {folder: folder for folder in finished_models(root)}
    for folder in installed_models(root):  # its folds answer as one
        named |= {model: folder for model in models_in(folder)}
    for model in sorted(sorted(named), key=lambda folder: (folder / ABOUT).stat().st_mtime_ns, reverse=True):
        if segments(model):
            return named[model]
    raise UsageError(
        f"root {root}",
        found="no finished model in runs/ and none in models/",
        expected="one",
        remedy="flarenet_train, or flarenet_model install FILE.zip, or name a model folder by -m",
    )


def find_models(word: str, root: str | None = None) -> list[Path]:
    """The model folders that a word after -m means: a folder for models_in, here or below the root, or the name of an
    installed model.

    root  as find_root takes it; not needed for a folder here
    Raises UsageError, which lists the real ones, for any other word.
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
    finished fold in it. A fold that has not come to the last step of the others is left out, and so is fold_all, which
    held nothing out, where a numbered one has: it is no fold beside them, but the same training with all cases.
    """
    finished = _finished(folder, "step_*", "fold_*/step_*")
    last = max(finished.values(), default=0)
    models = sorted(model for model, step in finished.items() if step == last)
    return [model for model in models if model.parent.name != "fold_all"] or models or [folder]


def finished_models(root: Path) -> list[Path]:
    """The finished model folders of all runs in `root`, of all data sets, steps and folds."""
    return sorted(_finished(root, "runs/*/*/**/step_*"))


def installed_models(root: Path) -> list[Path]:
    """The folders of the installed models, sorted by name."""
    folders = sorted(models_folder(root).glob("[!.]*"))  # with a dot: what is being installed or removed
    return [folder for folder in folders if is_finished(models_in(folder)[0])]


def segments(model: Path) -> bool:
    """Whether the network of a finished model folder answers labels; an autoencoder's does not. True for a folder that
    cannot be read: loading it will say what is wrong."""
    try:
        about = read_about(model)
        return bool(load_plan(model / PLAN).trainer(about.trainer).network.groups)
    except (FlarenetError, OSError):
        return True


def _finished(folder: Path, *below: str) -> dict[Path, int]:
    """{model folder: its step}, for finished ones that match a pattern below `folder`. step_4_backup is no step."""
    models = [about.parent for pattern in below for about in folder.glob(f"{pattern}/{ABOUT}")]
    steps = {model: _STEP.fullmatch(model.name) for model in models}
    return {model: int(step[1]) for model, step in steps.items() if step}
