"""To the prepared grid and back (property G03): a structure keeps its size and its place, no label is made or lost."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from flarenet.data.labels import LabelSet
from flarenet.preparation.prepare import prepare_image, prepare_map
from flarenet.volume import Volume
from tests.geometry.worlds import (
    LABELS,
    configuration,
    examples,
    grid_of,
    hounsfield,
    label_maps,
    own_spacing_mm,
    placements,
)
from tests.inference.test_stream import draw

ANISOTROPY = st.tuples(*[st.floats(2, 10)] * 3)
"""How much finer than the scan the prepared grid is, per axis."""


ALL = LabelSet(names=LABELS.names, groups={"all": tuple(range(1, len(LABELS.names)))})


def frame_of(affine, drawn, finer):
    """The frame of a scan [i, j, k] that shows `drawn`, prepared on a grid `finer` times as fine (z, y, x)."""
    grid = grid_of(affine, drawn.shape)
    planned = configuration(tuple(mm / times for mm, times in zip(own_spacing_mm(grid), finer)), patch=(8, 8, 8))
    return prepare_image(Volume(hounsfield(drawn).T, grid), planned).frame


def one_hot(label_map):
    return torch.from_numpy(np.stack([label_map == value for value in range(len(LABELS.names))])).float()


@given(affine=placements(), drawn=label_maps(most=6), finer=ANISOTROPY, kept=st.tuples(*[st.booleans()] * 3))
@examples(fast=100, full=3_000)
def test_what_was_drawn_comes_back_voxel_by_voxel_from_a_finer_grid(affine, drawn, finer, kept):
    """Every axis is kept, or at least twice as fine: both prepared voxels beside an old centre lie in the old voxel."""
    drawn[0, 0, 0] = 1  # something to see
    frame = frame_of(affine, drawn, [1 if keep else times for keep, times in zip(kept, finer)])
    there = prepare_map(drawn.T, frame)
    assert set(np.unique(there)) | {0} == set(np.unique(drawn)) | {0}
    back = draw([(0, {"all": one_hot(there)})], frame, labels=ALL)
    np.testing.assert_array_equal(back, drawn.T)


RADII = st.tuples(*[st.floats(6, 9)] * 3)
ASIDE = st.tuples(*[st.floats(-0.5, 0.5)] * 3)


@given(finer=st.tuples(*[st.one_of(st.just(1.0), st.floats(1, 3))] * 3), radii=RADII, aside=ASIDE)
@examples(fast=40, full=1_000)
def test_a_smooth_structure_keeps_size_and_place_through_a_finer_grid(finer, radii, aside):
    there_and_back(finer, radii, aside, least_dice=0.98)


@given(finer=st.tuples(*[st.floats(0.5, 1)] * 3), radii=RADII, aside=ASIDE)
@examples(fast=40, full=1_000)
def test_through_a_coarser_grid_it_keeps_its_place_and_loses_little(finer, radii, aside):
    """Linear interpolation between two centres cuts the curve, so what is lost is the skin."""
    there_and_back(finer, radii, aside, least_dice=0.95)


def there_and_back(finer, radii, aside, *, least_dice):
    """An ellipsoid with semiaxes of `radii` voxels of the coarser of both grids, through a grid `finer` times as fine.

    The network is ideal: it answers how deep inside the ellipsoid each prepared voxel lies in the world.
    """
    radii = np.array(radii) * np.maximum(1, 1 / np.array(finer))
    shape = tuple(int(n) for n in np.ceil(2 * radii + 4))
    centre = (np.array(shape) - 1) / 2 + aside
    grid = grid_of(np.eye(4), shape[::-1])
    planned = configuration(tuple(1 / times for times in finer), patch=(8, 8, 8))
    frame = prepare_image(Volume(np.full(shape, 100, dtype=np.int16), grid), planned).frame

    def depth(places):
        return 1 - np.sqrt(sum(((place - c) / r) ** 2 for place, c, r in zip(places, centre, radii)))

    to_voxels = np.linalg.inv(grid.affine) @ frame.grid.affine
    places = np.einsum("ab,b...->a...", to_voxels, [*np.indices(frame.grid.shape), np.ones(frame.grid.shape)])[:3]
    inside = torch.from_numpy(depth(places)).float()
    found = draw([(0, {"all": torch.stack([-inside, inside])})], frame, labels=ALL) > 0
    true = depth(np.indices(shape)) > 0
    middle = np.argwhere(true).mean(axis=0)
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) >= least_dice
    assert np.abs(np.argwhere(found).mean(axis=0) - middle).max() <= 0.5
    # and the drawn map on its way there, where the nearest centre can be half a voxel away on one side throughout
    there = prepare_map(true.astype(np.uint8), frame) > 0
    assert np.abs(places[:, there].mean(axis=1) - middle).max() <= 0.7
