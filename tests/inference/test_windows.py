"""Slabs cover a scan once, in order, and are blended as MONAI's sliding_window_inference does it."""

import numpy as np
import pytest
import torch
from torch import nn

from flarenet.inference.engines.engine import TorchEngine
from flarenet.inference.windows import padded, slabs, window_starts, window_weight


class Echo(nn.Module):
    """Logits that a reader can follow: the input itself and its square, or a sum over the window's neighbours."""

    def forward(self, x):
        return {"organ": torch.cat([x, x * x], dim=1), "cancer": 3 * x}


def convolution(dimensions):
    """A network whose answer depends on the window's borders, so that blending matters."""
    torch.manual_seed(0)
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions](1, 3, kernel_size=5, padding=2)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv

        def forward(self, x):
            return {"organ": self.conv(x)}

    return Net()


def run(network, image, patch, *, overlap=0.25, batch_size=2):
    engine = TorchEngine(network, dimensions=len(patch))
    return list(slabs(engine, iter(image), image.shape, patch=patch, overlap=overlap, batch_size=batch_size))


def whole(found, group):
    return torch.cat([logits[group] for _, logits in found], dim=1)


@pytest.mark.parametrize("shape", [(5, 20, 17), (5, 40, 17), (1, 20, 60), (7, 33, 33), (40, 9, 33)])
@pytest.mark.parametrize("patch", [(20, 24), (16, 20, 24)])
def test_every_voxel_is_answered_once_in_order(shape, patch):
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    found = run(Echo(), image, patch)
    ends = np.cumsum([logits["organ"].shape[1] for _, logits in found])
    assert [start for start, _ in found] == [0, *ends[:-1]]
    expected = torch.from_numpy(image)
    torch.testing.assert_close(whole(found, "organ"), torch.stack([expected, expected**2]))
    torch.testing.assert_close(whole(found, "cancer"), 3 * expected[None])
    assert whole(found, "organ").dtype == torch.float32


LARGER = [((3, 50, 70), (32, 24)), ((30, 41, 33), (16, 20, 24))]
SMALLER = [((4, 21, 25), (32, 32)), ((4, 50, 25), (32, 32)), ((5, 21, 25), (16, 32, 32)), ((20, 21, 50), (16, 32, 32))]


@pytest.mark.parametrize("shape, patch", [*LARGER, *SMALLER])
@pytest.mark.parametrize("overlap", [0.25, 0.6])
def test_windows_are_laid_and_blended_as_monai_does_it(shape, patch, overlap):
    inferers = pytest.importorskip("monai.inferers")
    image = np.random.default_rng(1).random(shape, dtype=np.float32)
    network = convolution(len(patch))
    tensor = torch.from_numpy(image)
    inputs = tensor[:, None] if len(patch) == 2 else tensor[None, None]
    with torch.inference_mode():
        expected = inferers.sliding_window_inference(
            inputs, patch, 4, lambda x: network(x)["organ"], overlap=overlap, mode="gaussian", sigma_scale=0.125
        )
    expected = expected.transpose(0, 1) if len(patch) == 2 else expected[0]
    torch.testing.assert_close(
        whole(run(network, image, patch, overlap=overlap), "organ"), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("patch", [(32, 32), (16, 32, 32)])
def test_a_small_image_lies_in_the_middle_of_air(patch):
    seen = []

    class Watched(Echo):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    image = np.ones((5, 21, 25), dtype=np.float32)
    run(Watched(), image, patch, batch_size=8)
    (window,) = (x[:, 0] if len(patch) == 2 else x[0, 0] for x in seen)
    inside = np.zeros(window.shape, dtype=np.float32)
    # 11 and 7 are missing across a slice, and 11 along a block: the smaller half before
    inside[slice(None) if len(patch) == 2 else slice(5, 10), 5:26, 3:28] = 1
    np.testing.assert_array_equal(window.numpy(), inside)


@pytest.mark.parametrize("overlap", [0, 0.25, 0.7])
def test_the_logits_of_blocks_come_slice_by_slice_and_hold_no_more_memory(overlap):
    """Two channels in float32: the sums are held for a patch of slices, what is given out for itself."""
    found = run(Echo(), np.zeros((37, 20, 20), dtype=np.float32), (16, 20, 20), overlap=overlap)
    assert [start for start, _ in found] == list(range(37))
    assert {logits["organ"].untyped_storage().nbytes() for _, logits in found} == {4 * 2 * 20 * 20}


def test_windows_end_with_the_axis():
    assert window_starts(10, 10, 0.5) == [0]
    assert window_starts(7, 10, 0.5) == [0]
    assert window_starts(11, 10, 0.5) == [0, 1]
    assert window_starts(20, 10, 0.5) == [0, 5, 10]
    assert window_starts(23, 10, 0.25) == [0, 7, 13]


@pytest.mark.parametrize("library", [np, torch])
def test_a_window_weighs_most_at_its_centre(library):
    weight = window_weight((5, 9), library)
    assert weight.dtype == library.float32 and tuple(weight.shape) == (5, 9)
    assert weight.argmax().item() == 2 * 9 + 4 and weight[2, 4] == 1
    # (sigma = 9 / 8; one voxel away: exp(-1 / (2 * 81 / 64)))
    assert weight[2, 3].item() == pytest.approx(np.exp(-64 / 162))
    assert weight[0, 0].item() == pytest.approx(1e-3)


@pytest.mark.parametrize("patch", [(224, 224), (45, 33), (16, 20, 24)])
def test_a_weight_is_the_same_with_torch_and_without_up_to_rounding(patch):
    np.testing.assert_allclose(window_weight(patch, np), window_weight(patch, torch).numpy(), rtol=1e-6)


def test_an_image_is_padded_with_zeros_on_its_last_axes():
    image = np.arange(1, 7).reshape(1, 2, 3)
    found = padded(image, [(1, 0), (0, 2)])
    assert found.dtype == np.float32
    assert found.tolist() == [[[0, 0, 0, 0, 0], [1, 2, 3, 0, 0], [4, 5, 6, 0, 0]]]
    assert padded(image, [(0, 0), (0, 0)]).tolist() == image.tolist()


def test_an_image_without_voxels_yields_nothing():
    assert run(Echo(), np.zeros((0, 4, 4), dtype=np.float32), (8, 8)) == []


class Channels(nn.Module):
    """Answers with the channels it sees, so that a reader can tell which slices they are."""

    def forward(self, x):
        return {"organ": x}


@pytest.mark.parametrize("patch", [(20, 24), (12, 12)])
def test_a_slice_is_seen_with_its_neighbours(patch):
    image = np.random.default_rng(0).random((5, 20, 17), dtype=np.float32)
    engine = TorchEngine(Channels(), dimensions=2)
    how = {"patch": patch, "overlap": 0.25, "batch_size": 2, "neighbours": 1}
    channels = whole(list(slabs(engine, iter(image), image.shape, **how)), "organ").numpy()
    highest_first = list(slabs(engine, iter(image[::-1]), image.shape, descending=True, **how))
    np.testing.assert_array_equal(whole(highest_first[::-1], "organ").numpy(), channels)
    below, above = image[[0, 0, 1, 2, 3]], image[[1, 2, 3, 4, 4]]
    np.testing.assert_allclose(channels, np.stack([below, image, above]), atol=1e-6)
