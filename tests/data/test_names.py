"""Names of files and cases."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from flarenet.data.folders import paired
from flarenet.data.names import case_name, files_by_case, find_images
from flarenet.errors import DatasetError


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a/x_0000.nii.gz", "x"),
        ("x.nii.gz", "x"),
        ("x_0000.nii", "x"),
        ("FLARE22_Tr_0001.nii.gz", "FLARE22_Tr_0001"),
        ("series_0000", "series"),
        ("series_0001/", "series_0001"),
    ],
)
def test_case_name(file, name):
    assert case_name(file) == name


def test_capitals_make_no_other_ending_and_no_other_case(tmp_path):
    for name in ("b_0000.NII.GZ", "a.nii"):
        (tmp_path / name).write_bytes(b"")
    assert list(files_by_case(tmp_path)) == ["a", "b"]
    (tmp_path / "A_0000.nii.gz").write_bytes(b"")
    with pytest.raises(DatasetError, match="A_0000.nii.gz and a.nii"):
        files_by_case(tmp_path)


def test_a_case_is_the_same_however_its_accents_are_spelled(tmp_path):
    """A Mac's u and its dots are two characters; the file keeps its own name."""
    mac = unicodedata.normalize("NFD", "J\u00fcrg")
    assert len(mac) == 5 and case_name(f"{mac}_0000.nii.gz") == "J\u00fcrg"
    (tmp_path / f"{mac}.nii.gz").write_bytes(b"")
    assert files_by_case(tmp_path) == {"J\u00fcrg": tmp_path / f"{mac}.nii.gz"}


def test_a_label_map_of_a_case_numbered_0000_keeps_its_number():
    names = ("case_0000_0000.nii.gz", "case_0001_0000.nii.gz", "other_0000.nii.gz")
    images = [Path("imagesTr") / name for name in names]
    # the third has the mark of an image, as some programs leave it
    labels = [Path("labelsTr") / name for name in ("case_0000.nii.gz", "case_0001.nii.gz", "other_0000.nii.gz")]
    assert paired(images, labels) == list(zip(("case_0000", "case_0001", "other"), images, labels))
    images, labels = [Path("imagesTr/case_0000.nii.gz")], [Path("labelsTr/case.nii.gz")]
    assert paired(images, labels) == [("case", images[0], labels[0])]


def test_find_images(tmp_path):
    for name in ("b_0000.nii.gz", "a.nii", ".hidden.nii.gz", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in find_images(tmp_path)] == ["a.nii", "b_0000.nii.gz"]
    assert find_images(tmp_path / "a.nii") == [tmp_path / "a.nii"]
    (tmp_path / "b.nii.gz").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"b.nii.gz and b_0000.nii.gz"):
        find_images(tmp_path)


def test_a_further_channel_is_no_case_of_its_own_but_numbers_are_names(tmp_path):
    for name in ("FLARE22Ts_0001.nii.gz", "FLARE22Ts_0002.nii.gz", "p1_0000.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    assert [case_name(image) for image in find_images(tmp_path)] == ["FLARE22Ts_0001", "FLARE22Ts_0002", "p1"]
    (tmp_path / "p1_0001.nii.gz").write_bytes(b"")
    with pytest.raises(DatasetError, match="p1_0001.nii.gz, a further channel") as refused:
        find_images(tmp_path)
    assert "p1_0001_0000.nii.gz" in refused.value.remedy
    assert find_images(tmp_path / "p1_0001.nii.gz") == [tmp_path / "p1_0001.nii.gz"]  # by name, as one's own word
    # label maps have no channels
    assert list(files_by_case(tmp_path)) == ["FLARE22Ts_0001", "FLARE22Ts_0002", "p1", "p1_0001"]


def test_find_images_says_what_it_found_instead(tmp_path):
    with pytest.raises(DatasetError, match="no such file or folder"):
        find_images(tmp_path / "none")
    with pytest.raises(DatasetError, match="an empty folder"):
        find_images(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DatasetError, match="a folder of 1 other entry\n"):
        find_images(tmp_path)
