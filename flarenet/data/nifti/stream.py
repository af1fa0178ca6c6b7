"""The bytes of a file, packed by gzip or not; they are read to the last one, so that gzip checks length and CRC."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from isal import igzip, igzip_lib

from ...errors import DatasetError, StorageError

LARGEST_DEFLATE_RATIO = 1032
"""The most bytes that a deflate stream can hold per compressed byte: 258 bytes in 2 bits."""

CHUNK_BYTES = 4 << 20

# isal's stub calls IsalError an instance
_BROKEN: tuple[type[Exception], ...] = (EOFError, igzip.BadGzipFile, igzip_lib.IsalError)  # type: ignore[assignment]


@dataclass(frozen=True)
class Source:
    """An open file: its uncompressed bytes, its size on disk, and whether it is a gzip file."""

    stream: BufferedIOBase
    size: int
    zipped: bool

    @property
    def most_bytes(self) -> int:
        """The most uncompressed bytes that the file can hold."""
        return self.size * LARGEST_DEFLATE_RATIO if self.zipped else self.size


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a file as a Source. Raises DatasetError for no file or a damaged one, StorageError for one that cannot be
    read; also for what is found while the block reads."""
    _refuse_no_file(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not zipped:
                yield Source(file, size, zipped)
                return
            with igzip.IGzipFile(fileobj=file, mode="rb") as stream:
                yield Source(stream, size, zipped)
    except _BROKEN as error:
        remedy = "copy or download it again"
        found = f"a damaged gzip file ({error})"
        raise DatasetError(path, found=found, expected="a complete one", remedy=remedy) from error
    except OSError as error:
        raise StorageError(path, found=error.strerror or error, expected="a file that can be read") from error


def parts(
    stream: BufferedIOBase,
    count: int,
    dtype: np.dtype,
    *,
    path: Path,
    into: np.ndarray | None = None,
    at_once: int | None = None,
) -> Iterator[np.ndarray]:
    """The next `count` numbers of `stream`, in consecutive arrays of native byte order.

    into     where to put them, [count] of the native dtype; None: in memory that the next array overwrites
    at_once  how many numbers each array but the last has; None: CHUNK_BYTES of them
    Raises DatasetError where the stream ends before.
    """
    native, step = dtype.newbyteorder("="), at_once or CHUNK_BYTES // dtype.itemsize
    scratch = np.empty(min(step, count), native) if into is None else into
    for start in range(0, count, step):
        size = min(step, count - start)
        part = scratch[:size] if into is None else scratch[start : start + size]
        if (got := _fill(stream, part)) < part.nbytes:
            found = f"{start * dtype.itemsize + got} bytes of voxels, then the end"
            expected = f"{count * dtype.itemsize} bytes"
            raise DatasetError(path, found=found, expected=expected, remedy="copy or download it again")
        yield part if dtype.isnative else part.byteswap(inplace=True)


def skip(stream: BufferedIOBase, offset: int, path: Path) -> None:
    """Read on to byte `offset`. Raises DatasetError where the stream ends before."""
    while (here := stream.tell()) < offset:
        if not stream.read(min(CHUNK_BYTES, offset - here)):
            raise DatasetError(path, found=f"{here} bytes", expected=f"voxels from byte {offset} on")


def _fill(stream: BufferedIOBase, part: np.ndarray) -> int:
    """Fill `part` from the stream; returns how many bytes could be filled."""
    target, done = part.view(np.uint8).data, 0
    while done < len(target) and (count := stream.readinto(target[done:])):
        done += count
    return done


def _refuse_no_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_symlink() and not path.exists():
        found = "a broken link"
    elif not path.exists():
        found = "no such file"
    else:
        found = "a folder" if path.is_dir() else "not a regular file"
    raise DatasetError(path, found=found, expected="a NIfTI file")
