"""The instance norm of other devices than the CPU, beside torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flarenet.networks.norm import instance_norm

SHAPES = [((3, 5, 7, 9), torch.channels_last), ((2, 4, 5, 6, 7), torch.channels_last_3d)]


@pytest.mark.parametrize(("shape", "order"), SHAPES)
def test_values_and_gradients_are_those_of_torch(shape, order):
    x, weight, bias = given(shape, order, torch.float64)
    found, expected = instance_norm(x, weight, bias), F.instance_norm(x, weight=weight, bias=bias)
    torch.testing.assert_close(found, expected)
    slope = torch.randn_like(found)
    for ours, theirs in zip(*(torch.autograd.grad(y, (x, weight, bias), slope) for y in (found, expected))):
        torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradcheck(instance_norm, (x, weight, bias))


@pytest.mark.parametrize(("shape", "order"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_type_and_order_of_the_input_are_kept(shape, order, dtype):
    x, weight, bias = given(shape, order, torch.float32)
    small = x.detach().to(dtype).requires_grad_()
    found = instance_norm(small, weight, bias)
    (slope,) = torch.autograd.grad(found.float().square().sum(), small)
    assert found.dtype == slope.dtype == dtype
    assert found.is_contiguous(memory_format=order) and slope.is_contiguous(memory_format=order)
    expected = F.instance_norm(small.float(), weight=weight, bias=bias)
    torch.testing.assert_close(found.float(), expected, atol=16 * torch.finfo(dtype).eps, rtol=torch.finfo(dtype).eps)


def test_a_mean_far_from_zero_costs_few_digits():
    x = (100 + torch.randn(2, 3, 64, 64)).requires_grad_()  # 100 standard deviations
    ones, zeros = torch.ones(3), torch.zeros(3)
    torch.testing.assert_close(instance_norm(x, ones, zeros), F.instance_norm(x), atol=2e-3, rtol=2e-3)


def test_products_that_float16_cannot_hold_make_no_gradient_infinite():
    x = (200 * torch.randn(1, 2, 8, 8)).to(torch.float16).requires_grad_()
    weight = torch.ones(2, requires_grad=True)
    slope = torch.full_like(x, 30000.0)
    found = torch.autograd.grad(instance_norm(x, weight, torch.zeros(2)), (x, weight), slope)
    assert all(torch.isfinite(each).all() for each in found)


def given(shape: tuple[int, ...], order: torch.memory_format, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = (2 + 3 * torch.randn(shape, dtype=dtype)).contiguous(memory_format=order)
    weight, bias = torch.randn(shape[1], dtype=dtype), torch.randn(shape[1], dtype=dtype)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()
