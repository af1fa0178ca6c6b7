"""The files of a model folder but its weights. Reading them needs no torch, whose import takes seconds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import JsonValue

from ... import __version__
from ...data.labels import LabelSet, difference
from ...errors import FlarenetError, RunError, UnsafeError
from ...planning.plan import Configuration, Plan
from ...planning.plan_file import load_plan
from ...schema import Frozen, as_saved, check_content, parse, read_json
from ...schema import Model as Content
from ...whole import sha256_of

if TYPE_CHECKING:
    from .model import Model

WEIGHTS, PLAN, ABOUT = FILES = ("weights.safetensors", "plan.json", "about.json")
"""The files of a model; other files in its folder are about its training."""

_DAMAGED = "the file is damaged: copy it again or train again"
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
    content_sha256  SHA-256 of all the above, see sealed; None in models from before it was kept
    """

    largest_bytes = 16 << 20  # it names every case of its training
    trainer: str
    step: int
    dataset: str
    flarenet: str
    seen: tuple[str, ...] | None = None
    sha256: dict[str, str]
    summary: dict[str, JsonValue] = {}
    content_sha256: str | None = None

    def sealed(self) -> About:
        """The same with the content_sha256 that belongs to what `save` writes of it, where names that are no UTF-8 are
        escaped."""
        return self.model_copy(update={"content_sha256": _digest(json.loads(as_saved(self)))})


@dataclass(frozen=True, eq=False)
class Described:
    """What a model folder says of its network, which itself is not loaded."""

    is_loaded: ClassVar[bool] = False
    plan: Plan
    trainer: str
    step: int
    folder: Path
    weights_sha256: str

    @property
    def configuration(self) -> Configuration:
        """How an image becomes what this network sees."""
        return self.plan.configuration_of(self.trainer)

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return self.plan.trainer(self.trainer).network.input_channels

    @property
    def labels(self) -> LabelSet:
        return self.plan.labels

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that the network answers; empty for a network that does not segment."""
        return self.plan.trainer(self.trainer).network.groups

    def loaded(self) -> Model:
        """The model with its network. Raises as model.load_model, and RunError where it is another one by now."""
        from .model import load_model

        model = load_model(self.folder)
        if model.weights_sha256 != self.weights_sha256:
            raise RunError(f"model {self.folder}", found="weights that changed meanwhile", expected="a finished model")
        return model

    def check_segments(self) -> None:
        """Raise RunError for a network that does not segment."""
        if not self.groups:
            raise RunError(f"model {self.folder}", found=f"a network of {self.trainer}", expected="one that segments")


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
    content = read_json(folder / ABOUT, UnsafeError, largest_bytes=About.largest_bytes)
    about = _parsed(About, content, folder / ABOUT)
    if about.content_sha256 is not None:
        check_content(_digest(content), about.content_sha256, folder / ABOUT, UnsafeError, remedy=_DAMAGED)
    for name in (WEIGHTS, PLAN):
        if name not in about.sha256:
            raise UnsafeError(folder / ABOUT, found=f"no sha256 of {name}", expected=f"those of {WEIGHTS} and {PLAN}")
        if not (folder / name).is_file():
            raise RunError(folder / name, found="no such file", expected=f"the file that {ABOUT} describes")
    return about


def read_plan(folder: Path, about: About) -> Plan:
    """The plan that a model was trained from, checked by its digest. Raises RunError where plan.json was changed."""
    check_digest(folder / PLAN, sha256_of(folder / PLAN), about.sha256[PLAN])
    return load_plan(folder / PLAN)


def describe(folder: str | Path) -> Described:
    """What a finished model folder says of its network. Raises as model.load_model, but the weights are not read."""
    folder = Path(folder)
    about = read_about(folder)
    with unsafe(about.flarenet):
        plan = read_plan(folder, about)
        with describing(folder):
            plan.configuration_of(about.trainer)
    return Described(plan, about.trainer, about.step, folder, about.sha256[WEIGHTS])


def check_weights(model: Described) -> None:
    """Raise UnsafeError where the weights in the folder of a model are not those that it was described with."""
    path = model.folder / WEIGHTS
    with unsafe(None):
        check_digest(path, sha256_of(path), model.weights_sha256)


def check_together(models: Sequence[Described]) -> None:
    """Raise RunError for the first model that does not segment, or has another label table than the first model."""
    first = models[0]
    for model in models:
        model.check_segments()
        if other := difference(model.labels, first.labels):
            raise RunError(
                f"model {model.folder}",
                found=f"other labels: {other[0]}",
                expected=f"those of {first.folder}: {other[1]}",
            )


@contextmanager
def describing(folder: Path) -> Iterator[None]:
    """Raise RunError for a plan that does not describe the model's network, or describes none that can be built."""
    try:
        yield
    except FlarenetError as problem:
        raise RunError(folder, found=problem, expected="a plan that describes the network of this model") from problem


def load_unsafe(model: type[Content], path: Path) -> Content:
    """A JSON file that says, as `flarenet`, which version wrote it. Raises UnsafeError as `unsafe` does."""
    return _parsed(model, read_json(path, UnsafeError, largest_bytes=model.largest_bytes), path)


def _parsed(model: type[Content], content: object, path: Path) -> Content:
    with unsafe(content.get("flarenet") if isinstance(content, dict) else None):
        return parse(model, content, path, UnsafeError)


def _digest(content: dict[str, object]) -> str:
    """The SHA-256 of what about.json holds beside it, as JSON with sorted keys: of the content as it was read, not as
    schema.digest makes it of About, so that a later version with further fields reads the file as well."""
    rest = {name: value for name, value in content.items() if name != "content_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


@contextmanager
def unsafe(version: object) -> Iterator[None]:
    """Raise what is wrong in the files of a finished folder as UnsafeError: save_model did not write it so, and
    corruption cannot be told from tampering.

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


def check_digest(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise RunError(
            path,
            found=f"sha256 {found}",
            expected=f"sha256 {expected}",
            remedy=_DAMAGED,
        )
