"""Counts that can be checked by hand, and against the networks that are built."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from flarenet.networks import NETWORKS, build
from flarenet.planning.cost.kinds import KINDS, cost
from flarenet.planning.plan import NetworkSpec
from tests.networks.test_networks import parameter_count

OUTPUTS = {"organ": 13, "cancer": 1}
DUAL = NetworkSpec(kind="dual_decoder", dimensions=2, features=(16, 32, 64, 128, 256, 128), groups=("organ", "cancer"))
UNET = NetworkSpec(kind="unet", dimensions=3, features=(16, 16, 32, 64, 128, 16), groups=("organ",))
TRANSFORMERS = {
    "unetr": (48, 96, 4, 4, 8),
    "swin_unetr": (12,),
    "mae_vit": (96, 192, 2, 4, 48, 96, 1, 4),
    "mae_swin": (12,),
}


def test_every_network_is_known():
    assert set(KINDS) == set(NETWORKS)


@pytest.mark.parametrize("kind", sorted(set(NETWORKS) - set(TRANSFORMERS)))
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("widths, deep", [((8, 12, 16, 8), 1), ((8, 16, 32, 32, 48, 64, 64, 8), 0), ((8,) * 7, 4)])
def test_parameters_are_those_of_the_network_that_is_built(kind, dimensions, widths, deep):
    blocks = (1, 2, 3, 1, 1, 2, 1)[: len(widths) - 1] if kind.startswith("residual") else ()
    spec = NetworkSpec(
        kind=kind,
        dimensions=dimensions,
        input_channels=3,
        features=widths,
        blocks=blocks,
        groups=tuple(OUTPUTS),
        deep_supervision=deep,
    )
    with torch.device("meta"):
        assert cost(spec, OUTPUTS, (64,) * dimensions).parameters == parameter_count(build(spec, OUTPUTS))


def test_multiply_adds_are_the_published_ones():
    """22.9 G for the 2D network on a slice of 224 x 224, 75.6 G for the 3D one on a block of 128^3."""
    assert cost(DUAL, OUTPUTS, (224, 224)).products == pytest.approx(22.9e9, rel=0.005)
    assert cost(UNET, OUTPUTS, (128, 128, 128)).products == pytest.approx(75.6e9, rel=0.005)


@pytest.mark.parametrize(("kind", "features"), TRANSFORMERS.items())
def test_transformers_are_counted_as_they_are_built(kind, features):
    """Parameters to the last one, multiply-adds as torch counts them (a multiply and an add are two of its flops)."""
    pytest.importorskip("monai")
    groups = () if kind.startswith("mae") else tuple(OUTPUTS)
    spec, patch = NetworkSpec(kind=kind, dimensions=3, features=features, groups=groups), (64, 96, 32)
    network, counted = build(spec, OUTPUTS, patch).eval(), cost(spec, OUTPUTS, patch)
    assert counted.parameters == parameter_count(network)
    samples = 2  # one goes to operations of oneDNN that torch does not count
    with torch.inference_mode(), FlopCounterMode(display=False) as flops:
        network(torch.rand(samples, 1, *patch))
    assert counted.products == pytest.approx(flops.get_total_flops() / 2 / samples, rel=0.001)


def test_the_published_sizes_of_the_transformers():
    """UNETR at 96^3 with ViT-B has 92.8 M, Swin UNETR of width 48 has 62.2 M."""
    unetr = NetworkSpec(kind="unetr", dimensions=3, features=(768, 3072, 12, 12, 16), groups=("organ",))
    swin = NetworkSpec(kind="swin_unetr", dimensions=3, features=(48,), groups=("organ",))
    assert cost(unetr, OUTPUTS, (96, 96, 96)).parameters == pytest.approx(92.8e6, rel=0.003)
    assert cost(swin, OUTPUTS, (96, 96, 96)).parameters == pytest.approx(62.19e6, rel=0.001)


def test_numbers_kept_grow_with_the_patch_and_parameters_do_not():
    one, four = cost(DUAL, OUTPUTS, (64, 64)), cost(DUAL, OUTPUTS, (128, 128))
    assert (four.peak, four.alive, four.products) == (4 * one.peak, 4 * one.alive, 4 * one.products)
    assert four.parameters == one.parameters


def test_going_backward_what_later_layers_kept_is_gone():
    """Per pixel of a two-level U-Net with 8 and 16 channels and heads of 1 + 13; the widest layer is not the last.

    Kept: level 0 2 x 16; level 1 (a quarter of the pixels each) pooled 24, two convolutions 32 each, so 22; raised and
    joined 24; at its first convolution 16 more: 94. Making its gradients: 2 x (16 raised + 24 read + 16) = 112.
    The head and loss come after: 94 + 16 + 84 kept, and 8, is less than 94 + 112.
    """
    spec = NetworkSpec(kind="unet", dimensions=2, features=(8, 16, 8), groups=("organ",))
    assert cost(spec, OUTPUTS, (1, 1)).peak == 32 + 22 + 24 + 16 + 2 * (16 + 24 + 16)


def test_a_network_without_a_row_has_no_cost():
    assert cost(DUAL.model_copy(update={"kind": "mine"}), OUTPUTS, (64, 64)) is None
