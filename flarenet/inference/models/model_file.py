"""A model file: the part of a finished model that is passed on, as one zip file.

manifest.json            name, version, and size and SHA-256 of every other member
LICENCE.txt              what others may do with the model
step_N/, fold_K/step_N/  a model folder (see model) for each fold, without the state of its training

The same models give the same bytes. The digests show that a file is whole, not who made it: for that, compare its
fingerprint, the SHA-256 of the manifest, with the one that its authors publish.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ... import __version__
from ...errors import FlarenetError, StorageError, UnsafeError, UsageError, unknown
from ...lock import locked
from ...planning.plan import Plan
from ...schema import Frozen, save
from ...whole import remove_leftovers, sha256_of, temporary_folder, whole_file, write_text
from ...workspace import models_folder
from .about import ABOUT, FILES, PLAN, WEIGHTS, About, check_together, load_unsafe, read_about
from .archive import MOST_BYTES, unpack
from .found import installed_models, models_in
from .model import load_model

MANIFEST, LICENCE = "manifest.json", "LICENCE.txt"
ENDING = ".zip"

NO_LICENCE = (
    "No licence was stated for this model. Without one, only its authors have the right to use it, change it or\n"
    "pass it on: ask them.\n"
)

_MB = 1 << 20
_LARGEST = {MANIFEST: _MB, LICENCE: _MB, PLAN: Plan.largest_bytes, ABOUT: About.largest_bytes, WEIGHTS: MOST_BYTES}
_PLACE = r"(?:fold_(?:all|0|[1-9][0-9]{0,2})/)?step_[1-9][0-9]{0,2}"
_TOP, _INNER = ("|".join(map(re.escape, names)) for names in ((MANIFEST, LICENCE), FILES))
_MEMBER = re.compile(rf"({_TOP})|{_PLACE}/({_INNER})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip file; with the real one no two files would be the same


class Content(Frozen):
    """One member of a model file."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(Frozen):
    """What manifest.json holds.

    name      the model's name once it is installed, unless another one is given
    flarenet  version that wrote the file
    files     name of every other member -> its Content
    """

    format: Literal[1] = 1
    name: str
    flarenet: str
    files: dict[str, Content]


@dataclass(frozen=True)
class Installed:
    """The result of an installation.

    already  whether the same model was there before, so that nothing was done
    """

    folder: Path
    fingerprint: str
    already: bool


def export_models(models: Sequence[Path], file: Path, *, licence: str | None = None, with_cases: bool = True) -> str:
    """Write finished model folders, as found.models_in gives them, into a new model file; returns its fingerprint.

    licence     what others may do with the model; None: the licence that an installed model came with, else NO_LICENCE
    with_cases  whether the file names the cases that the model learned from

    Raises RunError for a model that is damaged or does not segment, or where the label tables differ. Raises UsageError
    where `file` exists, where its name cannot be a model's, or where the models exceed the size of a model file.
    """
    name = check_model_name(file.name.removesuffix(ENDING), f"{file}, without {ENDING}")
    if not file.name.endswith(ENDING) or file.exists():
        found = "a file that exists" if file.exists() else file.name
        raise UsageError(f"model file {file}", found=found, expected=f"a new name that ends in {ENDING}")
    check_together([load_model(model) for model in models])
    _check_size(models, file)
    with tempfile.TemporaryDirectory(prefix="flarenet_") as folder:
        gathered = Path(folder)
        for model in models:
            _gather(model, gathered, with_cases=with_cases)
        write_text(gathered / LICENCE, licence if licence is not None else _own_licence(models[0]))
        members = sorted(path.relative_to(gathered).as_posix() for path in gathered.rglob("*") if path.is_file())
        files = {
            member: Content(bytes=(gathered / member).stat().st_size, sha256=sha256_of(gathered / member))
            for member in members
        }
        save(Manifest(name=name, flarenet=__version__, files=files), gathered / MANIFEST)
        with whole_file(file, size_bytes=sum(content.bytes for content in files.values())) as temporary:
            _zip(gathered, [MANIFEST, *members], temporary)
        return sha256_of(gathered / MANIFEST)


def install(file: Path, root: Path, name: str | None = None) -> Installed:
    """Unpack a model file into ROOT/models/NAME, whole or not at all.

    name  name to install it by; None is the name in the file
    Raises UnsafeError for a file that is not exactly a model file, UsageError where another model has the name, and
    LockedError where another process installs or removes a model.
    """
    if name is not None:
        check_model_name(name, "--name")
    _check_there(file)
    home = models_folder(root)
    with locked(home), _unpacked(file, home) as folder:
        manifest, fingerprint = _verify(folder, file)
        target = home / (name or manifest.name)
        if target.exists():
            return _already(target, fingerprint)
        try:
            os.rename(folder, target)
        except OSError as problem:
            if target.exists():  # another process was faster
                return _already(target, fingerprint)
            raise StorageError(target, found=problem, expected="a folder that can be written") from problem
    return Installed(target, fingerprint, already=False)


@contextmanager
def opened(file: Path) -> Iterator[Path]:
    """The content of a model file, checked as `install` does, in a folder that is removed when the context ends."""
    _check_there(file)
    with tempfile.TemporaryDirectory(prefix="flarenet_") as home, _unpacked(file, Path(home)) as folder:
        _verify(folder, file)
        yield folder


def remove(root: Path, name: str) -> None:
    """Remove an installed model.

    Raises UsageError, which lists the installed models, for an unknown name, and LockedError where another process
    installs or removes a model.
    """
    folder = find_installed(root, name)
    if folder.is_symlink():  # a link to a model that is kept elsewhere
        folder.unlink()
        return
    with locked(folder.parent):
        aside = folder.with_name(f".{secrets.token_hex(6)}.old.{name}")
        os.rename(folder, aside)  # one step, so that nobody meets half a model
        shutil.rmtree(aside)


def find_installed(root: Path, name: str) -> Path:
    """The folder of an installed model. Raises UsageError, which lists the installed models, for an unknown name."""
    folders = {folder.name: folder for folder in installed_models(root)}
    if name not in folders:
        raise unknown("installed model", name, folders)
    return folders[name]


def check_model_name(name: str, where: str) -> str:
    """`name` itself. Raises UsageError where a model may not be called so: names are plain folders on every system."""
    if not _NAME.fullmatch(name):
        raise UsageError(where, found=repr(name), expected="up to 64 letters, digits, '.', '_' and '-', no '.' first")
    return name


def home_of(model: Path) -> Path | None:
    """The folder of the unpacked model file that a model folder is part of, with manifest and licence; else None."""
    folders = (model.parent, model.parent.parent)
    return next((one for one in folders if (one / MANIFEST).is_file() and (one / LICENCE).is_file()), None)


def read_licence(folder: Path) -> str:
    """The licence in the folder of an unpacked model file. Raises UnsafeError where it is not UTF-8."""
    try:
        return (folder / LICENCE).read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise UnsafeError(folder / LICENCE, found=problem, expected="text in UTF-8") from problem


def _check_size(models: Sequence[Path], file: Path) -> None:
    total = sum((model / name).stat().st_size for model in models for name in FILES)
    most = MOST_BYTES - _LARGEST[MANIFEST] - _LARGEST[LICENCE]
    if total > most:
        several = "export each fold by itself (TRAINER/fold_K/step_N): flarenet_predict -m takes several models"
        raise UsageError(
            f"model file {file}",
            found=f"{len(models)} model{'s' * (len(models) > 1)} of {total // _MB} MB",
            expected=f"at most {most // _MB} MB in a file",
            remedy=several if len(models) > 1 else None,
        )


def _gather(model: Path, gathered: Path, *, with_cases: bool) -> None:
    about = read_about(model)
    place = gathered / f"step_{about.step}"
    if model.parent.name.startswith("fold_"):
        place = gathered / model.parent.name / place.name
    place.mkdir(parents=True)
    for name in (WEIGHTS, PLAN):
        shutil.copyfile(model / name, place / name)
    save(about if with_cases else about.model_copy(update={"seen": None}).sealed(), place / ABOUT)


def _own_licence(model: Path) -> str:
    folder = home_of(model)
    return NO_LICENCE if folder is None else read_licence(folder)


def _zip(gathered: Path, members: Sequence[str], file: Path) -> None:
    with zipfile.ZipFile(file, "x", allowZip64=False) as archive:
        for member in members:
            entry = zipfile.ZipInfo(member, _EARLIEST)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_STORED if member.endswith(WEIGHTS) else zipfile.ZIP_DEFLATED
            entry.file_size = (gathered / member).stat().st_size
            with open(gathered / member, "rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _MB)


def _allowed(member: str) -> int | None:
    found = _MEMBER.fullmatch(member)
    return _LARGEST[found.group(1) or found.group(2)] if found else None


def _check_there(file: Path) -> None:
    if not file.is_file():
        raise UsageError(f"model file {file}", found="no such file", expected="one that flarenet_model export wrote")


@contextmanager
def _unpacked(file: Path, home: Path) -> Iterator[Path]:
    """A folder in `home` with the content of `file`; removed when the context ends, unless it was moved away.

    What killed processes have left in `home` is removed too, so no other process may be at work there.
    """
    remove_leftovers(home)
    with temporary_folder(home / "model") as folder:
        unpack(file, folder, _allowed)
        yield folder


def _verify(folder: Path, file: Path) -> tuple[Manifest, str]:
    """(manifest, its digest). Raises UnsafeError unless the unpacked members are just those listed, and are models."""
    try:
        manifest = load_unsafe(Manifest, folder / MANIFEST)
        check_model_name(manifest.name, f"name in {MANIFEST}")
        members = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        odd = sorted((members - {MANIFEST}) ^ manifest.files.keys())
        if odd or LICENCE not in members:
            found = f"{odd[0] if odd else LICENCE} only listed, only there, or neither"
            raise UnsafeError(MANIFEST, found=found, expected="every member, listed and there")
        for member, content in manifest.files.items():
            _check_content(folder / member, content)
        read_licence(folder)
        models = sorted({(folder / member).parent for member in members} - {folder})
        if models_in(folder) != models:
            raise UnsafeError(file, found=f"models {[path.name for path in models]}", expected="one step of each fold")
        loaded = [load_model(model) for model in models]
        check_together(loaded)
        if any(model.folder.name != f"step_{model.step}" for model in loaded):
            raise UnsafeError(ABOUT, found=f"step {loaded[0].step}", expected="the step that its folder is named for")
    except FlarenetError as problem:
        problem_here = str(problem).replace(f"{folder}/", "")
        raise UnsafeError(f"model file {file}", found=problem_here, expected="a sound model file") from problem
    return manifest, sha256_of(folder / MANIFEST)


def _check_content(path: Path, content: Content) -> None:
    found = Content(bytes=path.stat().st_size, sha256=sha256_of(path))
    if found != content:
        raise UnsafeError(
            path,
            found=f"{found.bytes} bytes, sha256 {found.sha256}",
            expected=f"{content.bytes} bytes, sha256 {content.sha256}",
            remedy="the file is damaged or was changed: fetch it again",
        )


def _already(target: Path, fingerprint: str) -> Installed:
    """Installed, for a model that is there already. Raises UsageError where that is another model."""
    if not (target / MANIFEST).is_file() or sha256_of(target / MANIFEST) != fingerprint:
        raise UsageError(
            f"model {target.name}",
            found=f"another model of that name in {target}",
            expected="a new name",
            remedy=f"--name NAME, or first flarenet_model remove {target.name}",
        )
    return Installed(target, fingerprint, already=True)
