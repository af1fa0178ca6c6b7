"""Prepared cases on disk: one folder per case, arrays compressed for reads at random, record.json written last.

A case appears whole or not at all: its folder is filled under a temporary name, flushed, then renamed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Annotated, cast

import numpy as np
from pydantic import Field

from ..errors import DatasetError, NoRoom
from ..schema import Frozen, as_saved, check_content, digest, load
from ..volume import Grid, Triple
from ..whole import flush_folder, not_written, reading, remove_leftovers, sha256_of, temporary_folder
from .names import check_name
from .packed import Packed, PackedPlaces, damaged, pack, undamaged
from .places import places_of

RECORD = "record.json"
IMAGE = "image.b2nd"

Row = tuple[float, float, float, float]
Affine = tuple[Row, Row, Row, Row]
# nothing else is opened, whatever a record says
_GROUP = r"[A-Za-z][A-Za-z0-9_-]*"
FileName = Annotated[str, Field(pattern=rf"^(image\.b2nd|map_{_GROUP}\.b2nd|places_{_GROUP}\.npy)$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileRecord(Frozen):
    """A file of a stored case as it was written."""

    size_bytes: Annotated[int, Field(ge=1)]
    sha256: Digest


class CaseRecord(Frozen):
    """What a prepared case is and what it was made from.

    annotated                        the values that its maps cover, ascending
    key                              a digest of everything it was made from: where it differs, the case is stale
    numbers                          a digest of the plan's numbers it was prepared by; "" in a store of label maps
    shape, affine                    the grid of the stored arrays
    original_shape, original_affine  the grid of the scan
    voxels                           group -> label -> how many voxels its map has of it; HIDDEN is not a label. Empty
                                     where no places are kept
    files                            file name -> what was written
    """

    name: str
    annotated: tuple[int, ...]
    key: str
    numbers: str = ""
    shape: Triple
    affine: Affine
    original_shape: Triple
    original_affine: Affine
    voxels: dict[str, dict[int, int]] = Field(default_factory=dict)
    files: dict[FileName, FileRecord] = Field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        return Grid(self.shape, np.array(self.affine))

    @property
    def original(self) -> Grid:
        return Grid(self.original_shape, np.array(self.original_affine))


class _RecordFile(Frozen):
    """The content of record.json; `sha256` is the digest of the record, as `files` holds those of the other files."""

    record: CaseRecord
    sha256: Digest


@dataclass(frozen=True, eq=False)
class StoredCase:
    """A case of a Store; its arrays are read from disk when they are indexed.

    image   int16 [Z, Y, X], or None in a store of label maps
    maps    group -> uint8 [Z, Y, X]
    places  group -> uint32 [n, 2], as places.places_of gives them; without groups where none are kept
    """

    image: Packed | None
    maps: dict[str, Packed]
    places: dict[str, PackedPlaces]
    record: CaseRecord


class Store:
    """The prepared cases of one configuration, or the label maps of one teacher, in `folder`."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def names(self) -> list[str]:
        """The names of the stored cases, sorted; none where there is no folder."""
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
        numbers: str = "",
        placed: bool = True,
    ) -> CaseRecord:
        """Store a case; one of the same name is replaced. Arrays have the shape of `grid`.

        annotated, key, numbers  as in CaseRecord
        grid                     the grid of the arrays
        original                 the grid of the scan
        image                    int16 [Z, Y, X] or None
        maps                     group -> uint8 [Z, Y, X]
        placed                   whether places are kept too, from which training draws, and voxels are counted
        Raises ValueError for another type or shape, NoRoom where the disk is full or cannot be written.
        """
        target = self._folder(name)
        _check(grid.shape, image, maps)
        places = {group: places_of(array) for group, array in maps.items()} if placed else {}
        remove_leftovers(self.folder, _literal(name))
        files, needed_bytes = dict[str, FileRecord](), 0
        try:
            with temporary_folder(target) as temporary:
                for file, content in _contents(image, maps, {group: found for group, (found, _) in places.items()}):
                    needed_bytes += len(content)
                    files[file] = _save(temporary / file, content)
                record = CaseRecord(
                    name=name,
                    annotated=tuple(sorted(int(value) for value in annotated)),
                    key=key,
                    numbers=numbers,
                    shape=grid.shape,
                    affine=_rows(grid),
                    original_shape=original.shape,
                    original_affine=_rows(original),
                    voxels={group: counts for group, (_, counts) in places.items()},
                    files=files,
                )
                _save(temporary / RECORD, as_saved(_RecordFile(record=record, sha256=digest(record))).encode())
                flush_folder(temporary)
                _replace(temporary, target)
        except OSError as error:
            raise not_written(target, error, size_bytes=needed_bytes or None, kind=NoRoom) from error
        return record

    def read(self, name: str) -> StoredCase:
        """A case, its arrays still on disk. Its record and the sizes of its files are checked here, types when arrays
        are read, digests of files by verify.

        Raises DatasetError where the case is missing or its files are not those that were written, StorageError where
        they cannot be read. Once another case has taken its place, its arrays raise RunError, so that no reader mixes
        the two.
        """
        record, folder = self.record(name), self._folder(name)
        times = {file: _time_of(folder / file, written.size_bytes) for file, written in record.files.items()}

        def packed(file: str, kind: type[np.generic]) -> Packed:
            return Packed(folder / file, record.shape, np.dtype(kind), times[file])

        groups = [file.removeprefix("map_").removesuffix(".b2nd") for file in record.files if file.startswith("map_")]
        return StoredCase(
            image=packed(IMAGE, np.int16) if IMAGE in record.files else None,
            maps={group: packed(_map(group), np.uint8) for group in groups},
            places={
                group: PackedPlaces(folder / file, times[file]) for group in groups if (file := _places(group)) in times
            },
            record=record,
        )

    def record(self, name: str) -> CaseRecord:
        """The record of a case. Raises DatasetError where it is missing, damaged or of another version, StorageError
        where it cannot be read."""
        folder = self._folder(name)
        if not folder.is_dir():
            raise DatasetError(f"prepared case {name}", found=f"no folder {folder}", expected="the case, prepared")
        path = folder / RECORD
        try:
            written = load(_RecordFile, path, DatasetError)
            check_content(digest(written.record), written.sha256, path, DatasetError)
        except DatasetError as error:
            raise damaged(path, found=error.found, expected=error.expected, thing=error.thing) from error
        if written.record.name != name:
            raise damaged(path, found=f"the case {written.record.name!r}", expected=f"{name!r}")
        return written.record

    def is_current(self, name: str, key: str, *, verify: bool = False) -> bool:
        """Whether the case is there, undamaged, and has this key; `verify` checks every byte of its files.

        Raises StorageError where they cannot be read: whether the case is current is unknown then.
        """
        try:
            if verify:
                self.verify(name)
            return self.read(name).record.key == key
        except DatasetError:
            return False

    def verify(self, name: str) -> None:
        """Read every byte of a case. Raises DatasetError where a file is not the one that was written, StorageError
        where it cannot be read."""
        for file, written in self.read(name).record.files.items():
            path = self._folder(name) / file
            with undamaged(path, expected=written.sha256):
                found = sha256_of(path)
            if found != written.sha256:
                raise damaged(path, found=f"sha256 {found}", expected=written.sha256)

    def _folder(self, name: str) -> Path:
        check_name(name, "a prepared case")
        return self.folder / name


def _map(group: str) -> str:
    return f"map_{group}.b2nd"


def _places(group: str) -> str:
    return f"places_{group}.npy"


def _check(shape: Triple, image: np.ndarray | None, maps: Mapping[str, np.ndarray]) -> None:
    for what, array in {**({} if image is None else {IMAGE: image}), **maps}.items():
        dtype = np.dtype(np.int16 if what == IMAGE else np.uint8)
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{what}: {array.dtype} {array.shape} where {dtype} {shape} belongs")


def _contents(
    image: np.ndarray | None, maps: Mapping[str, np.ndarray], places: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each file of a case, made one by one, so that only one is in memory."""
    if image is not None:
        yield IMAGE, pack(image)
    for group, array in maps.items():
        yield _map(group), pack(array)
        if group in places:
            stream = BytesIO()
            np.save(stream, places[group], allow_pickle=False)
            yield _places(group), stream.getvalue()


def _save(path: Path, content: bytes) -> FileRecord:
    with open(path, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return FileRecord(size_bytes=len(content), sha256=sha256(content).hexdigest())


def _replace(temporary: Path, target: Path) -> None:
    if target.exists():
        aside = temporary.with_name(temporary.name.replace(".tmp.", ".old.", 1))
        os.rename(target, aside)
        os.rename(temporary, target)
        shutil.rmtree(aside)
    else:
        os.rename(temporary, target)


def _time_of(path: Path, size_bytes: int) -> int:
    """When a file was written, in ns. Raises DatasetError where it is not there or of another size."""
    try:
        with reading(path):
            found = path.stat()
    except OSError as error:
        raise damaged(path, found=error.strerror, expected=f"{size_bytes} bytes") from error
    if found.st_size != size_bytes:
        raise damaged(path, found=f"{found.st_size} bytes", expected=f"{size_bytes} bytes")
    return found.st_mtime_ns


def _rows(grid: Grid) -> Affine:
    return cast(Affine, tuple(tuple(float(v) for v in row) for row in grid.affine))


def _literal(name: str) -> str:
    """`name` as a glob pattern that matches only itself."""
    return name.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
