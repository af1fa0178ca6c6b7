"""The marginal Dice + cross-entropy, against losses written out by hand."""

import pytest
import torch
from torch.nn import functional

from flarenet.data.labels import HIDDEN
from flarenet.training.losses import marginal_loss

SMOOTH = 1e-5


def example(batch=2, classes=4, side=6):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(batch, classes, side, side, generator=generator, requires_grad=True)
    target = torch.randint(0, classes, (batch, side, side), generator=generator, dtype=torch.uint8)
    return logits, target


def everything(logits):
    return torch.ones(logits.shape[0], logits.shape[1], dtype=torch.bool)


def plain_dice_loss(logits, target):
    """1 - mean over classes of (2 sum p g + s) / (sum p^2 + sum g^2 + s), one class after the other."""
    probability = torch.softmax(logits, dim=1)
    scores = []
    for index in range(logits.shape[1]):
        p, g = probability[:, index], (target == index).float()
        scores.append((2 * (p * g).sum() + SMOOTH) / ((p**2).sum() + (g**2).sum() + SMOOTH))
    return 1 - sum(scores) / len(scores)


def test_nothing_annotated_costs_nothing_and_teaches_nothing():
    logits, target = example()
    loss = marginal_loss(logits, target, torch.zeros(2, 4, dtype=torch.bool))
    loss.total.backward()
    assert loss.dice.item() == 0 and loss.cross_entropy.item() == 0
    assert torch.count_nonzero(logits.grad) == 0


def test_everything_annotated_is_plain_dice_and_cross_entropy():
    logits, target = example()
    loss = marginal_loss(logits, target, everything(logits))
    torch.testing.assert_close(loss.dice, plain_dice_loss(logits, target))
    torch.testing.assert_close(loss.cross_entropy, functional.cross_entropy(logits, target.long()))
    torch.testing.assert_close(loss.total, loss.dice + loss.cross_entropy)
    (got,) = torch.autograd.grad(loss.total, logits)
    wanted = plain_dice_loss(logits, target) + functional.cross_entropy(logits, target.long())
    torch.testing.assert_close(got, torch.autograd.grad(wanted, logits)[0])


def test_three_dimensions_give_what_the_same_voxels_in_two_give():
    logits, target = example()
    flat = marginal_loss(logits, target, everything(logits))
    solid = marginal_loss(logits.reshape(2, 4, 2, 3, 6), target.reshape(2, 2, 3, 6), everything(logits))
    torch.testing.assert_close(solid.total, flat.total)


def test_one_voxel_by_hand():
    """Probabilities 3/4 and 1/4, label 1 drawn: CE = ln 4; Dice of background 0, of the label 2/4 / (1 + 1/16)."""
    logits = torch.log(torch.tensor([[[[0.75]], [[0.25]]]]))
    loss = marginal_loss(logits, torch.ones(1, 1, 1), torch.ones(1, 2, dtype=torch.bool))
    assert loss.cross_entropy.item() == pytest.approx(1.3862944)
    assert loss.dice.item() == pytest.approx(1 - (0 + 0.5 / 1.0625) / 2, abs=1e-4)


def test_probability_moved_between_background_and_an_unasked_label_changes_nothing():
    logits, target = example()
    target[target == 2] = 0
    asked = everything(logits)
    asked[:, 2] = False
    probability = torch.softmax(logits.detach(), dim=1)
    moved = probability.clone()
    moved[:, 0] = 0.1 * (probability[:, 0] + probability[:, 2])
    moved[:, 2] = 0.9 * (probability[:, 0] + probability[:, 2])
    before = marginal_loss(probability.log(), target, asked)
    after = marginal_loss(moved.log(), target, asked)
    torch.testing.assert_close(after.dice, before.dice)
    torch.testing.assert_close(after.cross_entropy, before.cross_entropy)
    without = torch.stack([probability[:, 0] + probability[:, 2], probability[:, 1], probability[:, 3]], dim=1).log()
    renumbered = torch.where(target == 3, 2, target)
    torch.testing.assert_close(before.dice, plain_dice_loss(without, renumbered))
    torch.testing.assert_close(before.cross_entropy, functional.cross_entropy(without, renumbered.long()))


def test_the_gradient_stays_finite_and_is_shared_by_the_merged_channels():
    logits, target = example()
    target[target == 2] = 0
    asked = everything(logits)
    asked[:, 2] = False
    marginal_loss(logits, target, asked).total.backward()
    assert torch.isfinite(logits.grad).all()
    # d/dz_i of log(sum of the merged e^z) is the channel's share in the merge, for every merged channel
    merged = torch.softmax(logits.detach()[:, [0, 2]], dim=1)
    together = logits.grad[:, 0] + logits.grad[:, 2]
    torch.testing.assert_close(logits.grad[:, 2], together * merged[:, 1], atol=1e-6, rtol=1e-4)


def test_a_sample_that_nobody_annotated_leaves_the_rest_as_it_is():
    logits, target = example()
    asked = everything(logits)
    asked[1] = False
    both = marginal_loss(logits, target, asked)
    alone = marginal_loss(logits[:1], target[:1], asked[:1])
    torch.testing.assert_close(both.total, alone.total)
    (gradient,) = torch.autograd.grad(both.total, logits)
    assert torch.count_nonzero(gradient[1]) == 0 and torch.count_nonzero(gradient[0]) > 0


def test_hidden_voxels_have_no_gradient_and_no_say():
    logits, target = example()
    target[:, :2] = HIDDEN
    loss = marginal_loss(logits, target, everything(logits))
    (gradient,) = torch.autograd.grad(loss.total, logits)
    assert torch.count_nonzero(gradient[:, :, :2]) == 0
    assert torch.count_nonzero(gradient[:, :, 2:]) > 0
    visible = marginal_loss(logits[:, :, 2:], target[:, 2:], everything(logits))
    torch.testing.assert_close(loss.total, visible.total)


def test_all_hidden_is_zero_cross_entropy():
    logits, _ = example()
    target = torch.full((2, 6, 6), HIDDEN, dtype=torch.uint8)
    loss = marginal_loss(logits, target, everything(logits))
    (gradient,) = torch.autograd.grad(loss.total, logits)
    assert loss.cross_entropy.item() == 0 and torch.isfinite(loss.total)
    assert torch.count_nonzero(gradient) == 0


@pytest.mark.parametrize("asked_row", [[True] * 4, [True, True, False, True]])
def test_the_gradient_is_the_numeric_derivative(asked_row):
    logits, target = example(batch=1, side=2)
    target[0, 0, 0] = HIDDEN
    asked = torch.tensor([asked_row])
    target[(target == 2) & ~asked[0, 2]] = 0
    (gradient,) = torch.autograd.grad(marginal_loss(logits, target, asked).total, logits)
    numeric, step = torch.zeros_like(gradient), 1e-2
    for place in range(logits.numel()):
        nudge = torch.zeros(logits.numel())
        nudge[place] = step
        nudge = nudge.view_as(logits)
        ahead, behind = (marginal_loss(logits + sign * nudge, target, asked).total for sign in (1, -1))
        numeric.view(-1)[place] = (ahead - behind).detach() / (2 * step)
    torch.testing.assert_close(gradient, numeric, atol=1e-3, rtol=1e-2)
