"""What image files and cases are called, and the images of a folder by the names of their cases."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable
from pathlib import Path

from ..errors import DatasetError, UnsafeError, counted

FILE_ENDINGS = (".nii.gz", ".nii")
LONGEST_CASE_NAME, LONGEST_FILE_NAME = 200, 255
"""The longest name of a case and of a file, in bytes: file systems take 255, and endings are added to the name of a
case."""

CHANNEL = "_0000"
"""nnU-Net's mark of the first channel, at the end of an image's name."""


def stem_of(name: str, *endings: str) -> str:
    """The name of a file without the first of `endings` (FILE_ENDINGS) that it ends in; any other name unchanged."""
    found = next((ending for ending in endings or FILE_ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(found)]


def case_name(path: str | Path, cases: Container[str] = ()) -> str:
    """The name of the case of a file or folder: X for X_0000.nii.gz, X.nii.gz, X_0000.nii, X.nii, X_0000 and X,
    `composed`.

    cases  for a label map: the names of the cases. Label maps have no channels, so X_0000 is its case if one has that
           name, as in a set numbered from 0
    """
    whole = composed(stem_of(Path(path).name or Path(path).resolve().name))
    return whole if whole in cases else whole.removesuffix(CHANNEL)


def composed(name: str) -> str:
    """A case's name with every letter and its accent as one character (NFC). In the name that a Mac gives a file they
    may be two (NFD), which look the same; a file is opened by the name that it has."""
    return unicodedata.normalize("NFC", name)


def spelled(name: str) -> str:
    """A case's name as names are compared: file systems may ignore capitals and how accents are spelled."""
    return composed(name).casefold()


def files_in(folder: Path, endings: str | tuple[str, ...] = FILE_ENDINGS) -> list[Path]:
    """The files of a folder that end in one of `endings`, ignoring capitals, sorted by name; none where there is no
    folder. Hidden files, as a Mac leaves behind, are left out."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.name.lower().endswith(endings) and not p.name.startswith("."))


def by_case(paths: Iterable[Path], cases: Container[str] = ()) -> dict[str, Path]:
    """Case name (see case_name) -> its file, in the order of `paths`. Raises DatasetError where two files are of the
    same case."""
    found: dict[str, Path] = {}
    for path in paths:
        twin = found.setdefault(spelled(case_name(path, cases)), path)
        if twin != path:
            raise DatasetError(path.parent, found=f"{twin.name} and {path.name}", expected="one file for each case")
    return {case_name(path, cases): path for path in found.values()}


def files_by_case(path: str | Path, cases: Container[str] = ()) -> dict[str, Path]:
    """Case name (see case_name) -> its file, for the files of a folder (files_in) or for a single file. Channels are
    not looked at, as label maps have none: X_0001 is a case of its own.

    Raises DatasetError where there is no file, or where two are of the same case.
    """
    path = Path(path)
    if path.is_file():
        return {case_name(path, cases): path}
    if not path.is_dir():
        raise DatasetError(path, found="no such file or folder", expected="an image, or a folder of images")
    inside = files_in(path)
    if not inside:
        raise no_image(path)
    return by_case(inside, cases)


def no_image(folder: Path, *, besides: str = "", remedy: str | None = None) -> DatasetError:
    """The error for a folder without an image; `besides` names, in words, what else was expected."""
    count = sum(1 for _ in folder.iterdir())
    found = f"a folder of {counted(count, 'other entry', 'other entries')}" if count else "an empty folder"
    return DatasetError(folder, found=found, expected="images: *" + " or *".join(FILE_ENDINGS) + besides, remedy=remedy)


def find_images(path: str | Path) -> list[Path]:
    """The images that files_by_case finds. Raises DatasetError as it does, and where an image is a further channel of
    another, as X_0001 next to X_0000."""
    images = list(files_by_case(path).values())
    refuse_further_channels(images)
    return images


def refuse_further_channels(images: Iterable[Path]) -> None:
    """Raise DatasetError where an image is a further channel of another, as X_0001 next to X_0000."""
    by_stem = {stem_of(image.name): image for image in images}
    for stem, image in by_stem.items():
        first = re.sub("_[0-9]{4}$", CHANNEL, stem)
        if first != stem and first in by_stem:
            raise DatasetError(
                image.parent,
                found=f"{image.name}, a further channel",
                expected=f"CASE{CHANNEL}{FILE_ENDINGS[0]}: one channel; more are not supported yet",
                remedy=f"if it is a separate case, call it {stem}{CHANNEL}{FILE_ENDINGS[0]}",
            )


def path_from(folder: Path, path: Path) -> str:
    """`path` as a file in `folder` should state it: relative if it lies in the folder, else absolute."""
    path, folder = path.absolute(), folder.absolute()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def check_name(name: str, source: object) -> None:
    """Raise UnsafeError where `name` cannot be the name of a case, which becomes the name of files and folders."""
    size = len(name.encode(errors="replace"))
    if not 1 <= size <= LONGEST_CASE_NAME:
        raise UnsafeError(source, found=f"a name of {size} bytes", expected=f"1 to {LONGEST_CASE_NAME}")
    if name[0] in "-. " or name[-1] in ". " or set(name) & set('/\\:*?"<>|') or not name.isprintable():
        raise UnsafeError(
            source,
            found=f"the name {name!r}",
            expected="a file name: printable, without / \\ : * ? \" < > |, not beginning with '-', '.' or a space",
        )


def check_path(path: str, source: object) -> None:
    """Raise UnsafeError where `path`, as a file states it, cannot be the path of a file."""
    if not path.strip() or not path.isprintable():
        raise UnsafeError(source, found=repr(path), expected="a path of printable characters")
    longest = max(len(part.encode()) for part in path.split("/"))
    if longest > LONGEST_FILE_NAME:
        raise UnsafeError(source, found=f"a name of {longest} bytes", expected=f"at most {LONGEST_FILE_NAME}")
