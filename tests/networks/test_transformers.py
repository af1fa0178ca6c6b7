"""The masked autoencoder: the order of its cubes, its mask, its loss, and that it learns."""

import pytest
import torch

from flarenet.errors import PlanError
from flarenet.networks import build
from flarenet.networks.transformers import cubes
from flarenet.planning.plan import NetworkSpec

TINY = (24, 48, 1, 2, 12, 24, 1, 2)


def autoencoder(features=TINY, patch=(32, 48, 32)):
    return build(NetworkSpec(kind="mae_vit", dimensions=3, features=features, groups=()), {}, patch)


def test_cubes_are_in_the_order_of_the_embedding():
    x = torch.zeros(1, 1, 32, 48, 32)
    x[0, 0, 16:, 32:, :16] = 1  # second of z, third of y, first of x: token 1 * 6 + 2 * 2 + 0
    assert cubes(x).mean(-1).nonzero().tolist() == [[0, 10]]
    embedding = autoencoder().layers.patch_embedding
    changed = (embedding(x) - embedding(torch.zeros_like(x))).abs().sum(-1)
    assert changed.nonzero().tolist() == [[0, 10]]


def test_three_quarters_of_the_cubes_are_masked_and_the_seed_decides_which():
    network = autoencoder()
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(network(torch.rand(2, 1, 32, 48, 32))[1])
    assert masks[0].sum(1).tolist() == [9, 9]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_the_encoder_sees_nothing_of_the_masked_cubes():
    network = autoencoder().eval()
    x = torch.rand(1, 1, 32, 48, 32)
    torch.manual_seed(3)
    predicted, masked = network(x)
    hidden = masked.reshape(1, 1, 2, 3, 2).repeat_interleave(16, 2).repeat_interleave(16, 3).repeat_interleave(16, 4)
    torch.manual_seed(3)
    again, _ = network(torch.where(hidden, 0.5, x))
    torch.testing.assert_close(predicted, again)


def test_the_loss_is_the_squared_error_of_masked_voxels():
    network = autoencoder()
    for parameter in network.layers.decoder_pred.parameters():
        torch.nn.init.zeros_(parameter)  # predicts 0 everywhere, so the error of a constant c is c^2
    assert network.reconstruction_loss(torch.full((1, 1, 32, 48, 32), 0.3)).item() == pytest.approx(0.09, rel=1e-5)


def test_it_learns_in_bf16():
    torch.manual_seed(0)
    network = autoencoder()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    x = torch.linspace(0, 1, 32).expand(1, 1, 32, 48, 32)
    losses = []
    for _ in range(30):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = network.reconstruction_loss(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    "features, patch", [(TINY[:7], (32, 32, 32)), ((25, *TINY[1:]), (32, 32, 32)), (TINY, (32, 32, 40)), (TINY, None)]
)
def test_numbers_that_make_no_autoencoder_are_refused(features, patch):
    with pytest.raises(PlanError):
        autoencoder(features, patch)
