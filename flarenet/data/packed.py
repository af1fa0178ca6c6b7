"""Arrays on disk, compressed in small blocks: a read unpacks only the blocks that it touches.

The format is a blosc2 frame (https://www.blosc.org, b2nd). A file is not read before its size has been checked; its
digest is checked on request, see store.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import blosc2
import numpy as np

from ..errors import DatasetError, RunError
from ..volume import Triple
from ..whole import reading

BLOCK: Triple = (2, 64, 64)
"""The block that is unpacked as a whole. It is flat enough to read one slice (0.3 ms for 400 x 400) and compact enough
to read 128 voxels a side (3 ms); measured by benchmarks/preparation/reads.py."""

CHUNK_SLICES = 16

Window = tuple[int | slice, ...] | int

_ALONE = blosc2.DParams(nthreads=1)
"""Cases are read and written by several processes side by side; threads within each would only get in their way."""


def pack(array: np.ndarray) -> bytes:
    """`array` [Z, Y, X], int16 or uint8, as a frame. The same array gives the same bytes."""
    frame = blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=(min(CHUNK_SLICES, array.shape[0]), *array.shape[1:]),
        blocks=tuple(min(most, n) for most, n in zip(BLOCK, array.shape)),
        # the low bits of a scan are noise that no codec packs; bits of one weight side by side set them apart
        cparams={"codec": blosc2.Codec.LZ4, "clevel": 1, "filters": [blosc2.Filter.BITSHUFFLE], "nthreads": 1},
    )
    return cast(bytes, frame.to_cframe())


@dataclass(frozen=True)
class Packed:
    """An array in a file. Indexing it by whole numbers and slices, or np.asarray, reads into memory.

    The file is opened anew for each read: that takes 0.05 ms, while an open frame would keep two MB of buffers.

    mtime_ns  when the file was written; None accepts any time
    """

    path: Path
    shape: Triple
    dtype: np.dtype
    mtime_ns: int | None = None

    def __getitem__(self, window: Window) -> np.ndarray:
        """The part of the array in `window`. Raises DatasetError where the file does not hold it, RunError where it was
        written at another time, and StorageError where it cannot be read."""
        with undamaged(self.path, self._kind):
            return self._open()[window]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:, :, :].astype(dtype or self.dtype, copy=False)

    def __len__(self) -> int:
        return self.shape[0]

    def _open(self) -> blosc2.NDArray:
        # from the mapped bytes, not by blosc2.open: that also evaluates an expression that a file may hold
        content = np.memmap(self.path, dtype=np.uint8, mode="r")
        _check_same(self.path, self.mtime_ns)
        frame = blosc2.ndarray_from_cframe(content)
        frame.schunk.dparams = _ALONE
        if frame.shape != self.shape or frame.dtype != self.dtype:
            raise damaged(self.path, found=f"{frame.dtype} {frame.shape}", expected=self._kind)
        return frame

    @property
    def _kind(self) -> str:
        return f"{self.dtype} {self.shape}"


@dataclass(frozen=True)
class PackedPlaces:
    """The places of a label map in a file, as data.places.places_of gives them; np.asarray opens it.

    mtime_ns  when the file was written; None accepts any time
    """

    path: Path
    mtime_ns: int | None = None

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        with undamaged(self.path, "an array file"):
            places = np.load(self.path, mmap_mode="r", allow_pickle=False)
            _check_same(self.path, self.mtime_ns)
        if not isinstance(places, np.ndarray):
            raise damaged(self.path, found="an archive", expected="an array file")
        return places


@contextmanager
def undamaged(path: Path, expected: str) -> Iterator[None]:
    """Raise what goes wrong while a file is read as `damaged`, or as in whole.reading where it cannot be read."""
    try:
        with reading(path):
            yield
    except (OSError, ValueError, EOFError, RuntimeError) as error:
        raise damaged(path, found=error, expected=expected) from error


def _check_same(path: Path, mtime_ns: int | None) -> None:
    """Raise RunError where a file was written at another time. To be called once it is open: a file that replaces it
    later does not affect the open one."""
    if mtime_ns is not None and path.stat().st_mtime_ns != mtime_ns:
        raise RunError(
            path,
            found="a case that was prepared again in the meantime",
            expected="the files that this run began with",
            remedy="start the command again; it says what else to do",
        )


def damaged(path: Path, *, found: object, expected: object, thing: str | None = None) -> DatasetError:
    """The error for a file of a stored case that is not the one that was written.

    thing  the place in the file, where it is known
    """
    remedy = f"remove {path.parent} and prepare the case again"
    return DatasetError(thing or path, found=found, expected=expected, remedy=remedy)
