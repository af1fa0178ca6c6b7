"""Every problem of a case is found, and only of that case."""

from __future__ import annotations

import errno
import gzip
import re
import runpy
import shutil
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flarenet.data.cases import Pool
from flarenet.data.dataset_file import read_dataset
from flarenet.data.verify import check_dataset, copies, read_case, say_ignored
from tests.unreadable import refuse_to_open

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "bad-input.md"
AFFINE_XYZ = np.array([[-2.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 5, 7], [0, 0, 0, 1]])


def check(folder, name):
    dataset = read_dataset(folder)
    return read_case(next(case for case in dataset.cases if case.name == name), dataset.labels).findings


def drawn(**values):
    """A label map [3, 4, 5] of zeros whose first voxels along x hold the given counts of values."""
    array = np.zeros((3, 4, 5), np.uint8)
    flat = array.reshape(-1)
    flat[: sum(values.values())] = np.repeat([int(name[1:]) for name in values], list(values.values()))
    return array


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sound_set_has_no_problem(small_set, workers):
    assert check_dataset(read_dataset(small_set), pool=Pool(workers))[0].findings == ()


def test_a_label_with_a_wrong_header_is_mended_as_the_document_says(small_set, save_nifti, monkeypatch):
    """A label of floats whose origin is 0.4 mm off, and its image in a type of its own: places and voxels are kept."""
    affine, path = AFFINE_XYZ.copy(), small_set / "labelsTr/full.nii.gz"
    affine[0, 3] += 0.4
    save_nifti(path, drawn(v1=2, v3=1).astype(np.float32), affine)
    [error] = check(small_set, "full")
    assert "docs/bad-input.md" in error.remedy
    [block] = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(small_set)
    Path("mend.py").write_text(block.replace("CASE", "full"))
    runpy.run_path("mend.py")
    assert check(small_set, "full") == ()
    mended = nibabel.load(path)
    np.testing.assert_array_equal(mended.affine, AFFINE_XYZ)
    np.testing.assert_array_equal(mended.get_fdata(), drawn(v1=2, v3=1))


def test_voxels_that_nobody_annotated_are_no_label_and_are_told(small_set, save_nifti, edit_json):
    """Neither surplus nor present; an empty map beside them is one, and labels without background are remarked on."""
    edit_json(small_set, lambda d: d["labels"].update(ignore=9))
    save_nifti(small_set / "labelsTr/part.nii.gz", drawn(v1=2, v9=12))
    assert check(small_set, "part") == ()
    found, _ = check_dataset(read_dataset(small_set))
    assert found.findings == () and found.ignored == {"part": 12 / 60}
    assert say_ignored(found.ignored.values()) == ["label ignore: 20.00% of the voxels of 1 cases, on average"]
    assert say_ignored([0.0]) == []
    save_nifti(small_set / "labelsTr/part.nii.gz", drawn(v3=4, v9=12))
    assert [error.found for error in check(small_set, "part")] == ["drawn: 3 tumor (4 voxels)"]
    save_nifti(small_set / "labelsTr/full.nii.gz", drawn(v9=12))
    found, _ = check_dataset(read_dataset(small_set))
    assert [remark.found for remark in found.findings] == ["an empty label map", "drawn: 3 tumor (4 voxels)"]
    save_nifti(small_set / "labelsTr/full.nii.gz", drawn(v1=40, v9=20))
    assert [remark.found for remark in check(small_set, "full")] == ["every voxel labelled or ignored"]


def test_all_problems_of_a_case_at_once(small_set, save_nifti):
    save_nifti(small_set / "labelsTr/part.nii.gz", np.full((3, 4, 6), 3, np.uint8))
    assert ["shape" in error.found for error in check(small_set, "part")[:2]] == [True, False]
    (small_set / "imagesTr/part_0000.nii.gz").write_bytes(b"<html>not found</html>")
    (small_set / "labelsTr/part.nii.gz").unlink()
    assert [error.found.split(",")[0] for error in check(small_set, "part")] == ["an HTML or XML page", "no such file"]


@pytest.mark.parametrize("readable", [True, False])
def test_a_label_that_claims_far_more_voxels_than_its_image_is_not_read(small_set, readable):
    """1000 x 1000 x 600 bytes of voxels, which gzip could hold in 600 kB, of which none is there."""
    header = gzip.decompress((small_set / "labelsTr/full.nii.gz").read_bytes())[:352]
    claimed = header[:40] + struct.pack("<4h", 3, 1000, 1000, 600) + header[48:]
    noise = np.random.default_rng(0).bytes(600_000)
    (small_set / "labelsTr/full.nii.gz").write_bytes(gzip.compress(claimed + noise, compresslevel=1))
    if not readable:
        (small_set / "imagesTr/full_0000.nii.gz").write_bytes(b"no image")
    error = check(small_set, "full")[-1]
    assert error.found == "600000000 voxels" and error.severity == "refuse"
    assert error.expected.endswith("60" if readable else "which cannot be read")


def test_a_set_names_each_bad_case_and_goes_on(small_set, save_nifti):
    path = small_set / "imagesTr/full_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    save_nifti(small_set / "labelsTr/part.nii.gz", drawn(v7=1))
    found, _ = check_dataset(read_dataset(small_set), pool=Pool(2))
    assert [(finding.case, finding.severity) for finding in found.findings] == [("full", "refuse"), ("part", "refuse")]
    assert "damaged gzip" in found.findings[0].found
    assert found.findings[1].found == "7 (1 voxel)"
    assert (found.cases, found.refused, found.exit_code) == (3, ("full", "part"), 3)


def test_a_case_that_does_not_fit_in_memory_is_refused_unread(small_set, monkeypatch):
    """60 voxels, beside what Python takes."""
    monkeypatch.setattr("flarenet.data.cases.available_mb", lambda: 149.0)
    found, seen = check_dataset(read_dataset(small_set), lambda case, content: case.name)
    assert found.refused == ("full", "part", "bare") and found.exit_code == 5 and seen == {}
    assert {finding.expected for finding in found.findings} == {"about 150 MB for this case"}


def test_an_image_that_cannot_be_read_is_refused_and_is_no_copy(small_set, monkeypatch):
    """Three images of one size: only reading tells whether they are copies."""
    full, part, bare = (small_set / f"imagesTr/{name}_0000.nii.gz" for name in ("full", "part", "bare"))
    for copy in (part, bare):
        shutil.copyfile(full, copy)
    refuse_to_open(monkeypatch, part)
    dataset = read_dataset(small_set)
    assert list(copies(dataset)) == [bare]
    found, _ = check_dataset(dataset)
    assert found.refused == ("part",) and found.exit_code == 3
    [refused] = [finding for finding in found.findings if finding.severity == "refuse"]
    assert refused.exit_code == 5 and refused.found == "Input/output error"


def test_an_image_in_a_closed_folder_is_refused_and_is_no_copy(small_set, monkeypatch):
    dataset, closed, whole = read_dataset(small_set), small_set / "imagesTr/part_0000.nii.gz", Path.stat

    def stat(path, **how):
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    assert copies(dataset) == {}
    assert check_dataset(dataset)[0].refused == ("part",)


def test_the_real_set_is_sound(flaremini):
    assert check_dataset(read_dataset(flaremini))[0].findings == ()
