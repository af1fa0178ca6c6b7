"""UNETR and Swin UNETR compute what MONAI's do, and take the encoder of a masked autoencoder."""

import pytest
import torch
from torch import nn

from flarenet.networks import build
from flarenet.networks.layers import Conv3d
from flarenet.planning.plan import NetworkSpec

UNETR, SWIN = (24, 48, 12, 2, 4), (12,)
SIZES = {"unetr": (32, 48, 16), "swin_unetr": (32, 64, 32)}
KINDS = list(SIZES)


def network(kind, groups=("organ",), features=None):
    spec = NetworkSpec(
        kind=kind, dimensions=3, features=features or (UNETR if kind == "unetr" else SWIN), groups=groups
    )
    return build(spec, {"organ": 3, "cancer": 1}, SIZES[kind])


def monai_s(kind):
    nets = pytest.importorskip("monai.networks.nets")
    if kind == "swin_unetr":
        return nets.SwinUNETR(in_channels=1, out_channels=4, feature_size=12)
    return nets.UNETR(1, 4, SIZES[kind], feature_size=4, hidden_size=24, mlp_dim=48, num_heads=2)


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_monai_s_computes(kind):
    """In float64: a norm of the two voxels that are left at the coarsest makes float32's last digits large."""
    torch.manual_seed(1)
    ours, theirs = network(kind).eval().double(), monai_s(kind).eval().double()
    for parameter in theirs.parameters():  # fresh norms have scale 1 and shift 0, which would hide a mistake
        nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.rand(1, 1, *SIZES[kind], dtype=torch.float64)
    torch.testing.assert_close(ours(x)["organ"], theirs(x))


@pytest.mark.parametrize("kind", KINDS)
def test_every_convolution_of_its_decoder_is_ours(kind):
    convolutions = [part for part in network(kind).decoder.modules() if isinstance(part, nn.Conv3d)]
    assert convolutions and all(isinstance(part, Conv3d) for part in convolutions)


@pytest.mark.parametrize("kind", KINDS)
def test_every_group_has_a_head(kind):
    both = network(kind, ("organ", "cancer"))
    x = torch.rand(1, 1, *SIZES[kind])
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = both(x.contiguous(memory_format=torch.channels_last_3d))
    assert {group: value.shape[1] for group, value in logits.items()} == {"organ": 4, "cancer": 2}
    assert list(both(x, ("cancer",))) == ["cancer"]


@pytest.mark.parametrize(
    "kind, features, pretraining, pretrained",
    [
        ("unetr", (24, 48, 2, 2, 4), "mae_vit", (24, 48, 2, 2, 12, 24, 1, 2)),
        ("swin_unetr", SWIN, "mae_swin", SWIN),
    ],
)
def test_its_encoder_is_that_of_the_masked_autoencoder(kind, features, pretraining, pretrained):
    spec = NetworkSpec(kind=pretraining, dimensions=3, features=pretrained, groups=())
    trained = build(spec, {}, SIZES[kind])
    network(kind, features=features).encoder.load_state_dict(trained.encoder.state_dict())
