"""DICOM series: the same phantom as a NIfTI file gives, and a clear refusal where slices do not make a scan."""

from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from flarenet.data.dicom import find_scans, inspect_series, is_series
from flarenet.data.names import find_images
from flarenet.data.nifti import read_image, write_labels
from flarenet.errors import DatasetError, GeometryError, StorageError
from flarenet.volume import canonical
from tests.data.dicom_series import AXIAL, PATIENT, SHAPE, phantom, read_series, turned, write_series
from tests.unreadable import at_opening, make_unreadable, refuse_to_open


def as_nifti(path, orientation=AXIAL, step=None):
    """The same phantom as dcm2niix would place it: RAS, columns along a row first."""
    step = np.cross(*orientation) * 2.5 if step is None else np.array(step)
    affine = np.eye(4)
    affine[:3] = np.stack([orientation[0] * 1.2, orientation[1] * 0.8, step, [-30, 12, 100]], axis=1)
    affine = np.diag([-1, -1, 1, 1]) @ affine
    image = nibabel.Nifti1Image(phantom().transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("degrees", [0, 17, 90, 200])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_same_as_nifti(tmp_path, degrees, reverse):
    orientation = turned(degrees)
    scan = read_series(write_series(tmp_path / "scan", orientation=orientation, reverse=reverse))
    reference = read_image(as_nifti(tmp_path / "scan.nii.gz", orientation))
    assert scan.data.dtype == np.int16
    for one, other in ((scan, reference), (canonical(scan)[0], canonical(reference)[0])):
        np.testing.assert_array_equal(one.data, other.data)
        np.testing.assert_allclose(one.grid.affine, other.grid.affine, atol=1e-3)


def test_slices_downwards_are_ordered_along_their_normal(tmp_path):
    """Positions fall while the normal points up: the same world, the other order of planes."""
    down = [0, 0, -2.5]
    scan = canonical(read_series(write_series(tmp_path / "scan", step=down)))[0]
    reference = canonical(read_image(as_nifti(tmp_path / "scan.nii.gz", step=down)))[0]
    np.testing.assert_array_equal(scan.data, reference.data)
    np.testing.assert_allclose(scan.grid.affine, reference.grid.affine, atol=1e-3)


@pytest.mark.parametrize(("slope", "intercept", "dtype"), [(1, -1024, np.int16), (0.5, -1024, np.float32)])
def test_pixels_become_hu(tmp_path, slope, intercept, dtype):
    scan = read_series(write_series(tmp_path / "scan", slope=slope, intercept=intercept))
    assert scan.data.dtype == dtype
    np.testing.assert_array_equal(scan.data, phantom())


def test_each_slice_has_its_own_slope(tmp_path):
    def change(k, content):
        if k == 2:
            content.RescaleIntercept = -1000

    expected = phantom()
    expected[2] += 24
    np.testing.assert_array_equal(read_series(write_series(tmp_path / "scan", change=change)).data, expected)


def test_an_element_that_says_nothing_is_as_one_that_is_not_there(tmp_path):
    def change(k, content):
        for name in ("RescaleSlope", "RescaleIntercept", "SamplesPerPixel", "PhotometricInterpretation"):
            setattr(content, name, None)

    scan = read_series(write_series(tmp_path / "scan", intercept=-1024, change=change))
    np.testing.assert_array_equal(scan.data, phantom() + 1024)


def test_a_tilted_gantry_is_told(tmp_path):
    volume, (said,) = inspect_series(write_series(tmp_path / "scan", step=[0, 0.7, 2.5]))
    assert "axes that lean by 26.96%" in said.found  # 0.7 / hypot(0.7, 2.5)
    np.testing.assert_allclose(volume.grid.affine[:3, 0], [0, -0.7, 2.5], atol=1e-6)


def test_one_slice(tmp_path):
    assert read_series(write_series(tmp_path / "scan", phantom()[:1])).grid.spacing_mm == pytest.approx((2.5, 0.8, 1.2))


def setting(number, **elements):
    def change(k, content):
        if k == number:
            for name, value in elements.items():
                setattr(content, name, value)

    return change


def deflated(k, content):
    content.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        (lambda k, content: k != 2, "5 mm between slice001.dcm and slice003.dcm; is a slice missing?", "2.5 mm"),
        (setting(3, SeriesInstanceUID="1.2.3"), "2 series of 4, 1 files", "one series"),
        (setting(3, ImagePositionPatient=[-30, 12, 105]), "slice002.dcm and slice003.dcm at one place", "one slice"),
        (setting(4, ImagePositionPatient=[-30, 12, 109.5]), "2 mm between slice003.dcm and slice004.dcm", "2.5 mm"),
        (setting(2, ImagePositionPatient=[-30, 19, 105]), "slice002.dcm 7 mm off the line", "one line"),
        (setting(1, Rows=7, Columns=6), "(7, 6) pixels", "(6, 7), as slice000.dcm"),
        (setting(1, PixelSpacing=[0.8, 1.3]), "spacing_mm [0.8, 1.3]", "[0.8, 1.2]"),
        (setting(1, ImageOrientationPatient=[0, 1, 0, -1, 0, 0]), "orientation [0.0, 1.0", "[1.0, 0.0"),
        (setting(1, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "[1.0, 0.0, 0.0, 1.0", "right angles"),
        (setting(1, PixelSpacing=[0, 1.2]), "0.0, 1.2", "two sizes in mm"),
        (setting(1, PhotometricInterpretation="MONOCHROME1"), "MONOCHROME1", "MONOCHROME2"),
        (setting(1, NumberOfFrames=3), "several frames", "a file for each slice"),
        (setting(1, ImagePositionPatient=None), "no ImagePositionPatient", "a slice of a scan"),
        (setting(1, PixelData=b"\0\0" * 10), "pixels that cannot be read", "pixels"),
        (deflated, "a deflated file", "not compressed as a whole"),
        (setting(1, RescaleSlope=[1, 2]), "RescaleSlope [1.0, 2.0]", "one finite number"),
        (lambda k, content: content.add_new(0x00281052, "LO", "none"), "RescaleIntercept that is not a number", "one"),
    ],
)
def test_what_is_no_scan_is_refused_and_nothing_is_told_of_the_patient(tmp_path, change, found, expected, capfd):
    folder = write_series(tmp_path / "scan", change=change)
    with pytest.raises((DatasetError, GeometryError)) as caught:
        read_series(folder)
    error = caught.value
    assert found in error.found and expected in error.expected
    output = capfd.readouterr()
    assert not any(word in f"{error}{output.out}{output.err}" for word in (PATIENT, "4711"))


def test_a_cut_file_is_refused(tmp_path):
    folder = write_series(tmp_path / "scan")
    path = folder / "slice002.dcm"
    for size in (400, len(path.read_bytes()) - 10):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(DatasetError, match="slice002"):
            read_series(folder)


@pytest.mark.parametrize("opened", [1, 2, 3], ids=["kind", "place", "pixels"])
def test_a_disk_that_fails_is_no_fault_of_the_scan(tmp_path, monkeypatch, opened):
    path = write_series(tmp_path / "scan") / "slice002.dcm"
    refuse_to_open(monkeypatch, path, since=opened)
    with pytest.raises(StorageError, match="Input/output error") as caught:
        read_series(tmp_path / "scan")
    assert caught.value.thing == str(path)


@pytest.mark.parametrize("part", ["file", "number", "pixels"])
def test_memory_that_runs_out_is_no_fault_of_the_scan(tmp_path, monkeypatch, part):
    def run_out(*_, **__):
        raise MemoryError

    path = write_series(tmp_path / "scan") / "slice002.dcm"
    if part == "file":
        at_opening(monkeypatch, path, run_out, since=2)
    elif part == "number":
        monkeypatch.setattr("flarenet.data.dicom.np.array", run_out)
    else:
        monkeypatch.setattr(Dataset, "pixel_array", property(run_out))
    with pytest.raises(MemoryError):
        read_series(tmp_path / "scan")


def test_a_read_that_never_ends_holds_up_no_other_series(tmp_path, monkeypatch):
    """A slice is opened first to see whether it is DICOM, then for what it holds."""
    stuck, whole = (write_series(tmp_path / name) for name in ("stuck", "whole"))
    began, ended, shapes = threading.Event(), threading.Event(), []

    def hang():
        began.set()
        ended.wait(30)

    at_opening(monkeypatch, stuck / "slice002.dcm", hang, since=2)
    threads = [threading.Thread(target=read_series, args=(stuck,), daemon=True)]
    threads.append(threading.Thread(target=lambda: shapes.append(read_series(whole).data.shape), daemon=True))
    try:
        threads[0].start()
        assert began.wait(10)
        threads[1].start()
        threads[1].join(10)
        assert shapes == [SHAPE] and threads[0].is_alive()
    finally:
        ended.set()
    for thread in threads:
        thread.join()


def test_folders_of_slices_are_found(tmp_path):
    for name in ("b", "a"):
        write_series(tmp_path / "in" / name)
    (tmp_path / "in" / "a" / "notes.txt").write_text("no slice")
    assert is_series(tmp_path / "in" / "a") and not is_series(tmp_path / "in")
    assert find_scans(tmp_path / "in") == [tmp_path / "in" / "a", tmp_path / "in" / "b"]
    assert find_scans(tmp_path / "in" / "a") == [tmp_path / "in" / "a"]
    assert read_series(tmp_path / "in" / "a").data.shape == SHAPE
    as_nifti(tmp_path / "in" / "x.nii.gz")
    assert find_scans(tmp_path / "in") == find_images(tmp_path / "in") == [tmp_path / "in" / "x.nii.gz"]
    with pytest.raises(DatasetError, match="an empty folder"):
        (tmp_path / "empty").mkdir()
        find_scans(tmp_path / "empty")


def test_what_cannot_be_looked_into_counts_as_a_series_and_fails_by_its_name(tmp_path, monkeypatch):
    series = write_series(tmp_path / "in" / "a")
    for name in ("b", "closed"):
        (tmp_path / "in" / name).mkdir()
    unreadable, closed = tmp_path / "in" / "b" / "x", tmp_path / "in" / "closed"
    unreadable.touch()
    make_unreadable(unreadable)
    whole = Path.iterdir

    def iterdir(folder):
        if folder == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return whole(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert find_scans(tmp_path / "in") == [series, unreadable.parent, closed]
    assert read_series(series).data.shape == SHAPE
    with pytest.raises(StorageError, match="Input/output error") as caught:
        read_series(unreadable.parent)
    assert caught.value.thing == str(unreadable)
    with pytest.raises(PermissionError, match="closed"):
        read_series(closed)
    shutil.rmtree(series)
    assert find_scans(tmp_path / "in") == [unreadable.parent, closed]
    write_series(tmp_path / "in" / "p" / "s" / "x")  # searched after `b`
    with pytest.raises(DatasetError) as caught:
        find_scans(tmp_path / "in")
    assert caught.value.remedy.startswith(f"-i {tmp_path}/in/p/s,")


def test_series_that_lie_deeper_are_named(tmp_path):
    """Each of them is found by -i of the folder above it."""
    (tmp_path / "in" / "a" / "notes").mkdir(parents=True)
    for name in ("p2/s1/x", "p1/s2/x"):
        write_series(tmp_path / "in" / name)
    with pytest.raises(DatasetError, match=r"\*.nii, or DICOM slices in it or in its folders, not deeper") as caught:
        find_scans(tmp_path / "in")
    assert caught.value.found == "a folder of 3 other entries"
    assert caught.value.remedy.startswith(f"-i {tmp_path}/in/p1/s2,")
    assert find_scans(tmp_path / "in/p1/s2") == [tmp_path / "in/p1/s2/x"]


@pytest.mark.parametrize("orientation", [AXIAL, turned(33)], ids=["axial", "oblique"])
def test_labels_are_written_on_the_grid_of_a_series(tmp_path, orientation):
    scan = read_series(write_series(tmp_path / "scan", orientation=orientation))
    drawn = (scan.data > 0).astype(np.uint8)
    write_labels(tmp_path / "out.nii.gz", drawn, like=scan.grid)
    written = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, drawn)
    np.testing.assert_allclose(written.affine[:, [2, 1, 0, 3]], scan.grid.affine, atol=1e-4)
    np.testing.assert_allclose(written.header.get_qform(), written.header.get_sform(), atol=1e-3)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (1, 1)
    assert written.header.get_xyzt_units()[0] == "mm"
