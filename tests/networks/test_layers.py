"""The layers that stand for torch's where torch is slow, beside torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from flarenet.networks.layers import Conv3d

SLOW = "aten::slow_conv3d_forward"


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
def test_a_convolution_is_that_of_torch(samples, order):
    ours, theirs = convolutions()
    x = torch.rand(samples, 4, 6, 7, 8).contiguous(memory_format=order)
    found, expected = ours(x), theirs(x)
    torch.testing.assert_close(found, expected)
    slope = torch.rand_like(expected)
    gradients = [torch.autograd.grad(y, tuple(of.parameters()), slope) for y, of in ((found, ours), (expected, theirs))]
    for left, right in zip(*gradients):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


def test_a_single_sample_does_not_take_the_slow_way():
    ours, theirs = convolutions()
    x = torch.rand(1, 4, 6, 7, 8)
    assert SLOW in operations(theirs, x), "torch is no longer slow here: Conv3d has lost its reason"
    assert SLOW not in operations(ours, x)


def test_other_types_are_left_to_torch():
    ours, theirs = convolutions()
    x = torch.rand(1, 4, 6, 7, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
    torch.testing.assert_close(ours.double()(x.double()), theirs.double()(x.double()))


def convolutions() -> tuple[Conv3d, nn.Conv3d]:
    torch.manual_seed(0)
    ours, theirs = Conv3d(4, 5, 3, padding=1), nn.Conv3d(4, 5, 3, padding=1)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def operations(network: nn.Module, x: torch.Tensor) -> set[str]:
    with profile(activities=[ProfilerActivity.CPU]) as seen, torch.no_grad():
        network(x)
    return {event.key for event in seen.key_averages()}
