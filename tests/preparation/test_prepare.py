"""From scan to prepared image and back: orientation, crop, window, spacing."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import zoom

from flarenet.planning.cost.memory import inference_spacing
from flarenet.planning.plan import Configuration, ScanSize
from flarenet.preparation.prepare import FULL, frame_between, normalise, prepare_image, prepare_map, prepared_planes
from flarenet.preparation.reoriented import ReorientedVolume
from flarenet.preparation.resample import bands, resample, resample_nearest, resampled_shape
from flarenet.volume import Grid, Orientation, Volume

ORIENTATIONS = [
    Orientation(axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def configuration(spacing=(None, 2.0, 2.0), inference=(2.5, 2.0, 2.0), patch=(16, 16)):
    return Configuration(spacing_mm=spacing, inference_spacing_mm=inference, patch=patch, clip_hu=(-160, 240))


def scan(spacing=(5.0, 1.5, 1.0), shape=(6, 20, 24)):
    """A canonical scan (z up, y to the front, x to the right) of soft tissue in air."""
    data = np.full(shape, -1000, dtype=np.int16)
    data[1:5, 3:17, 4:20] = np.random.default_rng(0).integers(-100, 300, (4, 14, 16))
    affine = np.array([[0, 0, spacing[2], -11], [0, spacing[1], 0, 7], [spacing[0], 0, 0, 40], [0, 0, 0, 1.0]])
    return Volume(data, Grid(shape, affine))


def turned(volume, orientation):
    """The same scan, stored so that `orientation` brings it back: voxels found one by one through the world."""
    shape = orientation.undo(volume.data).shape
    data = np.ascontiguousarray(orientation.undo(volume.data))
    numbers = orientation.undo(np.arange(volume.data.size).reshape(volume.data.shape))
    where = np.array(np.unravel_index(numbers.ravel(), volume.data.shape))
    world = volume.grid.affine @ np.vstack([where, np.ones(where.shape[1])])
    index = np.array(np.unravel_index(np.arange(data.size), shape))
    affine = np.linalg.lstsq(np.vstack([index, np.ones(data.size)]).T, world.T, rcond=None)[0].T
    return Volume(data, Grid(shape, affine))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_every_orientation_gives_the_identical_image(orientation):
    upright = prepare_image(scan(), configuration())
    other = prepare_image(turned(scan(), orientation), configuration())
    np.testing.assert_array_equal(other.image, upright.image)
    assert other.frame.grid.is_near(upright.frame.grid, tolerance_mm=1e-6)
    assert other.frame.box == upright.frame.box
    assert other.frame.orientation == orientation


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5], ids=str)
@pytest.mark.parametrize("spacing", [(None, 2.0, 2.0), (3.0, 0.7, 1.9)])
def test_the_frame_follows_from_the_two_grids(orientation, spacing):
    volume = turned(scan(), orientation)
    frame = prepare_image(volume, configuration(spacing)).frame
    again = frame_between(volume.grid, frame.grid)
    assert (again.box, again.orientation) == (frame.box, frame.orientation)
    assert again.original is volume.grid and again.grid is frame.grid


def test_crop_window_and_scale_by_hand():
    data = np.full((2, 4, 4), -1000, dtype=np.int16)
    data[1, 1:3, 1:4] = [[-159, 41, 240], [-500, 500, -160]]
    prepared = prepare_image(Volume(data, Grid((2, 4, 4), scan().grid.affine)), configuration((None, 1.5, 1.0)))
    # brighter than -160 are rows 1 and 2, columns 1 to 3 of slice 1
    assert (prepared.frame.box.start, prepared.frame.box.stop) == ((1, 1, 1), (2, 3, 4))
    np.testing.assert_array_equal(prepared.image, [[[5, 1029, FULL], [0, FULL, 0]]])  # 2047 / 400 = 5.1
    assert prepared.image.dtype == np.int16
    np.testing.assert_allclose(normalise(prepared.image)[0, 0], [1 / 400, 201 / 400, 1.0], atol=0.5 / FULL)


def test_a_scan_with_nothing_above_the_floor_keeps_its_extent():
    volume = Volume(np.full((3, 8, 10), -1000, dtype=np.int16), Grid((3, 8, 10), scan().grid.affine))
    prepared = prepare_image(volume, configuration())
    assert prepared.frame.box.start == (0, 0, 0) and prepared.frame.box.shape == (3, 8, 10)
    assert prepared.image.shape[0] == 3 and not prepared.image.any()


def test_the_prepared_spacing_is_the_one_asked_for():
    prepared = prepare_image(scan(), configuration((2.5, 3.0, 2.0)))
    # the crop is 4 x 14 x 16 voxels of 5 x 1.5 x 1 mm: 20 x 21 x 16 mm
    assert prepared.image.shape == (8, 7, 8)
    np.testing.assert_allclose(prepared.frame.grid.spacing_mm, (2.5, 3.0, 2.0))


def inference_shape(volume, numbers):
    size = ScanSize(shape=volume.grid.shape, spacing_mm=volume.grid.spacing_mm)
    frame, _ = prepared_planes(ReorientedVolume(volume), numbers, spacing_mm=inference_spacing(size, numbers))
    return frame.grid.shape


@pytest.mark.parametrize(("slice_mm", "wanted_slices"), [(5.0, 4), (2.5, 4), (1.25, 2)])
def test_inference_never_adds_slices_in_two_dimensions(slice_mm, wanted_slices):
    assert (
        inference_shape(scan((slice_mm, 1.5, 1.0)), configuration())[0] == wanted_slices
    )  # 4 slices; those finer than 2.5 mm are thinned to it


def test_training_keeps_the_slices_and_three_dimensions_resample_them():
    assert prepare_image(scan((1.25, 1.5, 1.0)), configuration()).image.shape[0] == 4
    blocks = configuration((2.5, 2.0, 2.0), (2.5, 2.0, 2.0), (8, 16, 16))
    assert inference_shape(scan(), blocks)[0] == 8


def test_a_map_takes_the_nearest_voxel_by_hand():
    row = np.array([[[1, 2, 3, 4, 5, 6]]], dtype=np.uint8)
    # three voxels of width 2: centres at 1, 3, 5, on the edges of old voxels, which go to the later one
    np.testing.assert_array_equal(resample_nearest(row, (1, 1, 3))[0, 0], [2, 4, 6])
    # four of width 1.5: centres 0.75, 2.25, 3.75, 5.25
    np.testing.assert_array_equal(resample_nearest(row, (1, 1, 4))[0, 0], [1, 3, 4, 6])
    np.testing.assert_array_equal(resample_nearest(row, (1, 1, 12))[0, 0], np.repeat(row[0, 0], 2))
    assert resample_nearest(row, (2, 2, 2)).dtype == np.uint8


@pytest.mark.parametrize("orientation", ORIENTATIONS[::7], ids=str)
def test_a_map_lies_on_its_image(orientation):
    volume = turned(scan(), orientation)
    drawn = (volume.data > -1000).astype(np.uint8)
    prepared = prepare_image(volume, configuration())
    mapped = prepare_map(drawn, prepared.frame)
    assert mapped.shape == prepared.image.shape and mapped.all()  # the crop is the block itself
    stripes = np.zeros(scan().data.shape, dtype=np.uint8)
    stripes[2] = 7
    mapped = prepare_map(np.ascontiguousarray(orientation.undo(stripes)), prepared.frame)
    np.testing.assert_array_equal(np.unique(mapped[1]), [7])
    assert not mapped[[0, 2, 3]].any()


def resampled(image, shape, interpolation="linear"):
    return np.stack(list(resample(iter(image.astype(np.float32)), image.shape, shape, interpolation)))


@pytest.mark.parametrize("axis", range(3))
def test_linear_resampling_by_hand(axis):
    row = np.moveaxis(np.array([[[0.0, 1.0, 2.0, 3.0]]]), 2, axis)
    for n, wanted in ((2, [0.5, 2.5]), (8, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])):
        shape = tuple(n if a == axis else 1 for a in range(3))
        np.testing.assert_allclose(resampled(row, shape).ravel(), wanted, atol=1e-6)


SHAPES = [((9, 20, 30), (9, 13, 44)), ((30, 31, 7), (13, 64, 7)), ((2, 5, 4), (9, 2, 1)), ((90, 6, 5), (3, 60, 5))]


@pytest.mark.parametrize(("before", "after"), SHAPES)
@pytest.mark.parametrize(("interpolation", "order"), [("linear", 1), ("cubic", 3)])
def test_resampling_is_that_of_scipy(before, after, interpolation, order):
    image = np.random.default_rng(1).random(before)
    factors = [m / n for n, m in zip(before, after)]
    wanted = zoom(image, factors, order=order, mode="nearest", grid_mode=True)  # in double precision
    np.testing.assert_allclose(resampled(image, after, interpolation), wanted, atol=2e-6)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize(("n", "wanted"), [(1, 1), (1, 5), (5, 1), (2, 3), (40, 7), (7, 40)])
def test_weights_of_every_voxel_add_up_to_one(interpolation, n, wanted):
    blocks = bands(n, wanted, interpolation)
    assert [i for band in blocks for i in range(band.rows.start, band.rows.stop)] == list(range(wanted))
    for band in blocks:
        np.testing.assert_allclose(band.weights.sum(axis=1), 1, atol=1e-6)


def test_a_spline_is_cut_off_at_the_window():
    edges = np.full((4, 8, 8), -1000, dtype=np.int16)
    edges[1:3, 2:6, 2:6] = 1000
    edges[0, 0, 0] = edges[3, 7, 7] = 1000  # the crop is the whole
    volume = Volume(edges, Grid(edges.shape, scan((3.0, 1.0, 1.0)).grid.affine))
    image = prepare_image(volume, configuration((2.0, 0.7, 0.7)).model_copy(update={"interpolation": "cubic"})).image
    assert image.min() == 0 and image.max() == FULL
    scaled = np.clip(edges, -160, 240).astype(float) + 160
    wanted = zoom(scaled, (1.5, 11 / 8, 11 / 8), order=3, mode="nearest", grid_mode=True)
    assert wanted.min() < -5 and wanted.max() > 405
    np.testing.assert_allclose(image, np.clip(wanted, 0, 400) * (FULL / 400), atol=0.51)


def test_resampled_shape_keeps_an_axis_and_at_least_one_voxel():
    assert resampled_shape((10, 100, 3), (5.0, 0.8, 0.1), (None, 1.6, 4.0)) == (10, 50, 1)


def window(data, grid, numbers):
    return ReorientedVolume(Volume(data, grid)).window(numbers)


def test_an_image_without_a_unit_is_scaled_by_its_own_percentiles():
    """Values 0 to 999, each once: of 1 to 999, 0.5 % and 99.5 % lie at 1 + 4.99 and 999 - 4.99; ten times the values,
    the same picture."""
    data = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    grid = Grid(data.shape, scan(spacing=(1.0, 1.0, 1.0)).grid.affine)
    plain = configuration((1.0, 1.0, 1.0), patch=(8, 8, 8))
    own = plain.model_copy(update={"normalisation": "percentile", "clip_hu": None})
    assert window(data, grid, own) == pytest.approx((5.99, 994.01))
    assert window(data, grid, plain) == (-160, 240)
    one, *others = (
        prepare_image(Volume(values, grid), own).image
        for values in (data, 10 * data, *((data * unit).astype(np.float32) for unit in (1e-3, 1e-9)))
    )
    assert one.min() == 0 and one.max() == FULL
    assert all(np.abs(one.astype(int) - other).max() <= 1 for other in others)


def test_padding_does_not_move_the_window_of_an_image_without_a_unit():
    grid = Grid((10, 10, 10), np.eye(4))
    own = configuration((1.0, 1.0, 1.0)).model_copy(update={"normalisation": "percentile", "clip_hu": None})
    body = np.arange(1000, dtype=np.float32).reshape(grid.shape)
    padded = np.pad(body, 20)
    assert window(padded, Grid(padded.shape, np.eye(4)), own) == window(body, grid, own)
    two_values = np.where(body < 500, 0, 100).astype(np.int16)  # of those above the lowest alone there is no range
    assert window(two_values, grid, own) == (0, 100)


def test_an_image_of_one_value_and_one_whose_range_is_nothing_are_scaled_to_finite_numbers():
    grid = Grid((10, 10, 10), scan(spacing=(1.0, 1.0, 1.0)).grid.affine)
    own = configuration((1.0, 1.0, 1.0), patch=(8, 8, 8)).model_copy(
        update={"normalisation": "percentile", "clip_hu": None}
    )
    assert window(np.zeros((2, 2, 2)), Grid((2, 2, 2), np.eye(4)), own) == (0, 1)
    tiny = (np.arange(1000) * 1e-42).astype(np.float32).reshape(grid.shape)  # 2047 / 1e-39 is beyond float32
    assert not prepare_image(Volume(tiny, grid), own).image.any()


class Descending(ReorientedVolume):
    """As a file that stores its slices highest first."""

    descending = True

    def planes(self):
        return iter(self._data[::-1])


@pytest.mark.parametrize("z_mm", [None, 2.0, 6.0, 0.7])
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_planes_that_come_highest_first_are_the_same(z_mm, interpolation):
    noise = np.random.default_rng(0).normal(0, 200, (37, 14, 16)).astype(np.int16)
    volume = Volume(noise, Grid(noise.shape, scan().grid.affine))
    numbers = configuration((z_mm, 3.0, 2.0)).model_copy(update={"interpolation": interpolation})
    ascending, descending = (
        np.stack(list(prepared_planes(seen(volume), numbers, spacing_mm=numbers.spacing_mm)[1]))
        for seen in (ReorientedVolume, Descending)
    )
    np.testing.assert_array_equal(descending[::-1], ascending)
    np.testing.assert_array_equal(ascending, prepare_image(volume, numbers).image)
