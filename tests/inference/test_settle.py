"""The rules that need the whole map, on rows of voxels of 1 x 2 x 4 mm."""

import numpy as np
import pytest

from flarenet.data.labels import LabelSet, join
from flarenet.inference.settle import settle
from flarenet.planning.fusion import Fusion
from flarenet.volume import Grid

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor", "cyst"), groups={"organ": (1, 2), "lesion": (3, 4)})
SPACING_MM = (1.0, 2.0, 4.0)
GRID = Grid((1, 1, 1), np.diag([*SPACING_MM, 1.0]))  # its shape is of no account


def row(*values, axis=2):
    shape = [1, 1, 1]
    shape[axis] = -1
    return np.array(values, dtype=np.uint8).reshape(shape)


def settled(maps, **rules):
    maps = {group: drawn.copy() for group, drawn in maps.items()}
    settle(maps, Fusion(**rules), labels=LABELS, grid=GRID)
    return {group: drawn.ravel().tolist() for group, drawn in maps.items()}


def test_the_largest_part_of_the_labels_named_stays():
    maps = {"organ": row(1, 0, 1, 1, 2, 0, 2, 1), "lesion": row(0, 0, 0, 0, 0, 0, 0, 0)}
    assert settled(maps, largest=("liver",))["organ"] == [0, 0, 1, 1, 2, 0, 2, 0]
    assert settled(maps, largest=("spleen",))["organ"] == [1, 0, 1, 1, 2, 0, 0, 1]  # of equal ones the first
    assert settled(maps, largest=("tumor",)) == settled(maps)


def test_parts_below_the_least_size_go_and_what_lies_beneath_comes_to_light():
    maps = {"organ": row(1, 1, 1, 0, 0, 0), "lesion": row(0, 1, 0, 1, 1, 2)}  # 8, 16 and 8 mm3
    assert settled(maps, least_ml={"tumor": 0.016})["lesion"] == [0, 0, 0, 1, 1, 2]
    kept = {group: row(*values) for group, values in settled(maps, least_ml={"tumor": 0.017}).items()}
    assert join(kept, LABELS).ravel().tolist() == [1, 1, 1, 0, 0, 4]
    assert settled(maps, least_ml={"tumor": 0.001}, largest=("tumor",))["lesion"] == [0, 0, 0, 1, 1, 2]


def test_voxels_whose_axes_lean_are_as_large_as_they_are():
    """Slices 1 mm apart, each pushed by 0.75 mm: the step along z is 1.25 mm long, a voxel 8 mm3 large."""
    affine = np.diag([*SPACING_MM, 1.0])
    affine[1, 0] = 0.75
    lesion = row(1, 0, 1, 1)
    settle({"lesion": lesion}, Fusion(least_ml={"tumor": 0.009}), labels=LABELS, grid=Grid(lesion.shape, affine))
    assert lesion.ravel().tolist() == [0, 0, 1, 1]


def test_lesions_stay_on_and_beside_their_hosts_whole():
    maps = {"organ": row(1, 0, 0, 2, 0, 0, 0, 1, 0), "lesion": row(2, 1, 0, 1, 0, 1, 0, 2, 2)}
    assert settled(maps, hosts={"tumor": ("liver",)})["lesion"] == [2, 1, 0, 0, 0, 0, 0, 2, 2]
    assert settled(maps, hosts={"tumor": ("spleen",)})["lesion"] == [2, 0, 0, 1, 0, 0, 0, 2, 2]
    assert settled(maps, hosts={"cyst": ("spleen",)})["lesion"] == [0, 1, 0, 1, 0, 1, 0, 0, 0]
    assert settled(maps, hosts={"tumor": ("liver", "spleen")})["lesion"] == [2, 1, 0, 1, 0, 0, 0, 2, 2]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_near_is_measured_in_mm_between_voxels(axis):
    maps = {"organ": row(1, 0, 0, 0, 0, axis=axis), "lesion": row(0, 0, 0, 1, 1, axis=axis)}  # three voxels away
    away_mm = 3 * SPACING_MM[axis]
    kept = [settled(maps, hosts={"tumor": ("liver",)}, near_mm=away_mm + more)["lesion"] for more in (0.01, -0.01)]
    assert kept == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]


def test_a_host_that_goes_holds_nothing():
    maps = {"organ": row(1, 1, 0, 1), "lesion": row(0, 0, 0, 1)}
    assert settled(maps, largest=("liver",), hosts={"tumor": ("liver",)})["lesion"] == [0, 0, 0, 0]


def test_without_an_answer_for_the_hosts_lesions_stay_and_empty_maps_stay_empty():
    assert settled({"lesion": row(0, 1)}, hosts={"tumor": ("liver",)})["lesion"] == [0, 1]
    empty = {"organ": row(0, 0), "lesion": row(0, 0)}
    rules = {"hosts": {"tumor": ("liver",)}, "largest": ("liver", "tumor"), "least_ml": {"tumor": 1.0}}
    assert settled(empty, **rules) == {"organ": [0, 0], "lesion": [0, 0]}


def test_parts_in_the_corners_of_a_map_are_found():
    organ, lesion = np.zeros((2, 5, 6, 7), dtype=np.uint8)
    organ[0, 0, 0] = lesion[-1, -1, -1] = lesion[1, 1, 1] = 1
    maps = {"organ": organ, "lesion": lesion}
    settle(maps, Fusion(hosts={"tumor": ("liver",)}), labels=LABELS, grid=GRID)
    assert np.argwhere(lesion).tolist() == [[1, 1, 1]]
