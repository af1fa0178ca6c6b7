"""One anatomy, stored in every way: what the network sees, and which organ is on which side, never changes.

Properties G02 (48 orientations), G05 (nothing mirrors sides) and G07 (shifted, padded, reversed).
"""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from flarenet.data.nifti import read_image
from flarenet.inference.many import predict_pairs
from flarenet.inference.outputs.outputs import output_names
from flarenet.planning.plan import Augmentation
from flarenet.preparation.prepare import prepare_image
from flarenet.training.augment import augment
from tests.geometry.worlds import ALL_48, FULL, LABELS, configuration, hounsfield, predictor, turned

SPACING_MM = (5.0, 2.0, 1.5)
PLANNED_MM = (None, 2.6, 2.6)
RIGHT, LEFT = LABELS.names.index("right kidney"), LABELS.names.index("left kidney")


@pytest.fixture(scope="module")
def anatomy() -> nibabel.Nifti1Image:
    """Labels of a trunk in RAS+ [i, j, k] = (to the right, to the front, to the head): the liver to the right and in
    front, two kidneys behind, a tumour in the left one.
    """
    i, j, k = np.indices((40, 28, 14))
    drawn = np.zeros(i.shape, dtype=np.uint8)
    for value, centre, radii in (
        (1, (28, 17, 9), (9, 8, 4)),
        (2, (29, 7, 5), (4, 4, 3)),
        (3, (10, 7, 6), (4, 4, 3)),
        (4, (10, 8, 7), (2, 2, 1)),
    ):
        inside = sum(((axis - c) / r) ** 2 for axis, c, r in zip((i, j, k), centre, radii)) <= 1
        drawn[inside] = value
    image = nibabel.Nifti1Image(drawn, np.diag([*SPACING_MM[::-1], 1.0]))
    image.affine[:3, 3] = (-31, -20, 400)
    return image


def scan_of(image, path):
    """The CT file of an image of labels."""
    nibabel.save(nibabel.Nifti1Image(hounsfield(np.asarray(image.dataobj)), image.affine), path)
    return path


def answer(scan, out):
    """The labels that prediction, with resampling, writes for `scan`, in RAS+."""
    done, failures = predict_pairs(predictor(PLANNED_MM), output_names([scan], out), progress=lambda *_: None)
    assert failures == []
    return nibabel.as_closest_canonical(nibabel.load(done[0]))


def middle_mm(image, value):
    """Where half the voxels of a label lie on either side: interpolated edges of other labels do not move it."""
    return nibabel.affines.apply_affine(
        image.affine, np.median(np.argwhere(np.asarray(image.dataobj) == value), axis=0)
    )


@pytest.fixture
def upright(anatomy, tmp_path):
    """The scan as it is, and its answer."""
    scan = scan_of(anatomy, tmp_path / "upright_0000.nii.gz")
    return scan, answer(scan, tmp_path / "upright")


def test_48_orientations_are_one_input_one_answer_and_left_stays_left(anatomy, upright, tmp_path):
    assert len(ALL_48) == 48
    scan, expected = upright
    seen = prepare_image(read_image(scan), configuration(PLANNED_MM)).image
    assert 1 < len(np.unique(seen)) and set(np.unique(np.asarray(expected.dataobj))) == {0, 1, 2, 3, 4}
    for orientation in ALL_48:
        other = scan_of(turned(anatomy, orientation), tmp_path / "turned_0000.nii.gz")
        np.testing.assert_array_equal(prepare_image(read_image(other), configuration(PLANNED_MM)).image, seen)
        found = answer(other, tmp_path / "turned")
        np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
        np.testing.assert_allclose(found.affine, expected.affine, atol=1e-3)
        assert middle_mm(found, LEFT)[0] < -5 < 5 < middle_mm(found, RIGHT)[0]  # RAS+: right is positive


def test_a_scan_a_metre_away_has_the_same_labels(anatomy, upright, tmp_path):
    affine = anatomy.affine.copy()
    affine[:3, 3] += (1000, -1000, 1000)
    found = answer(
        scan_of(nibabel.Nifti1Image(np.asarray(anatomy.dataobj), affine), tmp_path / "far_0000.nii.gz"), tmp_path
    )
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(upright[1].dataobj))


def test_air_around_a_scan_changes_nothing_inside_it(anatomy, upright, tmp_path):
    before, after = np.array([3, 5, 2]), np.array([7, 1, 4])
    padded = np.pad(np.asarray(anatomy.dataobj), [*zip(before, after)])
    affine = anatomy.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ before
    found = answer(scan_of(nibabel.Nifti1Image(padded, affine), tmp_path / "padded_0000.nii.gz"), tmp_path)
    expected = np.pad(np.asarray(upright[1].dataobj), [*zip(before, after)])
    np.testing.assert_array_equal(np.asarray(found.dataobj), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_in_reverse_order_have_the_same_labels_in_the_world(anatomy, upright, tmp_path, axis):
    affine = anatomy.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (anatomy.shape[axis] - 1)
    affine[:3, axis] *= -1
    reversed_slices = nibabel.Nifti1Image(np.flip(np.asarray(anatomy.dataobj), axis), affine)
    found = answer(scan_of(reversed_slices, tmp_path / "reversed_0000.nii.gz"), tmp_path)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(upright[1].dataobj))


class LeftHalf(nn.Module):
    """Whatever it sees, the low half of a window (the patient's left) is left kidney and the other the right one."""

    def forward(self, windows):
        logits = torch.zeros(windows.shape[0], 4, *windows.shape[2:])
        half = windows.shape[-1] // 2
        logits[:, LEFT, :, :half] = 1
        logits[:, RIGHT, :, half:] = 1
        return {"organ": logits, "cancer": torch.zeros_like(logits[:, :2])}


def test_prediction_never_lets_the_network_see_a_mirrored_scan(tmp_path):
    """Averaged over a mirrored look, the two halves would be a draw."""
    body = np.full((64, 64, 3), 1, dtype=np.uint8)
    body[32, 32] = 2  # a constant image is refused
    scan = scan_of(nibabel.Nifti1Image(body, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "scan_0000.nii.gz")
    outputs = output_names([scan], tmp_path)
    done, failures = predict_pairs(predictor((2.0, 2.0, 2.0), LeftHalf()), outputs, progress=lambda *_: None)
    assert failures == []
    found = np.asarray(nibabel.load(done[0]).dataobj)
    assert (found[:32] == LEFT).all() and (found[32:] == RIGHT).all()


@pytest.mark.parametrize("shape", [(48, 40), (6, 48, 40)])
def test_augmentation_never_exchanges_sides(shape):
    """Three markers, a right angle: mirrored, the angle would turn the other way; exchanged, a label would be of
    another brightness.
    """
    image, drawn = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.uint8)
    for value, (y, x) in {1: (20, 15), 2: (20, 27), 3: (32, 15)}.items():
        image[..., y : y + 4, x : x + 4], drawn[..., y : y + 4, x : x + 4] = value / 4, value
    strongest = Augmentation(probability=1, rotation_deg=40, zoom=0.3, gamma=0, scale=0, shift=0, noise_sd=0)
    for seed in range(2000 if FULL else 100):
        seen, maps = augment(image[None], {"organ": drawn}, strongest, (seed,))
        corner, right, below = (np.argwhere(maps["organ"] == value)[:, -2:].mean(axis=0) for value in (1, 2, 3))
        (a, b), (c, d) = right - corner, below - corner
        assert c * b - a * d > 0
        for value in (1, 2, 3):
            assert abs(seen[0][maps["organ"] == value].max() - value / 4) < 0.12
