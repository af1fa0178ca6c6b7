"""A file appears whole or not at all."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
from pathlib import Path

import pytest

from flarenet.errors import NoRoom, StorageError
from flarenet.whole import (
    copy_aside,
    flush_folder,
    move_aside,
    reading,
    remove_leftovers,
    sha256_of,
    temporary_end,
    together,
    whole_file,
    write_text,
)
from tests.unreadable import make_unreadable


def test_content_appears_under_its_name_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "zwölf")
    assert path.read_bytes() == "zwölf".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_what_no_utf8_can_hold_is_written_as_an_escape(tmp_path):
    write_text(tmp_path / "a.txt", os.fsdecode(b"M\xfcller, ") + "Zoë")
    assert (tmp_path / "a.txt").read_bytes() == rb"M\udcfcller, " + "Zoë".encode()


def test_the_name_is_not_there_before_the_end(tmp_path):
    path = tmp_path / "a.nii.gz"
    with whole_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".nii.gz") and temporary.name.startswith(".")
    assert path.read_text() == "half"


@pytest.mark.parametrize("name", ["a" * 248 + ".nii.gz", "é" * 125 + ".png", os.fsdecode(b"\xfc.txt")])
def test_a_name_may_be_as_long_as_a_name_can_be_and_of_any_bytes(tmp_path, name):
    with whole_file(tmp_path / name) as temporary:
        temporary.write_text("x")
        assert temporary.suffix == (tmp_path / name).suffix
        remove_leftovers(tmp_path, glob.escape(temporary_end(name)))
        assert not temporary.exists()
        temporary.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path):
    flush_folder(Path("/proc/self"))  # whose file system says EINVAL
    with pytest.raises(FileNotFoundError):
        flush_folder(tmp_path / "nowhere")


def test_a_file_that_cannot_be_read_is_no_missing_one(tmp_path):
    path = tmp_path / "a"
    path.touch()
    make_unreadable(path)
    with pytest.raises(StorageError, match="a\n  found: Input/output error"), reading(path):
        sha256_of(path)
    path.unlink()
    with pytest.raises(FileNotFoundError), reading(path):
        sha256_of(path)


def test_what_is_moved_aside_takes_no_name_that_is_taken(tmp_path):
    path = tmp_path / "a.json"
    for number in range(3):
        path.write_text(str(number))
        move_aside(path)
    found = {kept.name: kept.read_text() for kept in tmp_path.iterdir()}
    assert found == {"a.previous.json": "0", "a.previous-2.json": "1", "a.previous-3.json": "2"}


def test_a_file_is_copied_aside_and_stays(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("0")
    assert [copy_aside(path).name for _ in range(2)] == ["a.previous.json", "a.previous-2.json"]
    assert {kept.read_text() for kept in tmp_path.iterdir()} == {"0"} and path.exists()


def test_s11_a_link_in_the_place_of_a_file_is_replaced_and_what_it_led_to_is_left_alone(tmp_path):
    victim, link = tmp_path / "victim", tmp_path / "a.txt"
    victim.write_text("of somebody else")
    link.symlink_to(victim)
    write_text(link, "x")
    assert victim.read_text() == "of somebody else"
    assert link.read_text() == "x" and not link.is_symlink()


def test_several_files_take_their_names_together_or_none_does(tmp_path):
    def write(text):
        for name in ("a", "b"):
            write_text(tmp_path / name, text)
        return {path.name: path.read_text() for path in tmp_path.iterdir() if path.name in "ab"}

    assert write("old") == {"a": "old", "b": "old"}
    with pytest.raises(KeyError), together():
        assert write("half") == {"a": "old", "b": "old"} and len(list(tmp_path.iterdir())) == 4
        raise KeyError
    with together():
        assert write("new") == {"a": "old", "b": "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "new"
    (tmp_path / "c").mkdir()
    with pytest.raises(StorageError, match="c\n"), together():
        write_text(tmp_path / "a", "newer, and part of nothing")
        write_text(tmp_path / "c", "a folder is in its place")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]
    assert write("newer") == {"a": "newer", "b": "newer"} and len(list(tmp_path.iterdir())) == 3  # outside, at once


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_as_it_was(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_the_disk_refuses_is_a_storage_error(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder"):
        write_text(tmp_path / "folder", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    "number, kind",
    [(errno.ENOSPC, NoRoom), (errno.EDQUOT, NoRoom), (errno.EROFS, NoRoom), (errno.EACCES, StorageError)],
)
def test_a_disk_that_takes_no_other_file_either_is_told_apart(tmp_path, number, kind):
    with pytest.raises(StorageError, match=f"{os.strerror(number)}, [0-9]+ bytes free") as caught:
        with whole_file(tmp_path / "a.txt", size_bytes=7):
            raise OSError(number, os.strerror(number))
    assert type(caught.value) is kind and caught.value.expected == "a folder that can be written, with room for 7 bytes"


def test_a_place_that_cannot_be_looked_for_is_a_storage_error_too(tmp_path):
    with pytest.raises(StorageError, match="File name too long\n  expected: a folder that can be written") as caught:
        write_text(tmp_path / ("x" * 300) / "a.txt", "new")
    assert caught.value.__cause__.errno == errno.ENAMETOOLONG


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
def test_sha256(tmp_path, size):
    (tmp_path / "a").write_bytes(b"x" * size)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"x" * size).hexdigest()


def test_sha256_of_nothing_is_the_known_number(tmp_path):
    (tmp_path / "a").touch()
    assert sha256_of(tmp_path / "a") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_leftovers_of_killed_processes_go(tmp_path):
    for name in (".0123.tmp.a", ".45.old.b.c", "a", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / ".67.tmp.plan.json").touch()
    remove_leftovers(tmp_path, "a")
    assert not (tmp_path / ".0123.tmp.a").exists() and (tmp_path / ".45.old.b.c").exists()
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "a"]
    remove_leftovers(tmp_path / "nowhere")
