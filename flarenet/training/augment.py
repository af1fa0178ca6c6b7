"""Random changes of training samples. What happens to a sample follows from its own seed alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from batchgenerators.augmentations.color_augmentations import augment_brightness_multiplicative, augment_gamma
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
    sample, chance = image.copy(), settings.probability  # batchgenerators writes into what it is given
    with _numpy_seed(int(draw.integers(2**32))):
        if settings.gamma and draw.random() < chance:
            sample = augment_gamma(sample, (1 - settings.gamma, 1 + settings.gamma), retain_stats=False)
        if settings.scale and draw.random() < chance:
            factors = (1 - settings.scale, 1 + settings.scale)
            sample = augment_brightness_multiplicative(sample, factors, per_channel=False)
    if settings.shift and draw.random() < chance:
        sample += np.float32(draw.uniform(-settings.shift, settings.shift))
    if settings.noise_sd and draw.random() < chance:
        source = torch.Generator().manual_seed(int(draw.integers(2**63)))
        sample += torch.randn(sample.shape, generator=source).mul_(settings.noise_sd).numpy()
    return sample


def _turn(
    image: np.ndarray, maps: Mapping[str, np.ndarray], angle: float, zoom: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rotate about the slice axis and zoom, about the centre. What comes in from outside is air, not labelled."""
    *_, height, width = image.shape
    y, x = _sources(height, width, angle, zoom)
    planes = _bilinear(image.reshape(-1, height, width), y, x).reshape(image.shape)
    index, inside = _nearest(y, x)
    turned = {group: _taken(array, index, inside) for group, array in maps.items()}
    if image.ndim == 3:  # a slice and its neighbours
        return planes, turned
    z = _about_centre(image.shape[1]) / np.float32(zoom) + np.float32((image.shape[1] - 1) / 2)
    return _between_slices(planes, z), {group: _nearest_slices(array, z) for group, array in turned.items()}


def _sources(height: int, width: int, angle: float, zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of a turned slice comes from: y and x as float32 [Y, X], in pixels."""
    cos, sin = np.float32(np.cos(angle) / zoom), np.float32(np.sin(angle) / zoom)
    down, right = _about_centre(height)[:, None], _about_centre(width)
    y = sin * right + (cos * down + np.float32((height - 1) / 2))
    x = cos * right + (np.float32((width - 1) / 2) - sin * down)
    return y, x


def _about_centre(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)


def _bilinear(planes: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Planes [N, Y, X] at the places y, x; one after the other, which keeps each in the cache."""
    height, width = planes.shape[1:]
    # grid_sample counts from -1 to 1 between the outer edges
    places = np.stack([(2 * x + 1) / np.float32(width) - 1, (2 * y + 1) / np.float32(height) - 1], axis=-1)
    grid, result = torch.from_numpy(places)[None], np.empty_like(planes)
    for source, target in zip(planes, result):
        data = torch.from_numpy(source)[None, None]
        target[:] = functional.grid_sample(data, grid, padding_mode="zeros", align_corners=False)[0, 0].numpy()
    return result


def _nearest(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the index of the pixel nearest to each place, whether there is one); by index, as torch samples only floats."""
    height, width = y.shape
    row, column = np.rint(y).astype(np.int32), np.rint(x).astype(np.int32)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return np.where(inside, row * width + column, 0), inside


def _taken(group_map: np.ndarray, index: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The pixels `index` of each plane of a map [..., Y, X], 0 where none is `inside`."""
    taken = np.take(group_map.reshape(*group_map.shape[:-2], -1), index, axis=-1)
    return np.multiply(taken, inside, out=taken)


def _between_slices(image: np.ndarray, z: np.ndarray) -> np.ndarray:
    """An image [C, Z, Y, X] at the depths z, by lines between its slices."""
    below = np.floor(z)
    result = np.zeros_like(image)
    for depth, weight in ((below, below + 1 - z), (below + 1, z - below)):
        for target in np.flatnonzero((depth >= 0) & (depth < len(z))):
            result[:, target] += weight[target] * image[:, int(depth[target])]
    return result


def _nearest_slices(group_map: np.ndarray, z: np.ndarray) -> np.ndarray:
    nearest, result = np.rint(z).astype(int), np.zeros_like(group_map)
    inside = (nearest >= 0) & (nearest < len(z))
    result[inside] = group_map[nearest[inside]]
    return result


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """batchgenerators draws from numpy's global generator: seed it here, and leave it as it was."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
