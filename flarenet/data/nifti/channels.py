"""Writing probabilities of several labels, slice by slice, as one NIfTI file of four axes."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nibabel
import numpy as np

from ...volume import Grid, Triple
from ...whole import temporary_of, whole_file
from .header import Header
from .stream import CHUNK_BYTES
from .write import PlaneWriter, check_written, geometry_like, gzipped

COMMENT = 6
"""The code of a comment among the extensions of NIfTI-1."""


@contextmanager
def channels_file(
    path: Path, names: Sequence[str], *, like: Header | Grid
) -> Iterator[tuple[Triple, Callable[..., None]]]:
    """Write a .nii.gz file with a channel for each of `names`: yields its shape (z, y, x) and a function that takes its
    slices one by one, the first one first.

    A slice is one argument per channel, uint8 [Y, X], 255 for 1, in the order of the image's file. The header has the
    geometry of `like`, as labels_file keeps it, slope 1/255, the channels along the fourth axis, and `names`, as JSON,
    in a comment. NIfTI stores one channel after the other, so each is compressed to a file of its own; these are then
    joined as members of one gzip file. The file is read back, and compared by CRC, before it takes its name; after an
    error there is none. Raises as labels_file.
    """
    raw, grid = geometry_like(like)
    with whole_file(path) as temporary:
        files = [temporary, *(temporary_of(path) for _ in names[1:])]
        try:
            with ExitStack() as stack:
                writers = [PlaneWriter(stack.enter_context(gzipped(file)), path, grid.shape) for file in files]
                writers[0].put(_header(raw, names))

                def write(*planes: np.ndarray) -> None:
                    for writer, plane in zip(writers, planes, strict=True):
                        writer.take(plane)

                yield grid.shape, write
            if writers[-1].planes != grid.shape[0]:
                raise ValueError(f"{writers[-1].planes} slices of {grid.shape[0]}")
            _append(files[0], files[1:])
        finally:
            for file in files[1:]:
                file.unlink(missing_ok=True)
        check_written(temporary, writers, path, expected="the probabilities as they were written")


def _append(target: Path, files: Sequence[Path]) -> None:
    with open(target, "ab") as end:
        for file in files:
            with open(file, "rb") as content:
                shutil.copyfileobj(content, end, CHUNK_BYTES)
            file.unlink()


def _header(raw: nibabel.Nifti1Header, names: Sequence[str]) -> bytes:
    header = raw.copy()
    header["dim"][0], header["dim"][4], header["pixdim"][4] = 4, len(names), 1
    header["scl_slope"], header["cal_max"] = 1 / 255, 1
    text = json.dumps(list(names)).encode()
    size = -(-(len(text) + 8) // 16) * 16
    header["vox_offset"] = header.sizeof_hdr + 4 + size
    extension = struct.pack(f"{header.endianness}2i", size, COMMENT) + text.ljust(size - 8, b"\0")
    return header.binaryblock + b"\1\0\0\0" + extension
