"""Random changes of samples: none where none is asked for, the same for the same seed, labels on the image."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from flarenet.planning.plan import Augmentation
from flarenet.training.augment import SpatialTransform, augment, transform_of, transformed

STILL = {"noise_sd": 0.0, "scale": 0.0, "shift": 0.0}


def square(shape, channels=1):
    """An image that is 1 in a block off the centre, and the map of it."""
    image = np.zeros((channels, *shape), dtype=np.float32)
    image[..., 8:20, 26:36] = 1
    return image, {"organ": (image[0] > 0).astype(np.uint8)}


@pytest.mark.parametrize("shape", [(48, 40), (6, 48, 40)])
def test_probability_zero_changes_nothing(shape):
    image, maps = square(shape)
    settings = Augmentation(probability=0.0, rotation_deg=30, zoom=0.3, gamma=0.3)
    changed, labels = augment(image, maps, settings, [1, 2, 3])
    assert changed.dtype == np.float32
    np.testing.assert_array_equal(changed, image)
    np.testing.assert_array_equal(labels["organ"], maps["organ"])


@pytest.mark.parametrize("shape", [(48, 40), (6, 48, 40)])
@pytest.mark.parametrize("seed", range(4))
def test_the_label_turns_with_the_image(shape, seed):
    image, maps = square(shape)
    settings = Augmentation(probability=1.0, rotation_deg=20, zoom=0.1, **STILL)
    moved, labels = augment(image, maps, settings, [seed])
    bright, label = moved[0] > 0.5, labels["organ"] > 0
    assert (bright != maps["organ"].astype(bool)).mean() > 0.005, "nothing turned"
    overlap = 2 * (bright & label).sum() / (bright.sum() + label.sum())
    assert overlap > 0.95
    assert set(np.unique(labels["organ"])) <= {0, 1} and labels["organ"].dtype == np.uint8


@pytest.mark.parametrize("seed", range(3))
def test_a_rotation_is_rigid_on_oblong_slices(seed):
    """Rotation alone keeps areas; a shear from the unequal sides would not keep the principal widths."""
    image = np.zeros((64, 32), dtype=np.float32)
    image[28:36, 12:20] = 1
    settings = Augmentation(probability=1.0, rotation_deg=45, **STILL)
    _, labels = augment(image[None], {"organ": image.astype(np.uint8)}, settings, [seed])
    places = np.argwhere(labels["organ"])
    widths = np.linalg.eigvalsh(np.cov(places.T))
    assert len(places) == pytest.approx(64, abs=8)
    assert widths[1] / widths[0] < 1.3


def test_air_and_background_come_in_from_outside():
    image = np.ones((32, 32), dtype=np.float32)
    settings = Augmentation(probability=1.0, rotation_deg=45, **STILL)
    samples = [augment(image[None], {"organ": image.astype(np.uint8)}, settings, [seed]) for seed in range(6)]
    assert min(moved[0, 0, 0] for moved, _ in samples) == 0
    assert min(labels["organ"][0, 0] for _, labels in samples) == 0
    assert all(moved[0, 16, 16] == pytest.approx(1) and labels["organ"][16, 16] == 1 for moved, labels in samples)


@pytest.mark.parametrize(
    ("transform", "patch", "reach"),
    [
        (SpatialTransform(0.0, 0.5), (9, 21, 41), (4, 10, 20)),  # half the size: as much again comes in on either side
        (SpatialTransform(0.0, 2.0), (9, 21, 41), (0, 0, 0)),
        # on its side: 20 pixels each way where 10 were, 10 where 20 were
        (SpatialTransform(np.pi / 2, 1.0), (21, 41), (10, 0)),
        (SpatialTransform(-np.pi / 4, 1.0), (21, 21), (5, 5)),  # a diagonal of 10 * 1.414
    ],
)
def test_what_comes_into_a_transformed_patch_is_as_far_as_its_corners(transform, patch, reach):
    assert transform.reach(patch) == reach


def test_a_transformed_patch_is_the_middle_of_a_larger_transformed_one():
    draw = np.random.default_rng(0)
    image, label = draw.random((1, 20, 60, 60), dtype=np.float32), draw.integers(0, 5, (20, 60, 60), dtype=np.uint8)
    settings, patch = Augmentation(probability=1.0, rotation_deg=40, zoom=0.3, **STILL), (6, 16, 12)
    for seed in range(3):
        wide, labels = augment(image, {"organ": label}, settings, [seed])
        middle = tuple(slice((n - size) // 2, (n + size) // 2) for n, size in zip(label.shape, patch))
        reach = transform_of(settings, [seed]).reach(patch)
        around = tuple(slice(axis.start - more, axis.stop + more) for axis, more in zip(middle, reach))
        moved, kept = augment(image[(0, *around)][None], {"organ": label[around]}, settings, [seed], patch=patch)
        np.testing.assert_allclose(moved[0], wide[(0, *middle)], atol=1e-4)
        assert (kept["organ"] != labels["organ"][middle]).mean() < 1e-2  # where two are equally near


def test_each_change_of_intensity_changes_the_image_and_no_label():
    image = np.full((3, 16, 16), 0.5, dtype=np.float32)
    image[:, :4] = 0.2
    maps = {"organ": (image[0] > 0.3).astype(np.uint8)}
    for change in ({"noise_sd": 0.05}, {"scale": 0.1}, {"shift": 0.1}, {"gamma": 0.3}):
        changed, labels = augment(image, maps, Augmentation(probability=1.0, **{**STILL, **change}), [7])
        assert not np.array_equal(changed, image), change
        assert np.abs(changed - image).max() < 0.4, change
        assert changed.dtype == np.float32 and changed.shape == image.shape
        np.testing.assert_array_equal(labels["organ"], maps["organ"])


def grey(shape=(2, 2)):
    return np.full((1, *shape), 0.5, dtype=np.float32)


def test_noise_has_the_standard_deviation_that_is_asked_for():
    settings = Augmentation(probability=1.0, **{**STILL, "noise_sd": 0.05})
    noise = augment(grey((64, 64, 64)), {}, settings, [1])[0] - 0.5
    assert noise.std() == pytest.approx(0.05, rel=0.02) and noise.mean() == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("change", ["scale", "shift"])
def test_scale_and_shift_are_drawn_from_their_whole_range_and_no_farther(change):
    """0.5 times 0.9 to 1.1, or plus -0.1 to 0.1: in 200 draws the outer tenths of the range are met on either side."""
    settings, far = Augmentation(probability=1.0, **{**STILL, change: 0.1}), 0.05 if change == "scale" else 0.1
    drawn = np.array([augment(grey(), {}, settings, [seed])[0] - 0.5 for seed in range(200)])
    assert (np.ptp(drawn.reshape(200, -1), axis=1) < 1e-6).all()  # one number for a sample
    assert -far - 1e-6 <= drawn.min() < -0.8 * far and 0.8 * far < drawn.max() <= far + 1e-6


def test_as_many_samples_are_changed_as_the_probability_says():
    settings = Augmentation(probability=0.5, **{**STILL, "shift": 0.1})
    changed = sum(not np.array_equal(augment(grey(), {}, settings, [seed])[0], grey()) for seed in range(400))
    assert 160 <= changed <= 240  # 200, and four standard deviations of 10 on either side


def test_the_same_seed_gives_the_same_sample_and_another_does_not():
    image, maps = square((48, 40))
    settings = Augmentation(probability=1.0, rotation_deg=20, zoom=0.1, gamma=0.2)
    first, again, other = (augment(image, maps, settings, seed)[0] for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_input_and_numpys_global_generator_stay_as_they_were():
    image, maps = square((48, 40))
    kept = image.copy()
    np.random.seed(11)
    wanted = np.random.random(3)
    np.random.seed(11)
    augment(image, maps, Augmentation(probability=1.0, rotation_deg=20, gamma=0.2), [1])
    np.testing.assert_array_equal(np.random.random(3), wanted)
    np.testing.assert_array_equal(image, kept)


def test_a_slice_and_its_neighbours_change_together():
    image, maps = square((48, 40), channels=3)
    settings = Augmentation(probability=1.0, rotation_deg=20, zoom=0.1, gamma=0.3, scale=0.2, shift=0.1, noise_sd=0.0)
    changed, _ = augment(image, maps, settings, [5])
    assert not np.array_equal(changed[0], image[0])
    np.testing.assert_allclose(changed[1:], changed[:2], atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 40, 32), (1, 9, 40, 32)])
def test_a_spatial_transform_is_the_affine_map_it_says(shape):
    """Against torch's general resampling by an affine matrix, which works in coordinates from -1 to 1."""
    draw = np.random.default_rng(0)
    image, label = draw.random(shape, dtype=np.float32), draw.integers(0, 5, shape[1:], dtype=np.uint8)
    angle, zoom, (height, width) = 0.4, 0.85, shape[-2:]
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    theta = np.zeros((len(shape) - 1, len(shape)))
    theta[:2, :2] = [[cos, -sin * height / width], [sin * width / height, cos]]
    if len(shape) == 4:
        theta[2, 2] = 1 / zoom
    grid = functional.affine_grid(torch.from_numpy(theta)[None].float(), [1, *shape], align_corners=False)

    def sampled(array, mode):
        data = torch.from_numpy(array.astype(np.float32))[None]
        return functional.grid_sample(data, grid, mode=mode, align_corners=False)[0].numpy()

    found, labels = transformed(image, {"organ": label}, SpatialTransform(angle, zoom), shape[1:])
    np.testing.assert_allclose(found, sampled(image, "bilinear"), atol=1e-4)
    assert (labels["organ"] != sampled(label[None], "nearest")[0]).mean() < 1e-3  # where two are equally near
