"""Counts that can be checked by hand, and against the networks that are built."""

import pytest
import torch

from flarenet.networks import NETWORKS, build, parameter_count
from flarenet.planning.cost import LAYERS, cost
from flarenet.planning.plan import NetworkSpec

OUTPUTS = {"organ": 13, "cancer": 1}
DUAL = NetworkSpec(kind="dual_decoder", dimensions=2, features=(16, 32, 64, 128, 256, 128), groups=("organ", "cancer"))
UNET = NetworkSpec(kind="unet", dimensions=3, features=(16, 16, 32, 64, 128, 16), groups=("organ",))


def test_every_network_is_counted():
    assert set(LAYERS) == set(NETWORKS)


@pytest.mark.parametrize("kind", sorted(set(NETWORKS) - {"mae_vit"}))
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


def test_the_parameters_of_a_masked_autoencoder_are_those_of_the_network_that_is_built():
    pytest.importorskip("monai")
    spec = NetworkSpec(kind="mae_vit", dimensions=3, features=(96, 192, 2, 4, 48, 96, 1, 4), groups=())
    built = parameter_count(build(spec, {}, (32, 48, 32)))
    assert cost(spec, {}, (32, 48, 32)).parameters == built


def test_numbers_kept_grow_with_the_patch_and_parameters_do_not():
    one, four = cost(DUAL, OUTPUTS, (64, 64)), cost(DUAL, OUTPUTS, (128, 128))
    assert (four.kept, four.alive, four.products) == (4 * one.kept, 4 * one.alive, 4 * one.products)
    assert four.parameters == one.parameters


def test_a_network_without_an_entry_has_no_cost():
    assert cost(DUAL.model_copy(update={"kind": "mine"}), OUTPUTS, (64, 64)) is None
