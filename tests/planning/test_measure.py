import numpy as np
import pytest

from flarenet.data.labels import LabelSet
from flarenet.errors import DatasetError
from flarenet.planning.measuring.measure import (
    BINS,
    Bins,
    body_shape,
    measure,
    pack_histogram,
    percentile,
    unpack_histogram,
)
from flarenet.volume import Grid, Orientation, Volume

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})


def measured(image, label_map=None, *, affine=None, is_ct=True):
    volume = Volume(image, Grid(image.shape, np.eye(4)[[2, 1, 0, 3]] if affine is None else affine))
    return measure(volume, label_map, LABELS, name="a", is_ct=is_ct, image_sha256="0", key="0")


def test_bins_are_whole_hu_and_the_outer_ones_take_the_rest():
    index = Bins().index(np.array([-5000.0, -2048.4, 0.4, 0.6, 2047, 9000]))
    assert index.tolist() == [0, 0, 2048, 2049, BINS - 1, BINS - 1]
    assert Bins().index(np.array([-32768, -2048, 0, 2047, 32767], dtype=np.int16)).tolist() == [0, 0, 2048, 4095, 4095]


def test_a_histogram_is_unpacked_as_it_was_packed():
    counts = np.random.default_rng(0).integers(0, 2**32, BINS)
    assert (unpack_histogram(pack_histogram(counts)) == counts).all()


@pytest.mark.parametrize("text", ["", "no base64 !", pack_histogram(np.zeros(7))])
def test_a_text_that_is_no_histogram_is_refused(text):
    with pytest.raises(DatasetError):
        unpack_histogram(text)


@pytest.mark.parametrize("percent", [0.5, 5, 50, 95, 99.5])
def test_percentiles_of_a_histogram_are_those_of_the_values(percent):
    values = np.random.default_rng(1).normal(50, 30, 5001).round().astype(np.int16)
    counts = np.bincount(Bins().index(values), minlength=BINS)
    assert percentile(counts, Bins().values, percent) == np.percentile(values, percent, method="inverted_cdf")


def test_numbers_do_not_depend_on_slabs_or_on_the_order_of_axes(monkeypatch):
    random = np.random.default_rng(2)
    image = random.integers(-1000, 400, (40, 30, 20)).astype(np.int16)
    label_map = (random.random(image.shape) < 0.1).astype(np.uint8) * random.integers(1, 3, image.shape).astype(
        np.uint8
    )
    first = measured(image, label_map)
    inside = np.argwhere(label_map == 2)
    assert first.labels[2].centre_x == pytest.approx(inside[:, 2].mean(), abs=0.005)
    assert first.labels[2].mean_hu == pytest.approx(image[label_map == 2].mean(), abs=0.0005)
    assert first.voxels == {1: int((label_map == 1).sum()), 2: int((label_map == 2).sum())}
    monkeypatch.setattr("flarenet.planning.measuring.measure.SLAB_VOXELS", 1000)
    assert measured(image, label_map) == first
    turned = Orientation((2, 0, 1), (True, False, True))
    stored = Volume(image, Grid(image.shape, np.eye(4)[[2, 1, 0, 3]]))
    affine = turned.apply_to_grid(stored.grid).affine
    assert measured(turned.apply(image).copy(), turned.apply(label_map).copy(), affine=affine) == first


def test_noise_outside_does_not_count_as_body():
    image = np.full((3, 200, 200), -1000)
    image[:, 50:100, 20:60] = 0
    image[0, 0, 0] = image[2, 199, 199] = 300  # one voxel in 600 of its plane
    assert body_shape(image) == (3, 50, 40)
    assert body_shape(np.full((2, 3, 4), -1000)) == (2, 3, 4)
    assert body_shape(np.full((600, 2, 2), 100)) == (600, 2, 2)  # more planes than a byte counts


def test_what_is_no_ct_is_counted_over_its_own_range():
    image = np.zeros((4, 40, 40), dtype=np.float32)
    image[:, 10:30, 5:35] = np.linspace(0.25, 0.75, 4 * 20 * 30, dtype=np.float32).reshape(4, 20, 30)
    label_map = (image >= 0.5).astype(np.uint8)
    found = measured(image, label_map, is_ct=False)
    exact = np.percentile(image[label_map > 0], 50, method="inverted_cdf")
    assert found.labels[1].median_hu == pytest.approx(exact, abs=0.75 / (BINS - 1))
    assert found.body_shape == (4, 20, 30) and (found.lowest, found.step) == (0, 0.75 / (BINS - 1))


def test_whole_numbers_of_an_mr_scan_keep_a_bin_each():
    image = np.arange(1000, 1000 + 2 * 30 * 30, dtype=np.int16).reshape(2, 30, 30)
    found = measured(image, np.ones(image.shape, dtype=np.uint8), is_ct=False)
    assert (found.lowest, found.step) == (1000, 1) and found.labels[1].median_hu == 1899


def test_without_a_label_the_inside_of_the_body_is_counted():
    image = np.full((2, 3, 4), -1000, dtype=np.int16)
    image[0, 1, 1:3] = (30, 40)
    for label_map in (None, np.zeros(image.shape, dtype=np.uint8)):
        found = measured(image, label_map)
        assert found.histogram_of == "body"
        assert np.flatnonzero(unpack_histogram(found.histogram)).tolist() == [2078, 2088]


LEANING = np.array([[0, 0, 1, 0], [3, 1, 0, 0], [4, 0, 0, 0], [0, 0, 0, 1.0]])
"""Slices 4 mm apart, each 3 mm further along y: 5 mm from voxel to voxel."""


def test_a_leaning_scan_has_the_spacing_and_shape_of_the_upright_grid():
    """The last of six slices lies 5 x 3 = 15 rows of 1 mm further along y; nothing is further along x."""
    image, label_map = np.full((6, 20, 24), -1000, dtype=np.int16), np.zeros((6, 20, 24), dtype=np.uint8)
    image[1:5, 4:14, 3:9], label_map[2, 5, 6:8] = 50, 1
    found = measured(image, label_map, affine=LEANING)
    assert (found.spacing_mm, found.shape) == ((4, 1, 1), (6, 20 + 15, 24))
    # counted are the voxels that the scan has
    assert (found.body_shape, found.voxels, found.labels[1].centre_x) == ((4, 10, 6), {1: 2, 2: 0}, 6.5)
    turned = Orientation((2, 0, 1), (True, False, True))
    affine = turned.apply_to_grid(Grid(image.shape, LEANING)).affine
    back = measured(turned.apply(image).copy(), turned.apply(label_map).copy(), affine=affine)
    assert back == found


def test_a_tilt_of_twenty_degrees_brings_slices_six_percent_nearer():
    tilt = np.deg2rad(20)
    affine = np.array([[0, 0, 1, 0], [5 * np.sin(tilt), 1, 0, 0], [5 * np.cos(tilt), 0, 0, 0], [0, 0, 0, 1]])
    assert measured(np.arange(60).reshape(3, 4, 5), affine=affine).spacing_mm == (4.69846, 1, 1)
