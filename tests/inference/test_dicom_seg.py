"""DICOM SEG of a series, read back by affine: highdicom orders slices in its own way."""

import threading

import highdicom
import numpy as np
import pydicom
import pytest

from flarenet.data.dicom import series_files
from flarenet.data.labels import LabelSet
from flarenet.errors import DatasetError, StorageError
from flarenet.inference.outputs.dicom_seg import DicomSeg
from flarenet.inference.outputs.slices import FinishedSlice
from flarenet.volume import orientation_of
from tests.data.dicom_series import AXIAL, SHAPE, STUDY, read_series, turned, with_study, write_series
from tests.inference.opened import opened
from tests.unreadable import at_opening

LABELS = LabelSet(
    names=("background", "liver", "left kidney", "odd thing", "tumor"), groups={"organ": (1, 2, 3), "cancer": (4,)}
)
CORONAL = np.array([[1.0, 0, 0], [0, 0, -1]])


def answered(folder, labels, out):
    """Give the label map of a series [slice, row, column] to a sink slice by slice, as a prediction does."""
    grid = read_series(folder).grid
    sink = DicomSeg(LABELS)(out / "x.nii.gz", opened(folder, grid))
    turned_map = orientation_of(grid).apply(labels)
    for z in range(len(turned_map))[::-1]:
        sink.take(FinishedSlice(z, turned_map[z]))
    sink.finish()
    return grid, highdicom.seg.segread(out / "dicom_seg" / "x.dcm")


def drawn_labels():
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:4, 1:4, 2:5] = 1
    labels[2, 4, 1], labels[3, 0, 0:2], labels[1, 5, 6] = 2, 4, 3
    return labels


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, turned(20)])
@pytest.mark.parametrize("reverse", [False, True])
def test_labels_lie_where_they_were(tmp_path, orientation, reverse):
    write_series(tmp_path / "in", orientation=orientation, reverse=reverse, change=with_study)
    labels = drawn_labels()
    grid, seg = answered(tmp_path / "in", labels, tmp_path)
    volume = seg.get_volume(combine_segments=True)
    # (slice, row, column) -> LPS of theirs, taken into our (z, y, x): whole numbers
    lps = np.diag([-1.0, -1, 1, 1]) @ grid.affine
    theirs = np.argwhere(volume.array > 0)
    ours = np.linalg.solve(lps, volume.affine @ np.c_[theirs, np.ones(len(theirs))].T)[:3].T
    np.testing.assert_allclose(ours, ours.round(), atol=1e-3)
    found = np.zeros(SHAPE, dtype=np.uint8)
    numbers = volume.array[tuple(theirs.T)]
    names = {one.SegmentNumber: one.SegmentLabel for one in seg.SegmentSequence}
    found[tuple(ours.round().astype(int).T)] = [LABELS.names.index(names[number]) for number in numbers]
    np.testing.assert_array_equal(found, labels)


def test_slices_that_lie_a_little_off_their_line_have_their_own_places(tmp_path):
    """As the reader takes them: distances that differ by less than 2 %, a slice less than a pixel beside the line."""
    aside = [-30, 12.5, 105.04]

    def change(k, content):
        with_study(k, content)
        if k == 2:
            content.ImagePositionPatient = aside

    write_series(tmp_path / "in", change=change)
    labels = drawn_labels()
    _, seg = answered(tmp_path / "in", labels, tmp_path)
    places = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in seg.PerFrameFunctionalGroupsSequence]
    moved = [place == aside for place in places]
    assert seg.pixel_array[moved].sum() == (labels[2] > 0).sum() and seg.pixel_array.sum() == (labels > 0).sum()


def test_segments_are_coded_and_belong_to_the_study(tmp_path):
    write_series(tmp_path / "in", change=with_study)
    _, seg = answered(tmp_path / "in", drawn_labels(), tmp_path)
    liver, kidney, odd, tumor = seg.SegmentSequence
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"  # SNOMED CT: liver
    assert kidney.SegmentedPropertyTypeCodeSequence[0].CodeValue == "64033007"  # kidney
    modifier = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert modifier.CodeValue == "7771000"  # left
    assert odd.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert tumor.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Morphologically Abnormal Structure"
    assert seg.StudyInstanceUID == STUDY["StudyInstanceUID"] and seg.SegmentationType == "BINARY"
    assert seg.PatientID == "4711"


def test_the_same_answer_has_the_same_uid_and_another_one_another(tmp_path):
    write_series(tmp_path / "in", change=with_study)
    uids = []
    for labels in (drawn_labels(), drawn_labels(), np.zeros(SHAPE, dtype=np.uint8)):
        _, seg = answered(tmp_path / "in", labels, tmp_path)
        uids.append(seg.SOPInstanceUID)
    assert uids[0] == uids[1] != uids[2]
    assert seg.NumberOfFrames == 1 and not seg.pixel_array.any()  # of an empty answer


def test_one_labelled_slice_is_one_frame(tmp_path):
    write_series(tmp_path / "in", change=with_study)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[3, 2:4, 1] = 4
    _, seg = answered(tmp_path / "in", labels, tmp_path)
    assert seg.NumberOfFrames == 1 and seg.pixel_array.sum() == 2


def test_what_cannot_become_one_is_an_error(tmp_path):
    """Before a slice of the answer is there."""
    write_series(tmp_path / "in", change=lambda k, content: with_study(k, content) if k < 4 else None)
    opener, grid = DicomSeg(LABELS), read_series(tmp_path / "in").grid
    with pytest.raises(DatasetError, match="no StudyInstanceUID, FrameOfReferenceUID") as refused:
        opener(tmp_path / "out" / "x.nii.gz", opened(tmp_path / "in", grid))
    assert refused.value.thing == str(tmp_path / "in" / "slice004.dcm")
    with pytest.raises(DatasetError, match="a folder of DICOM slices"):
        opener(tmp_path / "out" / "x.nii.gz", opened(tmp_path / "x.nii.gz", grid))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("empty", [False, True])
def test_slices_without_a_thickness_are_as_thick_as_they_are_apart(tmp_path, empty):
    def change(k, content):
        with_study(k, content)
        del content.SliceThickness
        if empty:
            content.SliceThickness = None

    write_series(tmp_path / "in", change=change)
    _, seg = answered(tmp_path / "in", drawn_labels(), tmp_path)
    (measures,) = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert float(measures.SliceThickness) == pytest.approx(2.5) and seg.pixel_array.any()


def test_what_highdicom_refuses_is_told_of_the_series_without_the_patients_values(tmp_path):
    def change(k, content):
        with_study(k, content)
        content.PatientSex = "XQ"  # neither of the standard's

    write_series(tmp_path / "in", change=change)
    with pytest.raises(DatasetError, match=r"highdicom makes no DICOM Segmentation from \(ValueError\)") as refused:
        answered(tmp_path / "in", drawn_labels(), tmp_path)
    assert refused.value.thing == str(tmp_path / "in") and "XQ" not in str(refused.value)
    assert list((tmp_path / "dicom_seg").glob("*")) == []


def test_a_read_that_never_ends_holds_up_no_other_series(tmp_path, monkeypatch):
    """A slice is opened first to see whether it is DICOM, then for its place, then for what a Segmentation needs."""
    write_series(tmp_path / "stuck", change=with_study)
    write_series(tmp_path / "whole", change=with_study)
    grid, began, ended = read_series(tmp_path / "whole").grid, threading.Event(), threading.Event()

    def hang():
        began.set()
        ended.wait(30)

    def opens(name):
        return DicomSeg(LABELS)(tmp_path / "out" / "x.nii.gz", opened(tmp_path / name, grid))

    at_opening(monkeypatch, tmp_path / "stuck" / "slice002.dcm", hang, since=3)
    threads = [threading.Thread(target=opens, args=(name,), daemon=True) for name in ("stuck", "whole")]
    try:
        threads[0].start()
        assert began.wait(10)
        threads[1].start()
        threads[1].join(10)
        assert [thread.is_alive() for thread in threads] == [True, False]
    finally:
        ended.set()
    threads[0].join()


def test_a_file_that_holds_other_labels_is_refused(tmp_path):
    """As a fault in writing would leave it: one voxel differs between the file and the map that it is compared with."""
    write_series(tmp_path / "in", change=with_study)
    grid = read_series(tmp_path / "in").grid
    sink = DicomSeg(LABELS)(tmp_path / "x.nii.gz", opened(tmp_path / "in", grid))
    for z, plane in enumerate(orientation_of(grid).apply(drawn_labels())):
        sink.take(FinishedSlice(z, plane))
    sink.finish()
    sources = {z: pydicom.dcmread(path) for z, path in enumerate(series_files(tmp_path / "in"))}
    for place in ((1, 1, 2), (0, 0, 0)):
        sink._map.labels[place] ^= 1
        with pytest.raises(StorageError, match="when read back"):
            sink._compare(sink.path, sources)
        sink._map.labels[place] ^= 1
    sink._compare(sink.path, sources)
