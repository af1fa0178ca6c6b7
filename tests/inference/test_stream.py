"""Streaming gives what resampling the whole at once would give, on the scan's own grid."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from flarenet.data.labels import LabelSet
from flarenet.inference.stream import answer_of, collected, places
from flarenet.planning.fusion import Fusion
from flarenet.preparation.prepare import Frame
from flarenet.volume import Box, Grid, Orientation


def frame_of(original_shape, box, network_shape, orientation=None):
    orientation = orientation or Orientation()
    original = Grid(original_shape, np.eye(4))
    upright = orientation.apply_to_grid(original).cropped(box)
    return Frame(original, orientation, box, upright.resampled(network_shape))


LABELS = LabelSet(names=("", "a", "b", "c", "d"), groups={"organ": (1, 2, 3, 4)})


def draw(slabs, frame, *, labels=LABELS, descending=False):
    """The map of the first group of `labels`, on the scan's own grid."""
    group = next(iter(labels.groups))
    shape = frame.reoriented.shape
    order = range(shape[0])[:: -1 if descending else 1]
    answers = (
        answer_of(z, place, frame, groups=[group], fusion=Fusion(), labels=labels)
        for z, place in zip(order, places(slabs, frame, descending=descending), strict=True)
    )
    return frame.orientation.undo(collected(answers, shape)[group])


def in_slabs(logits, depth):
    for start in range(0, logits.shape[1], depth):
        yield start, {"organ": logits[:, start : start + depth]}


@pytest.mark.parametrize("network_shape", [(9, 12, 10), (5, 12, 10), (23, 12, 10), (1, 7, 5), (2, 30, 31), (9, 6, 20)])
@pytest.mark.parametrize("depth", [1, 4, 100])
def test_streaming_is_trilinear_interpolation_of_the_whole_then_argmax(network_shape, depth):
    box = Box((2, 1, 0), (11, 13, 10))
    logits = torch.randn((5, *network_shape), generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(logits[None], size=box.shape, mode="trilinear", align_corners=False)[0]
    expected = np.zeros((12, 14, 11), dtype=np.uint8)
    expected[box.slices] = whole.argmax(0).numpy()
    frame = frame_of(expected.shape, box, network_shape)
    drawn = draw(in_slabs(logits, depth), frame)
    np.testing.assert_array_equal(draw(reversed(list(in_slabs(logits, depth))), frame, descending=True), drawn)

    highest = whole.topk(2, dim=0).values
    clear = np.ones(expected.shape, dtype=bool)
    clear[box.slices] = (highest[0] - highest[1] > 1e-5).numpy()
    assert drawn.dtype == np.uint8 and clear.mean() > 0.99
    np.testing.assert_array_equal(drawn[clear], expected[clear])


def test_equal_logits_give_the_lower_label():
    frame = frame_of((3, 4, 5), Box((0, 0, 0), (3, 4, 5)), (3, 4, 5))
    assert not draw(in_slabs(torch.zeros(4, 3, 4, 5), 2), frame).any()


@given(
    axes=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.booleans()] * 3),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_map_drawn_upright_comes_back_in_the_scans_order(axes, flips, shape, data):
    scan = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)
    orientation = Orientation(tuple(axes), flips)
    upright = orientation.apply(scan)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in upright.shape)
    box = Box(start, upright.shape)
    one_hot = F.one_hot(torch.from_numpy(upright[box.slices].astype(np.int64)), 4).movedim(-1, 0).float()
    drawn = draw(in_slabs(one_hot, 2), frame_of(shape, box, box.shape, orientation))
    inside = np.zeros(upright.shape, dtype=bool)
    inside[box.slices] = True
    np.testing.assert_array_equal(drawn, np.where(orientation.undo(inside), scan, 0))


@pytest.mark.parametrize("starts", [(0, 3), (1,), (0,)])
def test_slabs_with_gaps_are_refused(starts):
    frame = frame_of((4, 4, 4), Box((0, 0, 0), (4, 4, 4)), (4, 4, 4))
    broken = ((start, {"organ": torch.zeros(2, 2, 4, 4)}) for start in starts)
    with pytest.raises(ValueError, match="slab"):
        draw(broken, frame)
