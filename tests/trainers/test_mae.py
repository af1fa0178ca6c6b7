"""Masked autoencoding: its loss is that of the whole batch, whoever works on it."""

from functools import partial

import pytest
import torch

from flarenet.networks import build, masked
from flarenet.planning.plan import NetworkSpec, Step, Subset, Update
from flarenet.trainers.mae import TrainerMAE
from flarenet.training.batches import Batch
from flarenet.training.state import TrainState
from flarenet.training.update import update_weights

STEP = Step(subset=Subset(patterns=((),)), groups=(), batch_size=5, batches_per_epoch=1, epochs=1, learning_rate=1.0)


def learned(accumulate):
    """(loss and its Dice term, weights) after one update on five samples that are not alike."""
    torch.manual_seed(0)
    spec = NetworkSpec(kind="mae_vit", dimensions=3, features=(12, 12, 1, 2, 12, 12, 1, 2), groups=())
    network = build(spec, {}, (32, 32, 32))
    state = TrainState(network, torch.optim.SGD(network.parameters(), lr=1.0))
    image = torch.rand(5, 1, 32, 32, 32) * torch.arange(1.0, 6.0).reshape(5, 1, 1, 1, 1)
    trainer = TrainerMAE.__new__(TrainerMAE)  # the objective asks for no plan and no data
    terms = update_weights(
        state,
        Batch(image, {}, {}, tuple("abcde")),
        objective=partial(trainer.objective, STEP),
        update=Update(accumulate=accumulate, clip_norm=1e6),
        where="here",
    )
    return terms, torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_three_rows_and_two_are_a_batch_of_five(monkeypatch):
    monkeypatch.setattr(masked, "hidden_cubes", lambda rows, count: (torch.arange(count) >= 2).expand(rows, count))
    (loss, weights), (of_parts, by_parts) = learned(1), learned(2)
    assert of_parts == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(by_parts, weights, rtol=1e-4, atol=1e-5)
