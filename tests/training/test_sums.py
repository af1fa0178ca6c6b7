"""A batch in several turns gives the loss and the gradient of the whole batch."""

import pytest
import torch
from torch import nn

from flarenet.data.labels import HIDDEN
from flarenet.planning.plan import Update
from flarenet.training import sums
from flarenet.training.batches import Batch
from flarenet.training.losses import Loss, segmentation_loss
from flarenet.training.state import TrainState
from flarenet.training.update import update_weights

NOTHING, SOME, ALL = (False, False, False), (True, True, False), (True, True, True)


def uneven_batch():
    """Five samples that ask for different labels, one for none, with voxels hidden in one."""
    draw = torch.Generator().manual_seed(1)
    annotated = torch.tensor([ALL, NOTHING, SOME, ALL, SOME])
    labels = torch.randint(0, 3, (5, 6, 6), generator=draw, dtype=torch.uint8)
    labels[(labels == 2) & ~annotated[:, 2, None, None]] = 0
    labels[0, :4] = HIDDEN
    return Batch(
        torch.rand(5, 1, 6, 6, generator=draw), {"organ": labels}, {"organ": annotated}, ("a", "b", "c", "d", "e")
    )


def learned(accumulate, objective):
    torch.manual_seed(0)
    network = nn.Conv2d(1, 3, 3, padding=1).double()
    state = TrainState(network, torch.optim.SGD(network.parameters(), lr=1.0))
    update = Update(accumulate=accumulate, clip_norm=1e6)
    terms = update_weights(state, uneven_batch(), objective=objective, update=update, where="here")
    return [*terms, *torch.cat([tensor.flatten() for tensor in network.state_dict().values()]).tolist()]


def partial_labels(network, part):
    answers = {"organ": network(part.image.double())}
    return segmentation_loss(answers, part.labels, part.annotated, exclusion=0.5)


@pytest.mark.parametrize("accumulate", [2, 3, 5, 9])
def test_turns_change_neither_loss_nor_gradient(accumulate):
    whole = learned(1, partial_labels)
    assert learned(accumulate, partial_labels) == pytest.approx(whole, rel=1e-6)
    assert whole[2:] != pytest.approx(learned(1, mean_of_parts), rel=1e-3)


def mean_of_parts(network, part):
    """What accumulating gradients comes to where the sums of the whole batch are not known: something else."""
    answers = network(part.image.double())
    rows = [slice(0, 3), slice(3, 5)]
    losses = [
        segmentation_loss(
            {"organ": answers[r]}, {"organ": part.labels["organ"][r]}, {"organ": part.annotated["organ"][r]}
        )
        for r in rows
    ]
    return Loss(sum(loss.dice for loss in losses) / 2, sum(loss.cross_entropy for loss in losses) / 2)


def test_a_loss_that_sums_nothing_is_a_mean_over_the_turns():
    def objective(network, part):
        loss = network(part.image.double()).square().mean()
        return Loss(loss.detach() * 0, loss)

    assert learned(5, objective) == pytest.approx(learned(1, objective), rel=1e-6)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_a_mean_weighs_by_the_rows_of_its_part(accumulate):
    """Of five rows: three and two, or two, two and one."""

    def objective(network, part):
        loss = network(part.image.double()).square().mean()
        return Loss(loss.detach() * 0, loss * sums.weight_of(len(part.names), 5))

    assert learned(accumulate, objective) == pytest.approx(learned(1, objective), rel=1e-6)


def test_a_mean_weighs_by_the_rows_of_its_process(monkeypatch):
    monkeypatch.setattr(sums, "processes", lambda: 3)
    assert [sums.weight_of(rows, 4) for rows in (2, 1, 1)] == [1.5, 0.75, 0.75]
    assert sums.weight_of(2, 6) == 1.0


def test_what_a_network_draws_in_turns_is_what_it_draws_for_the_whole_batch():
    drawn = []

    def objective(network, part):
        drawn.append(torch.rand(len(part.names)))
        return partial_labels(network, part)

    learned(2, objective)
    learned(1, objective)
    first_pass, second_pass, whole = torch.cat(drawn[:2]), torch.cat(drawn[2:4]), drawn[4]
    assert torch.equal(first_pass, whole) and torch.equal(second_pass, whole)
