"""Finding models: those of a root, trained or installed, and those that a word after -m means. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import FlarenetError, UsageError, some_of, unknown
from ...planning.plan import Plan
from ...planning.plan_file import load_plan
from ...workspace import find_root, models_folder
from .about import ABOUT, PLAN, About, is_finished, read_about

_STEP = re.compile("step_([0-9]+)")


def newest_model(root: Path, dataset: str | None = None) -> Path:
    """The folder of the newest model of `root` that segments, trained or installed, for models_in. A run gives way to
    the newest of its data set that ends its plan, if there is one: the last step of a trainer whose answer is the
    result, as teachers and earlier steps are not. Where other folds of its trainer are as far along, by the same plan,
    they answer with it: the folder is then the trainer's.

    dataset  only runs of this data set count
    Raises UsageError where there is none.
    """
    if dataset is not None and dataset not in (real := trained_datasets(root)):
        raise unknown("data set with finished runs", dataset, real)
    runs = {run for run in finished_models(root) if dataset in (None, _dataset(run, root))}
    named = {run: run for run in runs}
    if dataset is None:
        for folder in installed_models(root):  # its folds answer as one
            named |= {model: folder for model in models_in(folder)}
    ordered = sorted(sorted(named), key=lambda folder: (folder / ABOUT).stat().st_mtime_ns, reverse=True)
    newest = next(filter(segments, ordered), None)
    if newest is None:
        raise UsageError(
            f"root {root}",
            found="no finished model in " + (f"runs/{dataset}" if dataset else "runs/ and none in models/"),
            expected="one",
            remedy="flarenet_train, or flarenet_model install FILE.zip, or name a model folder by -m",
        )
    if newest not in runs:
        return named[newest]
    beside = (run for run in ordered if run in runs and _dataset(run, root) == _dataset(newest, root))
    return _with_other_folds(next((run for run in beside if _ends_its_plan(run, unread=run == newest)), newest))


def trained_datasets(root: Path) -> list[str]:
    """The names of the data sets of `root` with finished runs."""
    return sorted({_dataset(run, root) for run in finished_models(root)})


def remarks_on(folders: Sequence[Path]) -> list[str]:
    """What should be known before the models that `folders` stand for, as models_in takes them, answer as one: folds
    that are left out, models of a step before their trainer's last, and groups that none of them answers. Nothing is
    said of a model that cannot be read: loading it will say what is wrong."""
    said, answered, groups = list[str](), set[str](), dict[str, None]()
    for folder in folders:
        models = models_in(folder)
        if left := _left_out(folder, models):
            said.append(f"{folder} answers without {some_of(left)}, where {models[0].name} is not finished")
        try:
            about, plan = _read(models[0])
            trainer = plan.trainer(about.trainer)
        except (FlarenetError, OSError):
            return said
        if about.step < len(trainer.steps):
            said.append(f"{models[0]} is from step {about.step} of {len(trainer.steps)}")
        answered.update(trainer.network.groups)
        groups |= dict.fromkeys(plan.labels.groups)
    # quoted, for a stranger's name may steer a terminal
    has, lacks = ([repr(group) for group in groups if (group in answered) == there] for there in (True, False))
    if has and lacks:
        said.append(f"answers {', '.join(has)}, not {', '.join(lacks)}")
    return said


def find_models(word: str, root: str | None = None) -> list[Path]:
    """The model folders that a word after -m means. Raises as find_folder."""
    return models_in(find_folder(word, root))


def find_folder(word: str, root: str | None = None) -> Path:
    """The folder, for models_in, that a word after -m means: one here or below the root, or the name of an installed
    model.

    root  as find_root takes it; not needed for a folder here
    Raises UsageError, which lists the real ones, for any other word.
    """
    if Path(word).is_dir():
        return Path(word)
    found = find_root(root)
    installed = installed_models(found)
    for folder in installed:
        if folder.name == word:
            return folder
    if (found / word).is_dir():
        return found / word
    absolute = Path(word).is_absolute()
    runs = [str(folder if absolute else folder.relative_to(found)) for folder in finished_models(found)]
    raise unknown("model", word, [folder.name for folder in installed] + runs)


def models_in(folder: Path) -> list[Path]:
    """The models that a folder stands for: itself; or, where it is a trainer's or a fold's, the last step of each fold
    that is finished as far as any. fold_all counts only where there is no other.
    """
    finished = _finished(folder, "step_*", "fold_*/step_*")
    last = max(finished.values(), default=0)
    models = sorted(model for model, step in finished.items() if step == last)
    # fold_all held nothing out: it is no fold beside the others, but the same training with all cases
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
        about, plan = _read(model)
        return bool(plan.trainer(about.trainer).network.groups)
    except (FlarenetError, OSError):
        return True


def _ends_its_plan(model: Path, *, unread: bool) -> bool:
    """Whether a finished model folder is of the last step of a trainer whose answer is the result; `unread` for a
    folder that cannot be read."""
    try:
        about, plan = _read(model)
        return about.trainer in plan.final_trainers and about.step == len(plan.trainer(about.trainer).steps)
    except (FlarenetError, OSError):
        return unread


def _with_other_folds(run: Path) -> Path:
    """The folder of the trainer of `run` where models_in takes other folds with it, all trained by its plan; else `run`
    itself."""
    trainer = run.parent.parent if run.parent.name.startswith("fold_") else run.parent
    models = models_in(trainer)
    try:
        plans = {read_about(model).sha256[PLAN] for model in models}
    except (FlarenetError, OSError):
        return run
    return trainer if run in models and len(models) > 1 and len(plans) == 1 else run


def _read(model: Path) -> tuple[About, Plan]:
    """What a finished model folder says of itself, and its plan. Raises as read_about and load_plan."""
    return read_about(model), load_plan(model / PLAN)


def _dataset(run: Path, root: Path) -> str:
    return run.relative_to(root / "runs").parts[0]


def _left_out(folder: Path, models: Sequence[Path]) -> list[str]:
    """The folds, but for "all", in a trainer's folder that are not among its `models`, as models_in gives them."""
    if models == [folder]:
        return []
    there = {step.parent for below in ("step_*", "fold_*/step_*") for step in folder.glob(below) if step.is_dir()}
    left = there - {model.parent for model in models} - {folder / "fold_all"}
    return sorted("fold_0" if fold == folder else fold.name for fold in left)


def _finished(folder: Path, *below: str) -> dict[Path, int]:
    """{model folder: its step}, for finished ones that match a pattern below `folder`. step_4_backup is not a step."""
    models = [about.parent for pattern in below for about in folder.glob(f"{pattern}/{ABOUT}")]
    steps = {model: _STEP.fullmatch(model.name) for model in models}
    return {model: int(step[1]) for model, step in steps.items() if step}
