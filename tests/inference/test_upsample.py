"""The labels of a slice of the scan: those of interpolating every logit, though few of them are."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from flarenet.inference.interpolated import logits_between
from flarenet.inference.upsample import UNSURE, NetworkSlice, labels_between, source_slices


def plain(lower, upper, share, size):
    """Every logit of [C, y, x], step by step in float32 as the module says: between slices, along x, along y."""
    share = np.float32(share)
    mixed = lower if share == 0 else upper if share == 1 else lower * (1 - share) + upper * share
    for axis, count in ((2, size[1]), (1, size[0])):
        if mixed.shape[axis] != count:
            below, part = source_slices(count, mixed.shape[axis])
            above = np.minimum(below + 1, mixed.shape[axis] - 1)
            part = part if axis == 2 else part[:, None]
            mixed = mixed.take(below, axis) * (1 - part) + mixed.take(above, axis) * part
    return mixed


def smooth(channels, height, width, seed):
    """Blobs, one for each label, as a trained network answers: two pixels in three lie in a cell with one label."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / np.array([[[height]], [[width]]])
    centre, radius = draw.random((2, channels, 1, 1)), draw.uniform(0.1, 0.4, (channels, 1, 1))
    logits = 8 - 8 * (((y - centre[0]) / radius) ** 2 + ((x - centre[1]) / radius) ** 2)
    return np.maximum(logits, -12).astype(np.float32)


def coarse(channels, height, width, seed):
    """Whole numbers, of which many are equal."""
    return np.random.default_rng(seed).integers(-1, 2, (channels, height, width)).astype(np.float32)


def noise(channels, height, width, seed):
    return np.random.default_rng(seed).normal(size=(channels, height, width)).astype(np.float32)


def slices(size, *planes):
    return [NetworkSlice({"organ": torch.from_numpy(plane)}, size) for plane in planes]


sides = st.integers(1, 40)


@given(
    kind=st.sampled_from([smooth, coarse, noise]),
    channels=st.integers(2, 15),
    source=st.tuples(sides, sides),
    size=st.tuples(sides, sides) | st.none(),
    share=st.sampled_from([0.0, 1.0, 0.5]) | st.floats(0, 1, width=32),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_labels_are_those_of_interpolating_everything(kind, channels, source, size, share, seed):
    size = size or source
    lower, upper = kind(channels, *source, seed), kind(channels, *source, seed + 1)
    between = slices(size, lower, upper)
    expected = plain(lower, upper, share, size)
    labels = labels_between(*between, share)["organ"]
    assert labels.dtype == np.uint8 and labels.shape == size
    np.testing.assert_array_equal(labels, expected.argmax(0))  # numpy too takes the first of equal ones
    np.testing.assert_array_equal(logits_between(*between, share)["organ"].numpy(), expected)


@pytest.mark.parametrize("size", [(512, 512), (224, 224), (100, 300)])
@pytest.mark.parametrize("share", [0, 0.3])
def test_at_full_size_most_logits_are_never_interpolated(size, share):
    lower, upper = smooth(14, 224, 224, 0), smooth(14, 224, 224, 0) - smooth(14, 224, 224, 1) / 9
    between = slices(size, lower, upper)
    labels = labels_between(*between, share)["organ"]
    np.testing.assert_array_equal(labels, plain(lower, upper, share, size).argmax(0))
    assert len(np.unique(labels)) > 6
    assert (between[0].cells["organ"] == UNSURE).mean() < 0.1


@pytest.mark.parametrize("size", [(6, 9), (31, 17), (13, 40), (13, 17)])
def test_logits_are_those_of_torch(size):
    lower, upper = noise(3, 13, 17, 0), noise(3, 13, 17, 1)
    block = torch.from_numpy(np.stack([lower, upper], axis=1)).double()[None]
    whole = F.interpolate(block, size=(8, *size), mode="trilinear", align_corners=False)[0]
    below, shares = source_slices(8, 2)
    for z, share in enumerate(shares):
        ours = logits_between(*slices(size, lower, upper), share)["organ"]
        assert abs(ours - whole[:, z]).max() <= 2e-6


def test_a_lead_smaller_than_rounding_is_looked_at():
    # label 1 leads by the last bit of 1 in one corner, label 0 in the other three: no corner is taken for granted
    lead = float(np.nextafter(np.float32(1), np.float32(2)))
    planes = np.array([[[1, lead], [lead, lead]], [[lead, 1], [1, 1]]], dtype=np.float32)
    between = slices((5, 5), planes, planes)
    assert (between[0].cells["organ"] == UNSURE).all()
    np.testing.assert_array_equal(labels_between(*between, 0.5)["organ"], plain(planes, planes, 0.5, (5, 5)).argmax(0))


def test_a_label_that_is_nowhere_the_best_of_a_pixel_may_be_so_between_them():
    # 10, 0 and 0, 10 cross at 5; the third is 8 all the way
    planes = np.array([[[10, 0]], [[0, 10]], [[8, 8]]], dtype=np.float32)
    assert labels_between(*slices((1, 6), planes, planes), 0)["organ"].tolist() == [[0, 0, 2, 2, 1, 1]]


def test_each_group_has_its_own_labels():
    logits = {"organ": torch.tensor([[[0.0]], [[1.0]]]), "cancer": torch.tensor([[[1.0]], [[0.0]]])}
    labels = labels_between(NetworkSlice(logits, (2, 2)), NetworkSlice(logits, (2, 2)), 0)
    assert labels["organ"].tolist() == [[1, 1], [1, 1]] and labels["cancer"].tolist() == [[0, 0], [0, 0]]


def test_source_slices_by_hand():
    # 4 slices from 2: centres at -0.25, 0.25, 0.75, 1.25 of the network's, kept within 0 and 1
    below, share = source_slices(4, 2)
    assert below.tolist() == [0, 0, 0, 0] and share.tolist() == [0, 0.25, 0.75, 1]
    # 2 slices from 4: centres at 0.5 and 2.5
    below, share = source_slices(2, 4)
    assert below.tolist() == [0, 2] and share.tolist() == [0.5, 0.5]
    below, share = source_slices(3, 1)
    assert below.tolist() == [0, 0, 0] and share.tolist() == [0, 0, 0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("share", [0, 0.3])
def test_a_gpu_gives_the_same_labels(share):
    lower, upper = smooth(14, 90, 80, 0), smooth(14, 90, 80, 1)
    here = slices((200, 210), lower, upper)
    there = [NetworkSlice({g: logits.cuda() for g, logits in each.logits.items()}, each.size) for each in here]
    np.testing.assert_array_equal(labels_between(*there, share)["organ"], labels_between(*here, share)["organ"])
