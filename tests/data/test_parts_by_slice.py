"""Parts that are found slice by slice are those of the whole maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation, label

from flarenet.data.parts_by_slice import PartsBySlice

AROUND = np.ones((3, 3, 3), dtype=bool)
SHAPE = (4, 4, 5)
MANY, FEW = ([0] * zeros + [1, 2] for zeros in (1, 5))


def found(maps, *, descending=False, touching=()):
    """The Parts of {name: [Z, Y, X]}, and {name: [Z, Y, X] of their numbers}."""
    parts = PartsBySlice(touching)
    order = range(len(next(iter(maps.values()))))[:: -1 if descending else 1]
    for z in order:
        parts.add(z, {name: drawn[z] for name, drawn in maps.items()})
    joined = parts.joined()
    numbers = {
        name: np.stack([joined.of_pixels(z, name, plane) for z, plane in enumerate(drawn)])
        for name, drawn in maps.items()
    }
    return joined, numbers


@pytest.mark.parametrize("values", [MANY, FEW])
@pytest.mark.parametrize("descending", [False, True])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_parts_are_those_of_the_whole_in_the_order_of_their_first_voxels(values, descending, data):
    maps = {
        "organ": data.draw(arrays(np.uint8, SHAPE, elements=st.sampled_from(values))),
        "lesion": data.draw(arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 0, 0, 0, 7]))),
    }
    parts, numbers = found(maps, descending=descending, touching=[("organ", "lesion")])
    whole = {}
    for name, drawn in maps.items():
        for value in np.unique(drawn[drawn > 0]):
            number, count = label(drawn == value, AROUND)  # numbered by first voxels, too
            for part in range(1, count + 1):
                (own,) = np.unique(numbers[name][number == part])
                assert own and np.array_equal(numbers[name] == own, number == part)
                assert (parts.label[own], parts.voxels[own]) == (value, (number == part).sum())
                whole[int(own)] = number == part
            assert list(whole)[-count:] == sorted(list(whole)[-count:])
    assert sorted(whole) == list(range(1, len(parts.label)))
    touching = {
        (one, other)
        for one in whole
        for other in whole
        if one < other
        and parts.label[one] != parts.label[other]
        and (binary_dilation(whole[one], AROUND) & whole[other]).any()
    }
    assert {(min(pair), max(pair)) for pair in parts.touching.tolist()} == touching


def test_a_part_that_splits_and_meets_again_is_one():
    drawn = np.zeros((3, 3, 5), dtype=np.uint8)
    drawn[0, 1, :] = drawn[1, 1, [0, 4]] = drawn[2, 1, 2] = 1
    for descending in (False, True):  # highest first, the two legs are apart until the last slice
        parts, numbers = found({"": drawn}, descending=descending)
        assert parts.voxels.tolist() == [0, 7, 1] and numbers[""][2, 1, 2] == 2


def test_maps_without_labels_have_no_parts():
    for maps in ({"": np.zeros((2, 3, 3), dtype=np.uint8)}, {"": np.zeros((1, 1, 1), dtype=np.uint8)}):
        parts, numbers = found(maps)
        assert parts.label.tolist() == parts.voxels.tolist() == [0] and not numbers[""].any()
        assert parts.touching.shape == (0, 2)
    assert PartsBySlice().joined().voxels.tolist() == [0]
