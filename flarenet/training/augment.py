"""Random changes of training samples. What happens to a sample follows from its own seed alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from batchgenerators.augmentations.color_augmentations import augment_brightness_multiplicative, augment_gamma
from batchgenerators.augmentations.noise_augmentations import augment_gaussian_noise
from torch import Tensor
from torch.nn import functional

from ..planning.plan import Augmentation


def augment(
    image: np.ndarray, maps: Mapping[str, np.ndarray], settings: Augmentation, seed: Sequence[int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One sample: `image` float32 [C, *S] in [0, 1] and its group maps uint8 [*S], changed as `settings` say.

    Labels are never mirrored or exchanged: left and right stay what they are.
    """
    draw = np.random.default_rng([*seed, 1])
    if (settings.rotation_deg or settings.zoom) and draw.random() < settings.probability:
        angle = np.deg2rad(draw.uniform(-settings.rotation_deg, settings.rotation_deg))
        zoom = 1 + draw.uniform(-settings.zoom, settings.zoom)
        image, maps = _turn(image, maps, angle, zoom)
    return _change_intensity(image, settings, draw), dict(maps)


def _change_intensity(image: np.ndarray, settings: Augmentation, draw: np.random.Generator) -> np.ndarray:
    sample = image.copy()  # batchgenerators writes into what it is given
    with _numpy_seed(int(draw.integers(2**32))):
        if settings.gamma and draw.random() < settings.probability:
            sample = augment_gamma(sample, (1 - settings.gamma, 1 + settings.gamma), retain_stats=False)
        if settings.scale and draw.random() < settings.probability:
            factors = (1 - settings.scale, 1 + settings.scale)
            sample = augment_brightness_multiplicative(sample, factors, per_channel=False)
        if settings.shift and draw.random() < settings.probability:
            sample = sample + np.float32(draw.uniform(-settings.shift, settings.shift))
        if settings.noise_sd and draw.random() < settings.probability:
            sample = augment_gaussian_noise(sample, (settings.noise_sd, settings.noise_sd))
    return np.ascontiguousarray(sample, dtype=np.float32)


def _turn(
    image: np.ndarray, maps: Mapping[str, np.ndarray], angle: float, zoom: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rotate about the slice axis and zoom, about the centre. What comes in from outside is air, not labelled."""
    height, width = image.shape[-2:]
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    # affine_grid works in [-1, 1] per axis: the ratio of the sides keeps the rotation rigid in voxels
    inner = np.array([[cos, -sin * height / width], [sin * width / height, cos]])
    if image.ndim == 3:  # channels of a slice
        theta = np.concatenate([inner, np.zeros((2, 1))], axis=1)
    else:
        theta = np.zeros((3, 4))
        theta[:2, :2], theta[2, 2] = inner, 1 / zoom
    grid = functional.affine_grid(torch.from_numpy(theta[None]).float(), [1, *image.shape], align_corners=False)
    turned = {name: _sample(array[None], grid, "nearest")[0].astype(np.uint8) for name, array in maps.items()}
    return _sample(image, grid, "bilinear"), turned


def _sample(array: np.ndarray, grid: Tensor, mode: str) -> np.ndarray:
    data = torch.from_numpy(array.astype(np.float32))[None]
    return functional.grid_sample(data, grid, mode=mode, padding_mode="zeros", align_corners=False)[0].numpy()


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """batchgenerators draws from numpy's global generator: seed it here, and leave it as it was."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
