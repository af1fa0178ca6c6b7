"""Random augmentation of training samples. The result depends only on the sample, the settings and a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ..planning.plan import Augmentation


@dataclass(frozen=True)
class SpatialTransform:
    """A rotation by `angle_rad` about the slice axis and a zoom to `zoom` times the size, both about the centre."""

    angle_rad: float
    zoom: float

    def reach(self, patch: Sequence[int]) -> tuple[int, ...]:
        """Margin of a patch, in voxels by axis: how far beyond each end lie voxels that move into it."""
        cos, sin = abs(math.cos(self.angle_rad)), abs(math.sin(self.angle_rad))
        *depth, height, width = halves = [(size - 1) / 2 for size in patch]
        taken = (*depth, cos * height + sin * width, sin * height + cos * width)
        return tuple(max(0, math.ceil(far / self.zoom - half)) for far, half in zip(taken, halves))


def transform_of(settings: Augmentation, seed: Sequence[int]) -> SpatialTransform | None:
    """The transform that `augment` gives the sample of `seed`; None where it gives none."""
    return _draw_transform(settings, _draws(seed))


def augment(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    settings: Augmentation,
    seed: Sequence[int],
    *,
    patch: Sequence[int] | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Augment one sample: its image and its group maps.

    image  float32 [C, *S] in [0, 1]
    maps   {group: uint8 [*S]}
    patch  size of the result; None is S. Where transform_of gives one, S may exceed the patch by up to its reach, which
           holds the voxels that move into the patch
    Nothing is ever mirrored: left and right stay what they are.
    """
    draw = _draws(seed)
    transform = _draw_transform(settings, draw)
    if transform is not None:
        image, maps = transformed(image, maps, transform, image.shape[1:] if patch is None else patch)
    return _change_intensity(image, settings, draw), dict(maps)


def _draws(seed: Sequence[int]) -> np.random.Generator:
    return np.random.default_rng([*seed, 1])


def _draw_transform(settings: Augmentation, draw: np.random.Generator) -> SpatialTransform | None:
    if not (settings.rotation_deg or settings.zoom) or draw.random() >= settings.probability:
        return None
    angle_rad = np.deg2rad(draw.uniform(-settings.rotation_deg, settings.rotation_deg))
    return SpatialTransform(float(angle_rad), 1 + draw.uniform(-settings.zoom, settings.zoom))


def _change_intensity(image: np.ndarray, settings: Augmentation, draw: np.random.Generator) -> np.ndarray:
    # imported here: it loads scikit-image and pandas, which takes a second that other commands need not wait
    from batchgenerators.augmentations.color_augmentations import augment_brightness_multiplicative, augment_gamma

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


def transformed(
    image: np.ndarray, maps: Mapping[str, np.ndarray], transform: SpatialTransform, patch: Sequence[int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The central `patch` of the transformed image and maps. Outside the image there is air (0) and background."""
    *_, height, width = image.shape
    y, x = _sources((height, width), patch[-2:], transform)
    planes = _bilinear(image.reshape(-1, height, width), y, x).reshape(*image.shape[:-2], *patch[-2:])
    if image.ndim == 4:  # a block, not a slice and its neighbours
        z = _about_centre(patch[0]) / np.float32(transform.zoom) + np.float32((image.shape[1] - 1) / 2)
        planes, maps = _between_slices(planes, z), {group: _nearest_slices(array, z) for group, array in maps.items()}
    index, inside = _nearest(y, x, height, width)
    return planes, {group: _taken(array, index, inside) for group, array in maps.items()}


def _sources(shape: tuple[int, int], size: Sequence[int], transform: SpatialTransform) -> tuple[np.ndarray, np.ndarray]:
    """(y, x), float32, in pixels: position in a slice of `shape` that each pixel of `size` comes from."""
    cos, sin = (np.float32(ratio(transform.angle_rad) / transform.zoom) for ratio in (np.cos, np.sin))
    down, right = _about_centre(size[0])[:, None], _about_centre(size[1])
    y = sin * right + (cos * down + np.float32((shape[0] - 1) / 2))
    x = cos * right + (np.float32((shape[1] - 1) / 2) - sin * down)
    return y, x


def _about_centre(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)


def _bilinear(planes: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Planes [N, Y, X] interpolated at the positions y, x; one plane at a time, so that it stays in the cache."""
    height, width = planes.shape[1:]
    # grid_sample's coordinates run from -1 to 1, from outer edge to outer edge
    places = np.stack([(2 * x + 1) / np.float32(width) - 1, (2 * y + 1) / np.float32(height) - 1], axis=-1)
    grid, result = torch.from_numpy(places)[None], np.empty((len(planes), *y.shape), dtype=planes.dtype)
    for source, target in zip(planes, result):
        data = torch.from_numpy(source)[None, None]
        target[:] = functional.grid_sample(data, grid, padding_mode="zeros", align_corners=False)[0, 0].numpy()
    return result


def _nearest(y: np.ndarray, x: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(flat index of the pixel nearest to each position, whether it is inside). grid_sample takes only floats."""
    row, column = np.rint(y).astype(np.int32), np.rint(x).astype(np.int32)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return np.where(inside, row * width + column, 0), inside


def _taken(group_map: np.ndarray, index: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The pixels `index` of each plane of a map [..., Y, X]; 0 where not `inside`."""
    taken = np.take(group_map.reshape(*group_map.shape[:-2], -1), index, axis=-1)
    return np.multiply(taken, inside, out=taken)


def _between_slices(image: np.ndarray, z: np.ndarray) -> np.ndarray:
    """An image [C, Z, Y, X] at the depths z, interpolated linearly between its slices; 0 beyond them."""
    below, slices = np.floor(z), image.shape[1]
    result = np.zeros((len(image), len(z), *image.shape[2:]), dtype=image.dtype)
    for depth, weight in ((below, below + 1 - z), (below + 1, z - below)):
        for target in np.flatnonzero((depth >= 0) & (depth < slices)):
            result[:, target] += weight[target] * image[:, int(depth[target])]
    return result


def _nearest_slices(group_map: np.ndarray, z: np.ndarray) -> np.ndarray:
    nearest, result = np.rint(z).astype(int), np.zeros((len(z), *group_map.shape[1:]), dtype=group_map.dtype)
    inside = (nearest >= 0) & (nearest < len(group_map))
    result[inside] = group_map[nearest[inside]]
    return result


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which batchgenerators uses, and restore it afterwards."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
