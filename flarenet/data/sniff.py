"""What a file that is not NIfTI really is, judged by its first bytes."""

from __future__ import annotations

PAIR_REMEDY = "convert it to one .nii.gz file"


def what_it_is(start: bytes) -> str:
    """What a file that is no NIfTI seems to be, in words; `start` are its first bytes."""
    text = start.lstrip()[:200].lower()
    if not start:
        return "an empty file"
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<body")):
        return "an HTML or XML page, as a failed download leaves it"
    if text.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer: the file itself was not downloaded (git lfs pull)"
    if text.startswith((b"{", b"[")):
        return "JSON text"
    known = {b"PK\x03\x04": "a zip archive", b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture"}
    for magic, words in known.items():
        if start.startswith(magic):
            return words
    if start[128:132] == b"DICM":
        return "a DICOM file"
    if start.startswith(b"NRRD"):
        return "an NRRD file"
    if not start.strip(b"\0"):
        return "zeros only"
    if start[344:347] == b"ni1":
        return "the header of a two-file NIfTI pair"
    if 348 in (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")) and len(start) == 348:
        return "the header of an Analyze pair, or a damaged NIfTI one"
    if start[:200].isascii() and start[:200].decode("ascii").replace("\n", " ").replace("\r", " ").isprintable():
        return f"text, beginning {start[:40].decode('ascii')!r}"
    return f"bytes that begin {start[:8].hex(' ')}"
