"""The rules that need connected parts, on rows of voxels of 1 x 2 x 4 mm, and against the same rules on whole maps."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation, label
from scipy.spatial.distance import cdist

from flarenet.data.labels import LabelSet, join
from flarenet.inference.settle import Settled
from flarenet.planning.fusion import Fusion
from flarenet.volume import Grid

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor", "cyst"), groups={"organ": (1, 2), "lesion": (3, 4)})
SPACING_MM = (1.0, 2.0, 4.0)
AFFINE = np.diag([*SPACING_MM, 1.0])


def row(*values, axis=2):
    shape = [1, 1, 1]
    shape[axis] = -1
    return np.array(values, dtype=np.uint8).reshape(shape)


def after(maps, fusion, *, labels=LABELS, affine=AFFINE, descending=False):
    """{group: uint8 [Z, Y, X]}: the maps, given slice by slice, after the rules."""
    shape = next(iter(maps.values())).shape
    slices = [(z, {group: drawn[z] for group, drawn in maps.items()}) for z in range(shape[0])]
    grid = Grid(shape, affine)
    found = Settled(iter(slices[:: -1 if descending else 1]), fusion, groups=tuple(maps), labels=labels, grid=grid)
    return {group: np.stack([found.maps(z)[group] for z in range(shape[0])]) for group in maps}


def settled(maps, **rules):
    return {group: drawn.ravel().tolist() for group, drawn in after(maps, Fusion(**rules)).items()}


def by_whole_maps(maps, fusion, labels=LABELS, affine=AFFINE):
    """What `after` must give, from whole maps: sizes first, then hosts, label by label."""
    maps, grid = {group: drawn.copy() for group, drawn in maps.items()}, Grid((1, 1, 1), affine)
    places = {
        labels.names[value]: (group, number)
        for group in labels.groups
        if group in maps
        for number, value in enumerate(labels.groups[group], start=1)
    }
    for name, (group, number) in places.items():
        part, _ = label(maps[group] == number, np.ones((3, 3, 3)))
        voxels = np.bincount(part.ravel())[1:]
        for own, size in enumerate(voxels, start=1):
            small = size * grid.voxel_mm3 / 1000 < fusion.least_ml.get(name, 0)
            small |= size / voxels.max() < fusion.least_share.get(name, 0)
            if small or (name in fusion.largest and own != 1 + voxels.argmax()):
                maps[group][part == own] = 0
    for name, (group, number) in places.items():
        hosts = [places[host] for host in fusion.hosts.get(name, ()) if host in places]
        if hosts:
            home = np.any([maps[of] == host for of, host in hosts], axis=0)
            part, count = label(maps[group] == number, np.ones((3, 3, 3)))
            for own in range(1, count + 1):
                if not _is_near(part == own, home, grid.spacing_mm, fusion.near_mm):
                    maps[group][part == own] = 0
    return maps


def _is_near(part, home, spacing_mm, near_mm):
    if (binary_dilation(part, np.ones((3, 3, 3))) & home).any():
        return True
    one, other = (np.argwhere(mask) * spacing_mm for mask in (part, home))
    return bool(near_mm and len(other) and cdist(one, other).min() <= near_mm)


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


def test_parts_below_a_share_of_the_largest_one_go():
    maps = {"organ": row(1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 2, 0), "lesion": row(*[0] * 9, 1, 0, 2)}  # 5, 2 and 1 voxels
    kept = {share: settled(maps, least_share={"liver": share})["organ"] for share in (0.2, 0.21, 0.4, 0.41, 1.0)}
    assert kept[0.2] == maps["organ"].ravel().tolist()
    assert kept[0.21] == kept[0.4] == [1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 2, 0]
    assert kept[0.41] == kept[1.0] == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 2, 0]
    assert settled(maps, least_share={"tumor": 1.0, "cyst": 1.0}) == settled(maps)
    two = {"organ": row(1, 0, 1)}
    assert settled(two, least_share={"liver": 1.0})["organ"] == [1, 0, 1]  # none is smaller than the other
    assert settled(two, least_share={"liver": 1.0}, largest=("liver",))["organ"] == [1, 0, 0]


def test_voxels_whose_axes_lean_are_as_large_as_they_are():
    """Slices 1 mm apart, each pushed by 0.75 mm: the step along z is 1.25 mm long, a voxel 8 mm3 large."""
    affine = np.diag([*SPACING_MM, 1.0])
    affine[1, 0] = 0.75
    lesion = row(1, 0, 1, 1)
    kept = after({"lesion": lesion}, Fusion(least_ml={"tumor": 0.009}), affine=affine)
    assert kept["lesion"].ravel().tolist() == [0, 0, 1, 1]


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
    kept = after(maps, Fusion(hosts={"tumor": ("liver",)}))
    assert np.argwhere(kept["lesion"]).tolist() == [[1, 1, 1]]


def test_a_host_that_is_removed_later_still_counts_before():
    """Labels take their turn in the order of the table: when the liver's hosts are judged, the tumor is still there."""
    maps = {"organ": row(1, 0, 0), "lesion": row(0, 1, 0)}
    assert settled(maps, hosts={"liver": ("tumor",), "tumor": ("spleen",)}) == {"organ": [1, 0, 0], "lesion": [0, 0, 0]}
    gone = {"organ": [0, 0, 0], "lesion": [0, 0, 0]}
    assert settled(maps, hosts={"liver": ("spleen",), "tumor": ("liver",)}) == gone


SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(1, 4))
NAMES = LABELS.names[1:]


def without_itself(hosts):
    return {name: tuple(sorted(others - {name})) for name, others in hosts.items()}


RULES = st.fixed_dictionaries(
    {
        "largest": st.sets(st.sampled_from(NAMES), max_size=2).map(tuple),
        "least_ml": st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.009, 0.017, 0.033]), max_size=2),
        "least_share": st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.25, 0.5, 1.0]), max_size=2),
        "hosts": st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES)), max_size=3).map(
            without_itself
        ),
        "near_mm": st.sampled_from([0, 2.5, 4.3, 6.5]),  # no squared distance between voxels is as large
    }
)
GROUPS = st.sampled_from([("organ", "lesion"), ("lesion", "organ"), ("organ",), ("lesion",)])


@settings(max_examples=120, deadline=None)
@given(
    shape=SHAPES,
    rules=RULES,
    groups=GROUPS,
    share=st.sampled_from([2, 5, 12]),
    descending=st.booleans(),
    data=st.data(),
)
def test_slice_by_slice_the_rules_do_what_they_do_to_whole_maps(shape, rules, groups, share, descending, data):
    values = st.sampled_from([0] * share + [1, 2])
    maps = {group: data.draw(arrays(np.uint8, shape, elements=values)) for group in groups}
    fusion = Fusion(**rules)
    found, expected = after(maps, fusion, descending=descending), by_whole_maps(maps, fusion)
    assert list(found) == list(maps)
    for group in groups:
        np.testing.assert_array_equal(found[group], expected[group])


def test_memory_is_a_small_part_of_the_maps():
    """Two maps of 300 slices are 9.8 MB; of each slice, disks and a few specks, half a kB remains."""
    y, x = np.mgrid[:128, :128]
    disk, specks = ((y - 64) ** 2 + (x - 64) ** 2 < 40**2).astype(np.uint8), np.zeros((128, 128), dtype=np.uint8)
    specks[[3, 60, 125], [4, 60, 120]] = 1
    slices = ((z, {"organ": disk, "lesion": specks * (z % 5 < 2)}) for z in range(300))
    fusion = Fusion(largest=("liver",), least_ml={"tumor": 0.001}, hosts={"tumor": ("liver",)}, near_mm=20)
    tracemalloc.start()
    try:
        found = Settled(slices, fusion, groups=("organ", "lesion"), labels=LABELS, grid=Grid((300, 128, 128), AFFINE))
        kept = sum(int(found.maps(z)["lesion"].sum()) for z in range(300))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept == 120  # of three specks in two of five slices that on the liver
    assert peak < 4e6
