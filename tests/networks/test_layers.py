"""The layers that stand for torch's where torch is slow, beside torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from flarenet.networks.layers import Conv3d, InstanceNorm
from flarenet.networks.memory_order import training_order

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


@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((3, 5, 7, 9), torch.contiguous_format),
        ((3, 5, 7, 9), torch.channels_last),
        ((2, 4, 5, 6, 7), torch.contiguous_format),
        ((2, 4, 5, 6, 7), torch.channels_last_3d),
    ],
)
def test_the_norm_is_that_of_torch_in_each_order(shape, order, learning):
    torch.manual_seed(0)
    norm = InstanceNorm(shape[1])
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = (2 + 3 * torch.randn(shape)).contiguous(memory_format=order).requires_grad_()
    with torch.set_grad_enabled(learning):
        found, expected = norm(x), F.instance_norm(x, weight=norm.weight, bias=norm.bias)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=order)
    if learning:
        slope = torch.randn(shape)
        wanted = (x, norm.weight, norm.bias)
        for ours, theirs in zip(*(torch.autograd.grad(y, wanted, slope) for y in (found, expected))):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("instructions", "device", "two", "three"),
    [
        ("AVX2", "cpu", torch.contiguous_format, torch.channels_last_3d),
        ("AVX2", "cuda", torch.channels_last, torch.channels_last_3d),
        ("AVX512", "cpu", torch.channels_last, torch.channels_last_3d),
    ],
)
def test_channels_first_is_for_slices_on_a_cpu_without_avx512(monkeypatch, instructions, device, two, three):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    assert training_order(2, torch.device(device)) == two
    assert training_order(3, torch.device(device)) == three


@pytest.mark.parametrize("depth", [1, 2])
def test_of_two_slices_a_cpu_in_bfloat16_learns_what_it_would_in_float32(depth):
    """Where oneDNN sums what nobody wrote; the same to float32's last digits, so it was worked on in float32."""
    ours, theirs = convolutions()
    x = torch.randn(2, 4, depth, 6, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answered = ours(x)
    plain = theirs(x)
    assert answered.dtype == torch.bfloat16
    torch.testing.assert_close(answered, plain.bfloat16())
    slope = torch.randn(answered.shape).bfloat16()
    answered.backward(slope)
    plain.backward(slope.float())
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-5, atol=1e-5)


def convolutions() -> tuple[Conv3d, nn.Conv3d]:
    torch.manual_seed(0)
    ours, theirs = Conv3d(4, 5, 3, padding=1), nn.Conv3d(4, 5, 3, padding=1)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def operations(network: nn.Module, x: torch.Tensor) -> set[str]:
    with profile(activities=[ProfilerActivity.CPU]) as seen, torch.no_grad():
        network(x)
    return {event.key for event in seen.key_averages()}
