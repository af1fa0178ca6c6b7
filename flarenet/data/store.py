"""Prepared cases on disk: one folder per case, arrays as .npy for memory-mapped reads, record.json written last.

A case appears whole or not at all: its folder is filled under a temporary name, flushed, then renamed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import numpy as np
from pydantic import Field

from ..errors import DatasetError, StorageError
from ..schema import Frozen, load, save
from ..volume import Grid
from ..whole import sha256_of
from .dataset import check_name

RECORD = "record.json"
IMAGE = "image.npy"

Row = tuple[float, float, float, float]
Affine = tuple[Row, Row, Row, Row]
Shape = tuple[int, int, int]
# nothing else is opened, whatever a record says
FileName = Annotated[str, Field(pattern=r"^(image|map_[A-Za-z][A-Za-z0-9_-]*)\.npy$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CaseRecord(Frozen):
    """What a prepared case is and what it was made from.

    annotated                         the values its maps answer, ascending
    key                               stands for everything it was made from; another key means prepare again
    shape, affine                     the grid of the stored arrays
    original_shape, original_affine   the grid of the scan
    sha256                            file name -> digest
    """

    name: str
    annotated: tuple[int, ...]
    key: str
    shape: Shape
    affine: Affine
    original_shape: Shape
    original_affine: Affine
    sha256: dict[FileName, Digest] = Field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        return Grid(self.shape, np.array(self.affine))

    @property
    def original(self) -> Grid:
        return Grid(self.original_shape, np.array(self.original_affine))


@dataclass(frozen=True, eq=False)
class StoredCase:
    """`image` int16 [Z, Y, X], or None in a store of label maps; `maps` group -> uint8 [Z, Y, X]. Memory-mapped."""

    image: np.ndarray | None
    maps: dict[str, np.ndarray]
    record: CaseRecord


class Store:
    """The prepared cases of one configuration, or the label maps of one teacher, in `folder`."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def names(self) -> list[str]:
        """The cases that are there, sorted; an absent folder holds none."""
        if not self.folder.is_dir():
            return []
        return sorted(p.name for p in self.folder.iterdir() if p.name[0] != "." and (p / RECORD).is_file())

    def write(
        self,
        name: str,
        *,
        annotated: Iterable[int],
        key: str,
        grid: Grid,
        original: Grid,
        image: np.ndarray | None,
        maps: Mapping[str, np.ndarray],
    ) -> CaseRecord:
        """Store a case, in place of one of that name.

        image  int16 [Z, Y, X] or None       maps  group -> uint8 [Z, Y, X]; all of the shape of `grid`
        Raises ValueError for another type or shape, StorageError when the disk stands in the way.
        """
        target = self._folder(name)
        arrays = _arrays(grid.shape, image, maps)
        for leftover in self.folder.glob(f".*.tmp.{_literal(name)}"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = self.folder / f".{secrets.token_hex(6)}.tmp.{name}"
        try:
            temporary.mkdir(parents=True)
            digests = {file: _save(temporary / file, array) for file, array in arrays.items()}
            record = CaseRecord(
                name=name,
                annotated=tuple(sorted(int(value) for value in annotated)),
                key=key,
                shape=grid.shape,
                affine=_rows(grid),
                original_shape=original.shape,
                original_affine=_rows(original),
                sha256=digests,
            )
            save(record, temporary / RECORD)
            _replace(temporary, target)
        except OSError as error:
            expected = "a folder that can be written, with room for the case"
            raise StorageError(target, found=error.strerror or error, expected=expected) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return record

    def read(self, name: str) -> StoredCase:
        """A case, memory-mapped. Sizes and types are checked here, digests by verify.

        Raises DatasetError where the case is missing or its files are not those that were written.
        """
        record = self.record(name)
        arrays = {file: _open(self._folder(name) / file, record.shape) for file in record.sha256}
        maps = {file.removeprefix("map_").removesuffix(".npy"): a for file, a in arrays.items() if file != IMAGE}
        return StoredCase(arrays.get(IMAGE), maps, record)

    def record(self, name: str) -> CaseRecord:
        """The record of a case. Raises DatasetError where it is missing or damaged."""
        folder = self._folder(name)
        if not folder.is_dir():
            raise DatasetError(f"prepared case {name}", found=f"no folder {folder}", expected="the case, prepared")
        record = load(CaseRecord, folder / RECORD, DatasetError)
        if record.name != name:
            raise _damaged(folder / RECORD, f"the case {record.name!r}", f"{name!r}")
        return record

    def is_current(self, name: str, key: str) -> bool:
        """Whether the case is there, readable, and was made from what `key` stands for."""
        try:
            return self.read(name).record.key == key
        except DatasetError:
            return False

    def verify(self, name: str) -> None:
        """Read every byte of a case. Raises DatasetError where a file is not the one that was written."""
        for file, digest in self.read(name).record.sha256.items():
            found = sha256_of(self._folder(name) / file)
            if found != digest:
                raise _damaged(self._folder(name) / file, f"sha256 {found}", digest)

    def _folder(self, name: str) -> Path:
        check_name(name, "a prepared case")
        return self.folder / name


def _arrays(shape: Shape, image: np.ndarray | None, maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    arrays = {} if image is None else {IMAGE: image}
    arrays |= {f"map_{group}.npy": array for group, array in maps.items()}
    for file, array in arrays.items():
        dtype = np.dtype(np.int16 if file == IMAGE else np.uint8)
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{file}: {array.dtype} {array.shape} where {dtype} {shape} belongs")
    return arrays


def _save(path: Path, array: np.ndarray) -> str:
    with open(path, "wb") as stream:
        # C order, so that a memory-mapped slice along z lies in one piece
        np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())
    return sha256_of(path)


def _replace(temporary: Path, target: Path) -> None:
    if target.exists():
        aside = temporary.with_name(temporary.name.replace(".tmp.", ".old.", 1))
        os.rename(target, aside)
        os.rename(temporary, target)
        shutil.rmtree(aside)
    else:
        os.rename(temporary, target)


def _open(path: Path, shape: Shape) -> np.ndarray:
    dtype = np.dtype(np.int16 if path.name == IMAGE else np.uint8)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        size = path.stat().st_size
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, error, "an array file") from error
    if not isinstance(array, np.memmap) or array.shape != shape or array.dtype != dtype:
        raise _damaged(path, f"{array.dtype} {array.shape}", f"{dtype} {shape}")
    if size != array.offset + array.nbytes:
        raise _damaged(path, f"{size} bytes", f"{array.offset + array.nbytes} bytes")
    return array


def _damaged(path: Path, found: object, expected: object) -> DatasetError:
    return DatasetError(path, found=found, expected=expected, remedy=f"remove {path.parent} and prepare the case again")


def _rows(grid: Grid) -> Affine:
    return cast(Affine, tuple(tuple(float(v) for v in row) for row in grid.affine))


def _literal(name: str) -> str:
    """`name` as a glob pattern that means itself."""
    return name.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
