import math

import numpy as np
import pytest

from flarenet.evaluation.surface import hausdorff_mm, surface_dice, surface_distances, surfel_areas_mm2


def _blob(rng: np.random.Generator, shape=(14, 17, 12)) -> np.ndarray:
    """A random connected-looking mask: noise, smoothed by three box filters, above its median."""
    noise = rng.normal(size=shape)
    for axis in range(3):
        noise = sum(np.roll(noise, k, axis) for k in (-1, 0, 1))
    return noise > 0.5


def _box(shape, *slices) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[slices] = True
    return mask


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 0.7, 1.1), (0.5, 4.0, 2.5)])
def test_areas_of_all_codes_equal_the_reference_table(spacing_mm):
    reference = pytest.importorskip("monai.metrics.utils").create_table_neighbour_code_to_surface_area
    table, _ = reference(spacing_mm)
    np.testing.assert_allclose(surfel_areas_mm2(spacing_mm), table.numpy(), rtol=1e-6)


def test_areas_by_hand():
    areas = surfel_areas_mm2((3.0, 2.0, 1.0))
    assert areas[0] == areas[255] == 0
    assert areas[0b11110000] == 2.0 * 1.0  # a flat cut across z is one y-x face
    assert areas[0b11001100] == 3.0 * 1.0  # across y
    assert areas[0b10101010] == 3.0 * 2.0  # across x
    # one corner: the triangle through the middles of its three edges, by half the cross product of two sides
    side_a, side_b = np.array([1.5, -1.0, 0.0]), np.array([1.5, 0.0, -0.5])
    assert areas[1] == pytest.approx(np.linalg.norm(np.cross(side_a, side_b)) / 2)


def test_area_of_a_single_voxel_is_an_octahedron():
    distances = surface_distances(_box((3, 3, 3), 1, 1, 1), _box((3, 3, 3), 1, 1, 1), (1.0, 1.0, 1.0))
    assert distances.truth_area_mm2.sum() == pytest.approx(math.sqrt(3))  # edge sqrt(1/2): area 2 sqrt(3) / 2


def test_area_of_a_large_cube_approaches_its_faces():
    cube = _box((42, 42, 42), slice(1, 41), slice(1, 41), slice(1, 41))
    area = surface_distances(cube, cube, (1.0, 1.0, 1.0)).truth_area_mm2.sum()
    flat = 6 * 39 * 39
    rounded = 12 * 39 * math.sqrt(0.5) + math.sqrt(3)  # 12 bevelled edges and eight corner triangles
    assert area == pytest.approx(flat + rounded)


def test_half_space_shifted_by_one_slice_of_three_mm():
    truth, prediction = _box((40, 9, 9), slice(0, 20)), _box((40, 9, 9), slice(0, 21))
    distances = surface_distances(truth, prediction, (3.0, 50.0, 50.0))
    assert surface_dice(distances, 3.0) == 1.0
    assert surface_dice(distances, 2.9) < 0.75  # the shared sides and far end agree, both moved planes do not
    assert hausdorff_mm(distances, 100) == 3.0


def test_share_of_a_longer_row_by_hand():
    # a voxel of 2 mm: eight corner triangles; a row of three voxels: four triangles at each end, eight bevels between
    truth, prediction = _box((1, 1, 3), 0, 0, 0), _box((1, 1, 3), 0, 0, slice(0, 3))
    distances = surface_distances(truth, prediction, (2.0, 2.0, 2.0))
    triangle, bevel = math.sqrt(3) / 8 * 4, math.sqrt(0.5) * 4
    total = 16 * triangle + 8 * bevel
    assert distances.truth_area_mm2.sum() + distances.prediction_area_mm2.sum() == pytest.approx(total)
    assert surface_dice(distances, 0.0) == pytest.approx((12 * triangle + 4 * bevel) / total)
    assert surface_dice(distances, 2.0) == pytest.approx(1 - 4 * triangle / total)  # the far end is 4 mm away
    assert surface_dice(distances, 4.0) == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_reference_on_random_blobs(seed):
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("monai.metrics").compute_surface_dice
    rng = np.random.default_rng(seed)
    truth, prediction = _blob(rng), _blob(rng)
    spacing_mm, tolerance_mm = (2.5, 0.75, 1.25), 1.0 + 0.5 * seed
    stack = [torch.from_numpy(np.stack([~m, m])[None].astype(np.float32)) for m in (prediction, truth)]
    expected = reference(*stack, [tolerance_mm], spacing=spacing_mm, use_subvoxels=True).item()
    found = surface_dice(surface_distances(truth, prediction, spacing_mm), tolerance_mm)
    assert 0 < found < 1
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (5.0, 0.7, 0.8), (0.6, 3.0, 0.6)])
def test_distances_are_those_of_every_pair(spacing_mm):
    """Near ones are looked up, far ones (a ball at the other end) come from the tree."""
    rng = np.random.default_rng(7)
    truth, prediction = np.zeros((2, 30, 40, 24), dtype=bool)
    truth[3:14, 4:19, 3:14] = _blob(rng, (11, 15, 11))
    prediction[4:15, 4:19, 2:13] = truth[3:14, 4:19, 3:14]
    prediction[25:28, 30:38, 15:22] = True
    found = surface_distances(truth, prediction, spacing_mm)
    cells = [np.argwhere(_is_cut(mask)) * spacing_mm for mask in (truth, prediction)]
    every_mm = np.linalg.norm(cells[0][:, None] - cells[1][None], axis=2)
    np.testing.assert_allclose(found.truth_distance_mm, every_mm.min(axis=1), rtol=1e-13, atol=0)
    np.testing.assert_allclose(found.prediction_distance_mm, every_mm.min(axis=0), rtol=1e-13, atol=0)
    assert found.prediction_distance_mm.max() > 10 and (found.truth_distance_mm == 0).any()


def _is_cut(mask: np.ndarray) -> np.ndarray:
    """The cells that have voxels of both kinds, rows in the order in which surfels come."""
    padded = np.pad(mask, 1).astype(int)
    inside = sum(padded[z : z - 1 or None, y : y - 1 or None, x : x - 1 or None] for z, y, x in np.ndindex(2, 2, 2))
    return (inside > 0) & (inside < 8)


def test_a_distance_of_exactly_the_tolerance_counts_in_double_precision():
    # five voxels of float32(0.6) mm are a little more than 3 mm; in single precision they would be exactly 3
    spacing = float(np.float32(0.6))
    truth, prediction = _box((1, 1, 30), 0, 0, slice(0, 10)), _box((1, 1, 30), 0, 0, slice(0, 15))
    distances = surface_distances(truth, prediction, (1.0, 1.0, spacing))
    assert distances.prediction_distance_mm.max() > 3.0
    assert surface_dice(distances, 3.0) < 1.0
    assert surface_dice(distances, 3.0001) == 1.0


def test_empty_masks():
    empty, full = np.zeros((4, 4, 4), dtype=bool), _box((4, 4, 4), 1, 1, 1)
    pairs = ((empty, empty), (empty, full), (full, empty))
    both, one, other = (surface_distances(a, b, (1.0, 1.0, 1.0)) for a, b in pairs)
    assert surface_dice(both, 2) == 1 and hausdorff_mm(both) == 0
    assert surface_dice(one, 2) == 0 == surface_dice(other, 2)
    assert hausdorff_mm(one) == math.inf == hausdorff_mm(other)


def test_an_object_at_the_border_is_closed_there():
    inner, outer = _box((6, 6, 6), slice(1, 5), slice(1, 5), slice(1, 5)), np.ones((4, 4, 4), dtype=bool)
    areas = [surface_distances(m, m, (1.0, 1.0, 1.0)).truth_area_mm2.sum() for m in (inner, outer)]
    assert areas[0] == pytest.approx(areas[1])


def test_robust_hausdorff_ignores_a_small_outlier():
    truth = _box((30, 30, 30), slice(0, 10), slice(0, 10), slice(0, 10))
    prediction = truth.copy()
    prediction[25, 5, 5] = True
    distances = surface_distances(truth, prediction, (1.0, 1.0, 1.0))
    assert hausdorff_mm(distances) == 0.0
    assert hausdorff_mm(distances, 100) == 16.0  # cells at z 25 to those at z 9


def test_where_nothing_is_known_no_end_of_a_surface_counts():
    """The row of three voxels above, of which the third is ignored: truth has the first, prediction the first two.

    The far end of the prediction, four triangles, lies beside the ignored voxel. What is left agrees everywhere.
    """
    truth, prediction, ignored = (_box((1, 1, 3), 0, 0, at) for at in (0, slice(0, 2), 2))
    distances = surface_distances(truth, prediction, (2.0, 2.0, 2.0), ignored=ignored)
    triangle, bevel = math.sqrt(3) / 8 * 4, math.sqrt(0.5) * 4
    assert distances.truth_area_mm2.sum() == pytest.approx(8 * triangle)
    assert distances.prediction_area_mm2.sum() == pytest.approx(4 * triangle + 4 * bevel)
    assert surface_dice(distances, 0.0) == 1.0 and hausdorff_mm(distances, 100) == 0.0
    whole = surface_distances(truth, prediction, (2.0, 2.0, 2.0))
    assert surface_dice(whole, 0.0) == pytest.approx(1 - 4 * triangle / (16 * triangle + 4 * bevel))


def test_distances_are_measured_to_where_what_is_known_ends():
    """First voxel and third of a row whose second is ignored. Of each only the end that is turned away counts: to the
    near end of the other it is two steps of 2 mm."""
    truth, prediction, ignored = (_box((1, 1, 3), 0, 0, at) for at in (0, 2, 1))
    distances = surface_distances(truth, prediction, (2.0, 2.0, 2.0), ignored=ignored)
    assert distances.truth_distance_mm.tolist() == distances.prediction_distance_mm.tolist() == [4.0] * 4


def test_nothing_ignored_is_the_same_as_no_ignored_voxels():
    rng = np.random.default_rng(2)
    truth, prediction = _blob(rng), _blob(rng)
    one, other = (
        surface_distances(truth, prediction, (2.0, 1.0, 0.7), ignored=ignored)
        for ignored in (None, np.zeros_like(truth))
    )
    for field in ("truth_area_mm2", "truth_distance_mm", "prediction_area_mm2", "prediction_distance_mm"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
