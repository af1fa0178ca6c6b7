"""The files of a model folder but its weights. Reading them needs no torch, whose import takes seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from .. import __version__
from ..errors import FlarenetError, RunError, UnsafeError
from ..planning.plan import Configuration, Plan
from ..planning.plan_file import load_plan
from ..schema import Frozen, Model, parse, read_json
from ..whole import sha256_of

WEIGHTS, PLAN, ABOUT = FILES = ("weights.safetensors", "plan.json", "about.json")
"""The files of a model; other files in its folder are about its training."""

_VERSION = re.compile("[0-9][0-9A-Za-z.+!]{0,39}")


class About(Frozen):
    """What about.json holds.

    trainer   name of the trainer
    step      number of the step, from 1 on
    dataset   name of the data set
    flarenet  version that trained the model
    seen      names of the cases from which the model learned, or a model that it started from or was taught by;
              None: unknown
    sha256    file name -> SHA-256
    summary   any facts: epochs, scores, seconds
    """

    largest_bytes = 16 << 20  # it names every case of its training
    trainer: str
    step: int
    dataset: str
    flarenet: str
    seen: tuple[str, ...] | None = None
    sha256: dict[str, str]
    summary: dict[str, JsonValue] = {}


def is_finished(folder: str | Path) -> bool:
    """Whether a training run has ended in this folder. The model may be damaged all the same."""
    return (Path(folder) / ABOUT).is_file()


def read_about(folder: str | Path) -> About:
    """about.json of a finished model folder. Raises RunError where the folder is missing, unfinished or incomplete,
    UnsafeError where about.json is not what save_model writes."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"model {folder}", found="no such folder", expected="a model folder")
    if not is_finished(folder):
        raise RunError(
            f"model {folder}", found=f"no {ABOUT}", expected="a finished model folder", remedy="finish the training run"
        )
    about = load_unsafe(About, folder / ABOUT)
    for name in (WEIGHTS, PLAN):
        if name not in about.sha256:
            raise UnsafeError(folder / ABOUT, found=f"no sha256 of {name}", expected=f"those of {WEIGHTS} and {PLAN}")
        if not (folder / name).is_file():
            raise RunError(folder / name, found="no such file", expected=f"the file that {ABOUT} describes")
    return about


def read_plan(folder: Path, about: About) -> Plan:
    """The plan that a model was trained from, checked by its digest. Raises RunError where plan.json was changed."""
    check_digest(folder / PLAN, sha256_of(folder / PLAN), about)
    return load_plan(folder / PLAN)


def read_configuration(folder: str | Path) -> Configuration:
    """How images are prepared for the network of a finished model folder. Raises as model.load_model, but the weights
    are not read."""
    folder = Path(folder)
    about = read_about(folder)
    with unsafe(about.flarenet):
        plan = read_plan(folder, about)
        with describing(folder):
            return plan.configuration_of(about.trainer)


@contextmanager
def describing(folder: Path) -> Iterator[None]:
    """Raise RunError for a plan that does not describe the model's network, or describes none that can be built."""
    try:
        yield
    except FlarenetError as problem:
        raise RunError(folder, found=problem, expected="a plan that describes the network of this model") from problem


def load_unsafe(model: type[Model], path: Path) -> Model:
    """A JSON file that says, as `flarenet`, which version wrote it. Raises UnsafeError as `unsafe` does."""
    content = read_json(path, UnsafeError, largest_bytes=model.largest_bytes)
    with unsafe(content.get("flarenet") if isinstance(content, dict) else None):
        return parse(model, content, path, UnsafeError)


@contextmanager
def unsafe(version: object) -> Iterator[None]:
    """Raise what is wrong in the files of a finished folder as UnsafeError: save_model did not write it so, and nobody
    can tell damage from harm.

    version  of flarenet, as the files state it. Where it is another one, which may write them otherwise, that is said
    """
    try:
        yield
    except FlarenetError as wrong:
        remedy = wrong.remedy or _other_version(version)
        raise UnsafeError(wrong.thing, found=wrong.found, expected=wrong.expected, remedy=remedy) from wrong


def _other_version(version: object) -> str | None:
    """What to do with files of another version of flarenet; None for this one, and for what is none."""
    if version == __version__ or not isinstance(version, str) or not _VERSION.fullmatch(version):
        return None
    return f"flarenet {version} wrote it, and this is {__version__}: use that version"


def check_digest(path: Path, found: str, about: About) -> None:
    expected = about.sha256[path.name]
    if found != expected:
        raise RunError(
            path,
            found=f"sha256 {found}",
            expected=f"sha256 {expected}",
            remedy="the file is damaged: copy it again or train again",
        )
