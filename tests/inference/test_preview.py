"""The picture of a case: which slices, which way up, and how much is kept."""

import numpy as np
import pytest
from matplotlib.image import imread

from flarenet.data.labels import LabelSet
from flarenet.evaluation.pictures import richest
from flarenet.inference.outputs.preview import AXIAL, Preview, _Spread
from flarenet.inference.outputs.slices import FinishedSlice
from flarenet.volume import Grid
from tests.inference.opened import opened

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})
AFFINE = np.array([[0, 0, 1.5, 0], [0, 1.5, 0, 0], [3.0, 0, 0, -40], [0, 0, 0, 1]])  # RAS


def drawn_case(out, image, labels, *, is_ct=True):
    scan = opened("a_0000.nii.gz", Grid(image.shape, AFFINE))
    sink = Preview(LABELS, is_ct=is_ct)(out / "a.nii.gz", scan)
    for z in range(len(image))[::-1]:
        sink.take(FinishedSlice(z, labels[z], image=image[z]))
    sink.finish()
    return sink, imread(out / "previews" / "a.png")[..., :3]


def green(rgb):
    return rgb[..., 1] > rgb[..., 0] + 0.05


def test_the_patients_left_is_on_the_right_and_the_front_is_up(tmp_path):
    image = np.zeros((20, 24, 28), dtype=np.float32)
    labels = np.zeros(image.shape, dtype=np.uint8)
    labels[:, 16:23, 2:8] = 2  # front, left
    _, rgb = drawn_case(tmp_path, image, labels)
    height, width = rgb.shape[:2]
    picture = green(rgb)[int(0.08 * height) : int(0.88 * height)]
    for column in range(3):  # of the upper row, left to right
        rows, columns = np.nonzero(picture[: len(picture) // 2, column * width // 4 : (column + 1) * width // 4])
        assert columns.min() > width / 8 and rows.max() < len(picture) / 4 and rows.size > 1000


def test_slices_lie_over_what_is_labelled_and_memory_is_bounded(tmp_path):
    image = np.zeros((300, 8, 9), dtype=np.float32)
    labels = np.zeros(image.shape, dtype=np.uint8)
    labels[100:200] = 1
    labels[150, 3] = 3
    sink, _ = drawn_case(tmp_path, image, labels)
    chosen = [z for z, _, _ in sink.labelled.chosen()]
    assert len(chosen) == AXIAL and chosen == sorted(chosen)
    assert 100 <= chosen[0] < 120 and 180 < chosen[-1] < 200
    assert max(np.diff(chosen)) < 2 * 100 / AXIAL
    assert len(sink.labelled.kept) <= 2 * AXIAL and len(sink.every.kept) <= 2 * AXIAL
    coronal = sink.coronal[1]
    assert np.unique(coronal[richest(coronal, LABELS, axis=0)]).tolist() == [0, 1, 3]  # the one with the tumor


@pytest.mark.parametrize("seen", [1, 5, 14, 15, 29, 1000])
def test_any_number_of_slices_is_spread_evenly(seen):
    spread = _Spread()
    for z in range(seen):
        spread.add((z, np.zeros(1), np.zeros(1)))
    chosen = [z for z, _, _ in spread.chosen()]
    assert len(chosen) == min(seen, 7) == len(set(chosen))
    assert chosen[0] <= 1.2 * seen / 7 and chosen[-1] >= seen - 1 - 1.7 * seen / 7


def test_an_empty_answer_a_single_slice_and_an_mr_scan_are_drawn(tmp_path):
    image = np.random.default_rng(0).random((1, 8, 9)).astype(np.float32) * 1e6
    _, rgb = drawn_case(tmp_path, image, np.zeros(image.shape, dtype=np.uint8), is_ct=False)
    assert not green(rgb).any() and rgb.std() > 0.05


def test_a_scan_that_is_no_ct_looks_the_same_in_any_unit(tmp_path):
    image = np.random.default_rng(0).random((3, 8, 9)).astype(np.float32)
    labels = np.zeros(image.shape, dtype=np.uint8)
    shown = [drawn_case(tmp_path, image * np.float32(unit), labels, is_ct=False)[1] for unit in (1000, 1, 1e-3, 6e4)]
    for rgb in shown[1:]:
        np.testing.assert_allclose(rgb, shown[0], atol=0.01)


def test_a_long_scan_has_a_coronal_picture_of_bounded_height(tmp_path):
    image = np.zeros((1500, 8, 900), dtype=np.float32)
    labels = np.ones(image.shape, dtype=np.uint8)
    sink, _ = drawn_case(tmp_path, image, labels)
    assert sink.coronal[0].shape == (8, 500, 900) and sink.step == 3
    assert sink.coronal[1].all()
