"""Leaning axes: the anatomy lies where it lies in the world, before, between and after."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from flarenet.data.dataset import Case, Dataset
from flarenet.data.labels import LabelSet
from flarenet.data.store import Store
from flarenet.planning.measuring.fingerprint import fingerprint
from flarenet.planning.plan import Configuration
from flarenet.preparation.dataset import PROCESS_MB, Work, need_mb, prepare_case
from flarenet.preparation.upright import on_grid, slices_on_grid, upright
from flarenet.volume import Grid, Volume, upright_grid
from flarenet.workspace import Workspace

SHAPE = (12, 20, 24)


def leaning(tangent, spacing_mm=(5.0, 1.0, 1.0)):
    """Slices along z, each pushed along y by `tangent` times its height, as a gantry tilted about x pushes them."""
    z_mm, y_mm, x_mm = spacing_mm
    affine = np.array([[0, 0, x_mm, -30], [tangent * z_mm, y_mm, 0, 8], [z_mm, 0, 0, 100], [0, 0, 0, 1]])
    return Grid(SHAPE, affine)


def ball(grid, middle_mm, radius_mm=7.0):
    """A ball, drawn at the world position of each voxel."""
    index = np.stack([*np.indices(grid.shape), np.ones(grid.shape)]).reshape(4, -1)
    return (np.linalg.norm((grid.affine @ index)[:3] - middle_mm[:3, None], axis=0) < radius_mm).reshape(grid.shape)


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_an_upright_scan_is_left_alone():
    volume = Volume(np.zeros(SHAPE, np.int16), leaning(0.0009))
    assert upright(volume) is volume and upright_grid(volume.grid) is volume.grid


def test_slices_are_pushed_back_within_their_planes():
    grid = upright_grid(leaning(0.3))
    np.testing.assert_allclose(grid.affine[:3, :3], [[0, 0, 1], [0, 1, 0], [5, 0, 0]], atol=1e-12)
    assert grid.spacing_mm == (5, 1, 1)
    # the last slice is 11 x 5 mm x 0.3 = 16.5 mm further along y: 17 more rows; every slice stays in its plane
    assert grid.shape == (12, 20 + 17, 24)
    np.testing.assert_allclose(grid.affine[:3, 3], [-30, 8, 100])


def test_a_slant_the_other_way_begins_earlier():
    grid = upright_grid(leaning(-0.3))
    assert grid.shape == (12, 37, 24)
    np.testing.assert_allclose(grid.affine[:3, 3], [-30, 8 - 17, 100])


@pytest.mark.parametrize("tangent", [0.3, -0.3, 0.05])
def test_anatomy_keeps_its_place_in_the_world(tangent):
    grid = leaning(tangent)
    middle_mm = grid.affine @ [6, 10, 12, 1]
    there = ball(grid, middle_mm)
    straight = upright(Volume(np.where(there, 60, -1000).astype(np.int16), grid))
    assert straight.grid.shear < 1e-9
    assert straight.data.dtype == np.int16 and (straight.data.min(), straight.data.max()) == (-1000, 60)
    got = straight.data > -470
    assert dice(got, ball(straight.grid, middle_mm)) > 0.93
    returned = on_grid(got.astype(np.uint8), straight.grid, grid)
    assert returned.dtype == np.uint8 and returned.shape == SHAPE
    assert dice(returned == 1, there) > 0.93


def test_outer_slices_are_not_lost_to_rounding():
    """Rows that climb at any angle, of slices that are pushed straight up: each slice stays in its plane, whole.

    Slice 1 is air, the others are of one brightness, so that nothing but the way within the plane is interpolated.
    """
    grey = np.full(SHAPE, 60, np.int16)
    grey[1] = -1000
    for degrees in (*range(-40, 0, 3), *range(1, 41, 3)):
        along = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        affine = np.array([[0, 0, along[0], -30], [0, 1, 0, 8], [5, 0, along[1], 100], [0, 0, 0, 1]])
        straight = upright(Volume(grey, Grid(SHAPE, affine)))
        places = np.stack([*np.indices(straight.grid.shape), np.ones(straight.grid.shape)]).reshape(4, -1)
        z, y, x = (np.linalg.solve(affine, straight.grid.affine) @ places)[:3].reshape(3, *straight.grid.shape)
        assert np.abs(z - np.arange(SHAPE[0])[:, None, None]).max() < 1e-9
        inside = (abs(y - (SHAPE[1] - 1) / 2) < SHAPE[1] / 2 - 0.6) & (abs(x - (SHAPE[2] - 1) / 2) < SHAPE[2] / 2 - 0.6)
        for there, value in ((0, 60), (1, -1000), (SHAPE[0] - 1, 60)):
            assert inside[there].any() and (straight.data[there][inside[there]] == value).all(), degrees


def test_every_voxel_comes_back():
    """No voxel is cut off on the way: each label returns to where it was, for whole-voxel slants exactly."""
    grid = leaning(0.4)  # 2 voxels a slice
    drawn = np.random.default_rng(0).integers(0, 5, SHAPE).astype(np.uint8)
    straight = upright_grid(grid)
    np.testing.assert_array_equal(on_grid(on_grid(drawn, grid, straight), straight, grid), drawn)
    assert on_grid(drawn, grid, grid) is drawn


@pytest.mark.parametrize(
    "axes",
    [
        [[0, 0, 1], [1.7, 1, 0], [5, 0, 0]],  # a tilted gantry
        [[0.9, 0, 1], [1.7, 1, 0.4], [5, 0, 0]],
        [[3, 0.7, 1], [-4, 1, 0], [1.1, 0.6, 0.2]],  # rows and columns leave their planes
    ],
)
def test_channels_come_back_slice_by_slice_as_all_at_once(axes):
    affine = np.eye(4)
    affine[:3, :3] = axes
    target = Grid(SHAPE, affine)
    source = upright_grid(target)
    numbers = np.random.default_rng(0).random((2, *source.shape)).astype(np.float32)
    planes = ({"a": plane, "b": plane[:1]} for plane in numbers.swapaxes(0, 1))
    found = list(slices_on_grid(planes, source, target, outside={"a": [7, 8], "b": [9]}))
    assert len(found) == SHAPE[0]
    places = np.stack([*np.indices(SHAPE), np.ones(SHAPE)]).reshape(4, -1)
    at = (np.linalg.solve(source.affine, affine) @ places)[:3]
    sure = (np.abs(at % 1 - 0.5) > 1e-9).all(0).reshape(SHAPE)  # halfway to the next voxel either is the nearest
    assert sure.mean() > 0.5
    for channel, fill in enumerate((7, 8)):
        expected = map_coordinates(numbers[channel], np.rint(at), order=0, mode="constant", cval=fill).reshape(SHAPE)
        brought = np.stack([plane["a"][channel] for plane in found])
        np.testing.assert_array_equal(brought[sure], expected[sure])
    np.testing.assert_array_equal(
        np.stack([plane["b"][0] for plane in found])[sure], np.stack([plane["a"][0] for plane in found])[sure]
    )


def test_where_the_source_ends_the_outside_begins():
    grid = leaning(0.0)
    far = Grid(SHAPE, grid.affine + np.array([[0, 0, 0, 0], [0, 0, 0, 6.4], [0, 0, 0, 0], [0, 0, 0, 0]]))
    found = [
        plane["a"]
        for plane in slices_on_grid(({"a": np.ones((1, 20, 24))} for _ in range(12)), grid, far, outside={"a": [5]})
    ]
    np.testing.assert_array_equal(np.stack(found)[:, 0, :, 0], [[1] * 14 + [5] * 6] * 12)


def test_slices_of_a_tilted_gantry_are_read_as_they_are_needed():
    target = leaning(0.3)
    source, read = upright_grid(target), []

    def planes():
        for z in range(source.shape[0]):
            read.append(z)
            yield {"a": np.zeros((1, *source.shape[1:]))}

    for z, _ in enumerate(slices_on_grid(planes(), source, target, outside={"a": [0]})):
        assert len(read) <= z + 2


def test_a_leaning_case_is_prepared_upright_with_its_label(tmp_path):
    """Image and label file lean alike; in the store a ball is a ball, and the label lies on it."""
    grid = leaning(0.3)
    there = ball(grid, grid.affine @ [6, 10, 12, 1])
    paths = tmp_path / "x_0000.nii.gz", tmp_path / "x.nii.gz"
    for path, array in zip(paths, (np.where(there, 200, -1000).astype(np.int16), there.astype(np.uint8))):
        image = nibabel.Nifti1Image(array.T, grid.affine[:, [2, 1, 0, 3]])
        image.header.set_xyzt_units("mm")
        nibabel.save(image, path)
    labels = LabelSet(names=("background", "liver"), groups={"organ": (1,)})
    numbers = Configuration(
        spacing_mm=(None, 1.0, 1.0), inference_spacing_mm=(None, 1.0, 1.0), patch=(8, 8), clip_hu=(-1000, 200)
    )
    work = Work(Case("x", *paths, frozenset({1})), labels, {"2d": numbers}, Workspace(tmp_path, "Set"))
    prepare_case(work)
    prepared = Store(work.workspace.store("2d")).read("x")
    assert prepared.record.grid.shear < 1e-6
    only = Dataset("Set", tmp_path, labels, (work.case,), ())
    (measured,) = fingerprint(only)[0].cases
    # 4 bytes a voxel as it leans and upright, 17 rows more, 6 and one for its group as it is prepared
    assert need_mb(work) == PROCESS_MB + 12 * 24 * (20 * 4 + 37 * (4 + 7)) / 2**20
    assert (measured.shape, measured.spacing_mm) == (prepared.record.original.shape, (5, 1, 1))
    drawn = prepared.maps["organ"][:] == 1
    bright = prepared.image[:] > prepared.image[:].max() / 2
    assert dice(drawn, bright) > 0.93
    assert dice(drawn, ball(prepared.record.grid, grid.affine @ [6, 10, 12, 1])) > 0.93


def test_rows_far_apart_that_lean_over_fine_columns_keep_their_direction():
    """Columns of 0.3 mm, rows of 4 mm of which each begins 1.2 mm further, slices pushed along the rows' direction.

    A row's nearest neighbour lies up to 2 mm off, where a structure that follows the rows lies two columns aside. So
    the rows keep their direction, and it is the columns that are pushed, by 0.02 of a row each.
    """
    affine = np.array([[0, 1.2, 0.3, 0], [1, 4, 0, 0], [5, 0, 0, 0], [0, 0, 0, 1.0]])
    straight = upright_grid(Grid(SHAPE, affine))
    np.testing.assert_allclose(straight.affine[:3, 1], [1.2, 4, 0])
    assert straight.shear < 1e-9
    away = np.indices(SHAPE) - np.reshape([6, 10, 12], (3, 1, 1, 1))
    drawn = ((away**2).sum(axis=0) <= 16).astype(np.uint8)
    seen = upright(Volume(np.where(drawn, 60, -1000).astype(np.int16), Grid(SHAPE, affine)))
    back = on_grid((seen.data > -205).astype(np.uint8), seen.grid, Grid(SHAPE, affine))
    assert np.abs(np.argwhere(back).mean(axis=0) - np.argwhere(drawn).mean(axis=0)).max() <= 0.25
