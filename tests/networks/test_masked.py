"""The masked autoencoders: the order of their cubes, their masks, their loss, and that they learn."""

import pytest
import torch

from flarenet.errors import PlanError
from flarenet.networks import build
from flarenet.networks.masked import cubes
from flarenet.planning.plan import NetworkSpec

VIT, SWIN = (24, 48, 1, 2, 12, 24, 1, 2), (12,)
SIZES = {"mae_vit": (32, 48, 32), "mae_swin": (32, 64, 32)}
KINDS = list(SIZES)


def autoencoder(kind, features=None, patch=None):
    features = features or (VIT if kind == "mae_vit" else SWIN)
    return build(NetworkSpec(kind=kind, dimensions=3, features=features, groups=()), {}, patch or SIZES[kind])


def test_cubes_are_in_the_order_of_the_embedding():
    x = torch.zeros(1, 1, 32, 48, 32)
    x[0, 0, 16:, 32:, :16] = 1  # second of z, third of y, first of x: token 1 * 6 + 2 * 2 + 0
    assert cubes(x).mean(-1).nonzero().tolist() == [[0, 10]]
    embedding = autoencoder("mae_vit").encoder.patch_embedding
    changed = (embedding(x) - embedding(torch.zeros_like(x))).abs().sum(-1)
    assert changed.nonzero().tolist() == [[0, 10]]


@pytest.mark.parametrize("kind", KINDS)
def test_three_quarters_of_the_cubes_are_hidden_and_the_seed_decides_which(kind):
    network, masks = autoencoder(kind), []
    x = torch.rand(2, 1, *SIZES[kind])
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(network(x)[1])
    assert masks[0].sum(1).tolist() == [masks[0].shape[1] * 3 // 4] * 2
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def hidden_voxels(hidden, size):
    """bool [1, 1, *size] from the mask of its cubes."""
    where = hidden.reshape(1, 1, *(n // 16 for n in size))
    for axis in (2, 3, 4):
        where = where.repeat_interleave(16, axis)
    return where


@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_sees_nothing_of_the_hidden_cubes(kind):
    network, size = autoencoder(kind).eval(), SIZES[kind]
    x = torch.rand(1, 1, *size)
    torch.manual_seed(3)
    predicted, hidden = network(x)
    where = hidden_voxels(hidden, size)
    torch.manual_seed(3)
    torch.testing.assert_close(predicted, network(torch.where(where, 0.5, x))[0])
    torch.manual_seed(3)
    assert not torch.allclose(predicted, network(torch.where(where, x, 0.5))[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_squared_error_of_hidden_voxels(kind):
    network, size = autoencoder(kind), SIZES[kind]
    for parameter in network.predict.parameters():
        torch.nn.init.zeros_(parameter)  # predicts 0 everywhere, so the error of a constant c is c^2
    torch.manual_seed(3)
    _, hidden = network(torch.zeros(1, 1, *size))
    x = torch.where(hidden_voxels(hidden, size), 0.3, 0.9)
    torch.manual_seed(3)
    assert network.reconstruction_loss(x).item() == pytest.approx(0.09, rel=1e-5)


def test_swin_fills_each_cube_where_it_lies():
    """The bias of the linear map alone, which is a picture of 32^3 voxels, laid side by side."""
    network = autoencoder("mae_swin")
    torch.nn.init.zeros_(network.predict.weight)
    picture = torch.rand(32, 32, 32)
    network.predict.bias.data.copy_(picture.flatten())
    predicted, _ = network(torch.rand(1, 1, 32, 64, 32))
    torch.testing.assert_close(predicted, cubes(torch.cat([picture, picture], dim=1)[None, None]))


@pytest.mark.parametrize(
    ("kind", "learning_rate", "steps", "left"), [("mae_vit", 1e-2, 30, 0.2), ("mae_swin", 2e-3, 3, 0.6)]
)
def test_it_learns_in_bf16(kind, learning_rate, steps, left):
    torch.manual_seed(0)
    network = autoencoder(kind)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    x = torch.linspace(0, 1, 32).expand(1, 1, *SIZES[kind])
    losses = []
    for _ in range(steps):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = network.reconstruction_loss(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < left * losses[0]


@pytest.mark.parametrize(
    "kind, features, patch",
    [
        ("mae_vit", VIT[:7], None),
        ("mae_vit", (25, *VIT[1:]), None),
        ("mae_vit", VIT, (32, 32, 40)),
        ("mae_vit", VIT, (16, 16, 16)),
        ("mae_swin", (16,), None),
        ("mae_swin", (12, 12), None),
        ("mae_swin", SWIN, (32, 48, 64)),
    ],
)
def test_numbers_that_make_no_autoencoder_are_refused(kind, features, patch):
    with pytest.raises(PlanError):
        autoencoder(kind, features, patch)
