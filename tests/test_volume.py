"""Grids: numbers by hand, all 48 orientations, and inverses that are inverses."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarenet.volume import Box, Grid, Orientation, Volume, box_where, canonical, crop, orientation_of

SHAPE = (3, 4, 5)
DATA = np.arange(60).reshape(SHAPE)
ORIENTATIONS = [
    Orientation(axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]
# z up, y to the front, x to the right: [z, y, x] -> (x, y, z) mm
RAS = np.array([[0, 0, 0.8, -10], [0, 1.5, 0, -20], [5, 0, 0, -30], [0, 0, 0, 1.0]])
SPACING_MM = (5.0, 1.5, 0.8)


def boxes():
    sides = [st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True).map(sorted) for n in SHAPE]
    return st.tuples(*sides).map(lambda pairs: Box(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)))


def place_mm(grid, *index):
    return (grid.affine @ [*index, 1])[:3]


def test_spacing_is_the_length_of_the_columns():
    assert Grid(SHAPE, RAS).spacing_mm == SPACING_MM
    oblique = np.diag([1.0, 1, 1, 1])
    oblique[:3, 0] = (3, 4, 0)
    assert Grid(SHAPE, oblique).spacing_mm[0] == 5.0


def test_a_voxel_is_as_large_as_the_space_between_its_steps():
    assert Grid(SHAPE, RAS).voxel_mm3 == 5 * 1.5 * 0.8
    leaning = RAS.copy()
    leaning[1, 0] = 2.0
    mirrored = leaning * [[-1], [1], [1], [1]]
    assert Grid(SHAPE, leaning).voxel_mm3 == Grid(SHAPE, mirrored).voxel_mm3 == pytest.approx(6)


def test_a_grid_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        Grid(SHAPE, RAS).affine[0, 0] = 1


def test_data_must_fill_its_grid():
    with pytest.raises(ValueError, match="does not fill"):
        Volume(np.zeros((3, 4, 4)), Grid(SHAPE, RAS))


def test_distance_of_grids_is_that_of_the_worst_corner():
    grid = Grid(SHAPE, RAS)
    shifted, stretched = RAS.copy(), RAS.copy()
    shifted[:3, 3] += (3, 0, 4)
    stretched[0, 2] += 0.01
    assert grid.largest_distance_mm(Grid(SHAPE, shifted)) == pytest.approx(5)
    assert grid.largest_distance_mm(Grid(SHAPE, stretched)) == pytest.approx(0.04)  # 4 steps to the last voxel
    assert grid.is_near(Grid(SHAPE, stretched))
    assert not grid.is_near(Grid(SHAPE, stretched), 0.03)
    assert not grid.is_near(Grid((3, 4, 6), RAS))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_every_orientation_comes_to_canonical_and_back(orientation):
    """Turn a canonical array away by undo; canonical must find the way back, voxel by voxel and in the world."""
    turned = orientation.undo(DATA)
    axes, flips = orientation.axes, orientation.flips
    affine = np.eye(4)
    affine[:3, 3] = RAS[:3, 3]
    for canonical_axis, axis in enumerate(axes):
        step = RAS[:3, canonical_axis]
        affine[:3, axis] = -step if flips[canonical_axis] else step
        affine[:3, 3] += step * (SHAPE[canonical_axis] - 1) if flips[canonical_axis] else 0
    volume, found = canonical(Volume(turned, Grid(turned.shape, affine)))
    assert found == orientation
    np.testing.assert_array_equal(volume.data, DATA)
    np.testing.assert_allclose(volume.grid.affine, RAS, atol=1e-12)
    assert np.shares_memory(volume.data, DATA)
    np.testing.assert_array_equal(found.undo(found.apply(turned)), turned)


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_canonical_is_what_nibabel_calls_closest_canonical(axes, signs):
    """nibabel's arrays are [i, j, k] = ours transposed; slightly oblique, so that 'nearest' means something."""
    c, s = np.cos(0.2), np.sin(0.2)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3)[list(axes)] * signs) @ np.diag([0.8, 1.5, 5])
    affine[:3, 3] = (3, -7, 11)
    reference = nibabel.as_closest_canonical(nibabel.Nifti1Image(DATA.T.astype(np.int16), affine))
    volume, _ = canonical(Volume(DATA, Grid(SHAPE, affine[:, [2, 1, 0, 3]])))
    np.testing.assert_array_equal(volume.data, np.asarray(reference.dataobj).T)
    np.testing.assert_allclose(volume.grid.affine[:, [2, 1, 0, 3]], reference.affine, atol=1e-12)


def test_oblique_by_more_than_45_degrees_goes_to_the_nearest_axes():
    c, s = np.cos(np.radians(60)), np.sin(np.radians(60))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (0, 0, 1), (-s, c, 0), (c, s, 0)
    assert orientation_of(Grid(SHAPE, affine)) == Orientation((0, 2, 1), (False, False, True))


def test_box_of_a_mask_by_hand():
    mask = np.zeros(SHAPE, bool)
    assert box_where(mask) is None
    mask[1, 2, 3] = mask[2, 2, 4] = True
    assert box_where(mask) == Box((1, 2, 3), (3, 3, 5))
    assert Box((1, 2, 3), (3, 3, 5)).shape == (2, 1, 2)


@given(boxes())
def test_a_crop_is_what_the_box_holds_at_its_place(box):
    part = crop(Volume(DATA, Grid(SHAPE, RAS)), box)
    assert part.grid.shape == box.shape
    np.testing.assert_array_equal(part.data, DATA[box.slices])
    inside = np.zeros(SHAPE, bool)
    inside[box.slices] = True
    assert box_where(inside) == box
    np.testing.assert_allclose(place_mm(part.grid, 0, 0, 0), place_mm(Grid(SHAPE, RAS), *box.start))


def test_resampled_keeps_the_outer_edges_by_hand():
    """x: 5 voxels of 0.8 mm, centres from -10, so edges at -10.4 and -6.4. Ten voxels: 0.4 mm, first centre -10.2."""
    finer = Grid(SHAPE, RAS).resampled((3, 2, 10))
    assert finer.spacing_mm == pytest.approx((5.0, 3.0, 0.4))
    np.testing.assert_allclose(place_mm(finer, 0, 0, 0), (-10.2, -19.25, -30))


@given(st.tuples(*[st.integers(1, 40)] * 3))
def test_resampled_keeps_all_eight_corners(shape):
    grid = Grid(SHAPE, RAS)
    other = grid.resampled(shape)
    for corner in itertools.product((0, 1), repeat=3):
        edges = (
            [[-0.5, n - 0.5][side] for n, side in zip(SHAPE, corner)],
            [[-0.5, n - 0.5][side] for n, side in zip(shape, corner)],
        )
        np.testing.assert_allclose(place_mm(grid, *edges[0]), place_mm(other, *edges[1]), atol=1e-9)
    np.testing.assert_allclose(other.resampled(SHAPE).affine, grid.affine, atol=1e-9)
