"""Finished slices go to every sink, and either all outputs of a scan are there or none."""

import itertools

import nibabel
import numpy as np
import pytest

from flarenet.data.nifti import read_grid
from flarenet.errors import StorageError
from flarenet.inference.many import predict_pairs
from flarenet.inference.outputs.label_file import LabelFile
from flarenet.inference.outputs.slices import FinishedSlice
from flarenet.inference.predict import Predictor
from flarenet.volume import orientation_of
from tests.inference.opened import opened_file
from tests.inference.test_predict import BODY_HU, model_folder, write_scan

ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


class Sink:
    """Notes what comes; fails at slice `fails_at`, or where that is "finish" at the end."""

    wants_probabilities = False

    def __init__(self, *, wants_image=False, fails_at=None):
        self.wants_image, self.fails_at, self.slices, self.end = wants_image, fails_at, [], ""

    def open(self, label_file, scan):
        self.scan, self.label_file, self.grid = scan.name, label_file, scan.grid
        return self

    def take(self, finished):
        if finished.z == self.fails_at:
            raise StorageError(self.label_file, found="a full disk", expected="room")
        self.slices.append(finished)

    def finish(self):
        if self.fails_at == "finish":
            raise StorageError(self.label_file, found="a full disk", expected="room")
        assert not self.label_file.exists()
        self.end += "finished"

    def abandon(self):
        self.end += "abandoned"


@pytest.fixture
def predictor(tmp_path):
    return Predictor(model_folder(tmp_path / "model"), device="cpu", precision="fp32")


@pytest.fixture
def scan(tmp_path):
    body = np.zeros((30, 32, 6), dtype=bool)
    body[5:15, 4:12, 1:5] = True
    write_scan(tmp_path / "x.nii.gz", body, np.diag([-1.0, 1.0, -2.0, 1.0]))
    return tmp_path / "x.nii.gz"


def test_every_slice_comes_once_with_its_image(predictor, scan, tmp_path):
    sink, out = Sink(wants_image=True), tmp_path / "out" / "x.nii.gz"
    done, failures = predict_pairs(predictor, {scan: out}, progress=lambda *_: None, openers=[sink.open])
    assert (done, failures, sink.end) == ([out], [], "finished")
    assert (sink.scan, sink.label_file) == (scan, out) and sink.grid.is_near(read_grid(scan))
    order = sorted(sink.slices, key=lambda finished: finished.z)
    assert [finished.z for finished in order] == list(range(6))
    written = np.asarray(nibabel.load(out).dataobj)
    turned = orientation_of(sink.grid)
    np.testing.assert_array_equal(np.stack([f.labels for f in order]), turned.apply(written.T))
    image = np.stack([f.image for f in order])
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image == BODY_HU, np.stack([f.labels for f in order]) == 1)


@pytest.mark.parametrize("fails_at", [3, "finish"])
def test_a_sink_that_fails_ends_the_scan_and_leaves_nothing(predictor, scan, tmp_path, fails_at):
    other, bad = Sink(), Sink(fails_at=fails_at)
    done, failures = predict_pairs(
        predictor, {scan: tmp_path / "out" / "x.nii.gz"}, progress=lambda *_: None, openers=[other.open, bad.open]
    )
    assert done == [] and [image for image, _ in failures] == [scan] and "full disk" in str(failures[0][1])
    assert other.end.endswith("abandoned") and bad.end == "abandoned"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("ascending", [True, False])
def test_the_label_file_of_all_48_orientations(tmp_path, ascending):
    drawn = np.random.default_rng(0).integers(0, 5, (3, 4, 5)).astype(np.uint8)
    for permutation, signs in ORIENTATIONS:
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[list(permutation)].T * signs
        nibabel.save(nibabel.Nifti1Image(drawn.astype(np.int16), affine), tmp_path / "x.nii")
        scan = opened_file(tmp_path / "x.nii")
        turned = orientation_of(scan.grid).apply(drawn.T)
        sink = LabelFile(tmp_path / "y.nii.gz", scan)
        for z in range(len(turned))[:: 1 if ascending else -1]:
            sink.take(FinishedSlice(z, turned[z]))
        sink.finish()
        np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "y.nii.gz").dataobj), drawn)


def test_an_abandoned_label_file_is_not_there(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "x.nii")
    sink = LabelFile(tmp_path / "y.nii.gz", opened_file(tmp_path / "x.nii"))
    sink.take(FinishedSlice(0, np.zeros((4, 3), np.uint8)))
    sink.abandon()
    assert [path.name for path in tmp_path.iterdir()] == ["x.nii"]
