"""Parameter counts of the paper, equality with MONAI's BasicUNet, shapes, and the names of groups."""

import pytest
import torch
from torch import nn

from flarenet.errors import PlanError, UsageError
from flarenet.networks import build, module_name
from flarenet.networks.blocks import stage
from flarenet.planning.plan import NetworkSpec

SMALL = (4, 4, 8, 8, 16, 4)
PAPER_3D = (16, 16, 32, 64, 128, 16)
PAPER_2D = (16, 32, 64, 128, 256, 128)
U_SHAPED = ["dual_decoder", "residual_dual_decoder", "residual_unet", "unet"]


def spec(kind, dimensions, features=SMALL, groups=("organ", "cancer"), deep=0):
    blocks = (1, 2, 1, 1, 1, 1, 1)[: len(features) - 1] if kind.startswith("residual") else ()
    return NetworkSpec(
        kind=kind, dimensions=dimensions, features=features, blocks=blocks, groups=groups, deep_supervision=deep
    )


def parameter_count(network):
    """How many numbers a network has; position codes that are fixed count too."""
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("labels, expected", [(1, 1_438_802), (13, 1_439_006)])
def test_the_3d_network_has_as_many_parameters_as_the_papers(labels, expected):
    network = build(spec("unet", 3, PAPER_3D, ("organ",)), {"organ": labels})
    assert parameter_count(network) == expected


def test_the_dual_decoder_has_as_many_parameters_as_the_papers():
    assert parameter_count(build(spec("dual_decoder", 2, PAPER_2D), {"organ": 13, "cancer": 1})) == 2_388_096


# two samples of each: of one block both libraries' convolutions are not the same operation (test_layers.py)
@pytest.mark.parametrize("size", [(2, 1, 48, 33), (2, 1, 32, 32, 35), (2, 1, 37, 18, 41)])
def test_the_unet_computes_what_basic_unet_computes(size):
    monai_nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(1)
    dimensions = len(size) - 2
    reference = monai_nets.BasicUNet(spatial_dims=dimensions, in_channels=1, out_channels=4, features=SMALL)
    for parameter in reference.parameters():  # the scale and shift of a fresh norm are 1 and 0, which hides mistakes
        nn.init.normal_(parameter, std=0.3)
    network = build(spec("unet", dimensions, groups=("organ",)), {"organ": 3})
    ours, theirs = network.state_dict(), list(reference.state_dict().values())
    network.load_state_dict(dict(zip(ours, theirs, strict=True)))
    x = torch.rand(size)
    torch.testing.assert_close(network(x)["organ"], reference(x), rtol=1e-6, atol=1e-6)


def test_a_dual_decoder_with_one_group_is_a_unet():
    torch.manual_seed(2)
    one, dual = (build(spec(kind, 2, groups=("organ",)), {"organ": 2}) for kind in ("unet", "dual_decoder"))
    dual.load_state_dict(dict(zip(dual.state_dict(), one.state_dict().values(), strict=True)))
    x = torch.rand(1, 1, 32, 48)
    torch.testing.assert_close(dual(x)["organ"], one(x)["organ"])


@pytest.mark.parametrize("kind", U_SHAPED)
@pytest.mark.parametrize("size", [(2, 1, 32, 48), (1, 1, 45, 33), (1, 1, 32, 32, 33)])
def test_every_network_gives_one_head_per_group(kind, size):
    network = build(spec(kind, len(size) - 2, groups=("a", "b", "c")), {"a": 5, "b": 1, "c": 2, "unused": 9})
    x = torch.rand(size)
    logits = network(x)
    assert {group: tuple(t.shape) for group, t in logits.items()} == {
        group: (size[0], 1 + n, *size[2:]) for group, n in {"a": 5, "b": 1, "c": 2}.items()
    }
    only = network(x, groups=("b",))
    assert list(only) == ["b"]
    torch.testing.assert_close(only["b"], logits["b"])


@pytest.mark.parametrize("kind", U_SHAPED)
@pytest.mark.parametrize("resolutions", [3, 4, 6, 7])
def test_a_network_is_as_deep_as_its_features_say(kind, resolutions):
    network = build(spec(kind, 2, (4,) * (resolutions + 1)), {"organ": 2, "cancer": 1})
    size = 2**resolutions  # two voxels along each axis at the coarsest resolution: the fewest a norm can work with
    coarsest = network.encode(torch.rand(1, 1, size, size + 3))[-1]
    assert coarsest.shape == (1, 4, 2, 2)
    assert network(torch.rand(1, 1, size, size + 3))["organ"].shape == (1, 3, size, size + 3)


def test_a_residual_stage_adds_its_input():
    residual = stage(2, 3, 3, blocks=2)
    for parameter in residual.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(1, 3, 8, 8)  # positive, so that the rectifier leaves the sum as it is
    torch.testing.assert_close(residual(x), x)


@pytest.mark.parametrize("kind", ["dual_decoder", "residual_dual_decoder"])
def test_a_group_trains_alone_in_its_own_decoder(kind):
    network = build(spec(kind, 2), {"organ": 2, "cancer": 1})
    network(torch.rand(1, 1, 32, 32), groups=("cancer",))["cancer"].sum().backward()
    touched = {name.split(".")[0] for name, p in network.decoders.named_parameters() if p.grad is not None}
    assert touched == {"cancer"}


@pytest.mark.parametrize("kind", U_SHAPED)
def test_deep_supervision_answers_at_coarser_scales_in_training_and_not_in_prediction(kind):
    outputs, x = {"organ": 2, "cancer": 1}, torch.rand(2, 1, 48, 35)
    plain, deep = build(spec(kind, 2), outputs), build(spec(kind, 2, deep=3), outputs)
    sides = ((48, 35), (24, 17), (12, 8), (6, 4))
    for group, scales in deep(x).items():
        assert [tuple(logits.shape) for logits in scales] == [(2, 1 + outputs[group], *side) for side in sides]
        (gradient,) = torch.autograd.grad(scales[3].sum(), next(deep.conv_0.parameters()), retain_graph=True)
        assert torch.count_nonzero(gradient)
    shared = {name: tensor for name, tensor in deep.state_dict().items() if "coarse_heads" not in name}
    plain.load_state_dict(shared)
    only, bare = deep.eval()(x), plain.eval()(x)
    assert all(torch.equal(only[group], bare[group]) for group in outputs)
    # widths 4, 8, 8 at S/2, S/4, S/8: (4 + 1 + 8 + 1 + 8 + 1) numbers for each of 3 + 2 channels
    assert parameter_count(deep) - parameter_count(plain) == 23 * 5
    assert not any("coarse_heads" in name for name in plain.state_dict())


def test_the_coarse_heads_of_a_group_learn_with_its_decoder_alone():
    network = build(spec("dual_decoder", 2, deep=2), {"organ": 2, "cancer": 1})
    own = {name for name, _ in network.named_parameters() if name.startswith("decoders.cancer.")}
    assert sum("coarse_heads" in name for name in own) == 4
    answer = network(torch.rand(1, 1, 32, 32), groups=("cancer",))["cancer"]
    sum(logits.sum() for logits in answer).backward()
    touched = {name for name, p in network.named_parameters() if name.startswith("decoders.") and p.grad is not None}
    assert touched == own


def test_odd_group_names_get_submodules_of_their_own():
    names = ["organ", "train", "type", "a.b", "a_b", "", "train~", "größe", "a b"]
    assert module_name("organ") == "organ"
    assert len({module_name(name) for name in names}) == len(names)
    for kind in U_SHAPED:
        network = build(spec(kind, 2, groups=tuple(names)), dict.fromkeys(names, 1))
        assert list(network(torch.rand(1, 1, 32, 32))) == names


def test_the_same_seed_gives_the_same_network():
    def first_weight():
        torch.manual_seed(7)
        return build(spec("unet", 2), {"organ": 1, "cancer": 1}).conv_0.conv_0.conv.weight

    torch.testing.assert_close(first_weight(), first_weight(), rtol=0, atol=0)


def test_names_and_numbers_that_make_no_network_are_refused():
    with pytest.raises(UsageError, match="did you mean 'unet'"):
        build(spec("unett", 2), {"organ": 1, "cancer": 1})
    with pytest.raises(UsageError, match="unknown group 'cancer'"):
        build(spec("unet", 2), {"organ": 1})
    for features in ((4, 4, 8), (4,) * 9):
        with pytest.raises(PlanError, match=f"network 'unet': features\n.*{len(features)} numbers"):
            build(spec("unet", 2, features=features), {"organ": 1, "cancer": 1})
    plain = spec("unet", 2).model_copy(update={"blocks": (1,) * 5})
    with pytest.raises(PlanError, match="network 'unet': blocks"):
        build(plain, {"organ": 1, "cancer": 1})
    with pytest.raises(PlanError, match="deep_supervision\n.*4\n.*at most 3"):
        build(spec("unet", 2, deep=4), {"organ": 1, "cancer": 1})
    with pytest.raises(PlanError, match="5 numbers, one for each resolution"):
        build(plain.model_copy(update={"kind": "residual_unet", "blocks": (1, 1)}), {"organ": 1, "cancer": 1})
