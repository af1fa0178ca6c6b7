"""Unpacking a zip file whose author may mean harm: names, sizes and layout are checked before a byte is unpacked.

The caller says which members may be there; everything else is refused with UnsafeError. Refused are also members that
overlap, lie about their size, are links or devices, encrypted, doubled, or exceed the limits. So are files with bytes
before, between or behind the parts of the zip, because they may be of two formats at once.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from ...errors import UnsafeError
from ...whole import whole_file

MOST_MEMBERS = 1000
MOST_BYTES = 1900 << 20
"""Most bytes of all members together. zipfile writes up to 2 GiB without fields of the 64-bit kind; a single member has
to be a twentieth smaller."""

HIGHEST_RATIO = 200
"""Highest ratio of a member's size to its compressed size. Weights hardly compress, and JSON to about a tenth."""

_END, _END_SIZE = struct.Struct("<4s4H2LH"), 22  # of the central directory, as the zip format lays it out
_ENTRY_BYTES, _LOCAL_BYTES = 46, 30  # the fixed part of a central directory entry and of what precedes a member
_LONGEST_ENTRY = 512
_CHUNK_BYTES = 1 << 20
_ENCRYPTED = 0x1

Allowed = Callable[[str], int | None]
"""Name of a member -> the most bytes that it may have; None where no member may have that name."""

# what zipfile raises for files that are damaged, or made to do harm
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)


def unpack(file: Path, folder: Path, allowed: Allowed) -> list[str]:
    """Unpack a zip file into the empty `folder`; returns the names of its members.

    Raises UnsafeError for anything unexpected and StorageError where the disk has no room; `folder` may then hold some
    members already.
    """
    try:
        with open(file, "rb") as stream:
            directory = _check_end(file, stream)
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                _check_members(file, members, directory, allowed)
                for member in members:
                    _unpack_one(file, archive, member, folder)
    except _DAMAGED as problem:
        raise UnsafeError(file, found=f"not a sound zip file: {problem}", expected="a model file") from problem
    return [member.filename for member in members]


def _check_end(file: Path, stream: BinaryIO) -> int:
    """The offset of the central directory. It is checked here because zipfile would read all of it, whatever its size.

    A model file ends with the end record, has no comment, and is not of the 64-bit kind: its limits fit into 32 bits.
    """
    size = stream.seek(0, 2)
    start = max(0, size - _END_SIZE)
    stream.seek(max(0, start - 20))
    before = stream.read(start - stream.tell())
    end = stream.read()
    if len(end) < _END_SIZE or end[:4] != b"PK\5\6":
        raise UnsafeError(file, found="not a zip file, or a truncated one", expected="a model file")
    _, disk, first_disk, here, entries, length, offset, comment = _END.unpack(end)
    plain = disk == first_disk == comment == 0 and here == entries and before[:4] != b"PK\6\7"
    if not plain or offset + length != start:
        raise UnsafeError(file, found="a zip file of several parts, or with other content", expected="a model file")
    if not 0 < entries <= MOST_MEMBERS or not entries * _ENTRY_BYTES <= length <= entries * _LONGEST_ENTRY:
        found = f"{entries} members in {length} bytes"
        raise UnsafeError(file, found=found, expected=f"at most {MOST_MEMBERS} members")
    return offset


def _check_members(file: Path, members: Iterable[zipfile.ZipInfo], directory: int, allowed: Allowed) -> None:
    total, end, seen = 0, 0, set()
    for member in sorted(members, key=lambda member: member.header_offset):
        name = f"{file}: member {member.orig_filename[:100]!r}"
        most = allowed(member.orig_filename)  # `filename` ends where the name has a NUL
        if most is None:
            raise UnsafeError(name, found="an unexpected name", expected="the members of a model file only")
        if member.filename in seen:
            raise UnsafeError(name, found="the same name twice", expected="each member once")
        seen.add(member.filename)
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG) or member.flag_bits & _ENCRYPTED:
            raise UnsafeError(name, found="a link, a device or encrypted", expected="a plain file")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsafeError(name, found=f"compression {member.compress_type}", expected="stored or deflated")
        total += member.file_size
        if member.file_size > most or total > MOST_BYTES or member.file_size > HIGHEST_RATIO * member.compress_size:
            found = f"{member.file_size} bytes from {member.compress_size}, {total} in all so far"
            expected = f"at most {most}, {HIGHEST_RATIO} times the compressed size, and {MOST_BYTES} in all"
            raise UnsafeError(name, found=found, expected=expected)
        if member.header_offset != end:
            raise UnsafeError(name, found=f"at byte {member.header_offset}", expected="members one behind the other")
        end = member.header_offset + _LOCAL_BYTES + len(member.orig_filename) + member.compress_size
    if end != directory:
        found = f"its directory at byte {directory}"
        raise UnsafeError(file, found=found, expected=f"byte {end}, right behind its members")


def _unpack_one(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    written = 0
    with (
        whole_file(folder / member.filename, size_bytes=member.file_size) as temporary,
        archive.open(member) as source,
        open(temporary, "xb") as target,
    ):
        while chunk := source.read(_CHUNK_BYTES):  # zipfile gives no more than file_size, and checks the CRC at its end
            written += target.write(chunk)
    if written != member.file_size:
        raise UnsafeError(
            f"{file}: member {member.filename!r}", found=f"{written} bytes", expected=f"{member.file_size}"
        )
