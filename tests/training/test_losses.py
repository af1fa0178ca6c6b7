"""The marginal Dice + cross-entropy, against losses written out by hand and against MONAI's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from flarenet.data.labels import HIDDEN
from flarenet.training import losses
from flarenet.training.losses import deep_loss, exclusion_loss, marginal_loss, segmentation_loss

SMOOTH = 1e-5


def example(batch=2, classes=4, side=6, seed=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, side, side, generator=generator, dtype=dtype, requires_grad=True)
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


@st.composite
def partial(draw):
    """Logits, target and pattern of a batch in which some labels, or none, are annotated in each sample."""
    batch, classes = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    logits, target = example(batch, classes, side=draw(st.integers(2, 4)), seed=draw(st.integers(0, 99)))
    row = st.lists(st.booleans(), min_size=classes, max_size=classes)
    annotated = torch.tensor(draw(st.lists(row, min_size=batch, max_size=batch)))
    annotated[:, 0] = annotated[:, 1:].any(dim=1)
    drawn = annotated.gather(1, target.flatten(1).long()).view_as(target)
    hidden = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) < draw(st.sampled_from((0.0, 0.3)))
    return logits, torch.where(drawn, target, 0).masked_fill(hidden, HIDDEN), annotated


def gradient_of(loss, logits):
    return torch.autograd.grad(loss.total, logits)[0]


def test_everything_annotated_is_plain_dice_and_cross_entropy():
    logits, target = example()
    loss = marginal_loss(logits, target, everything(logits))
    torch.testing.assert_close(loss.dice, plain_dice_loss(logits, target))
    torch.testing.assert_close(loss.cross_entropy, functional.cross_entropy(logits, target.long()))
    torch.testing.assert_close(loss.total, loss.dice + loss.cross_entropy)
    wanted = plain_dice_loss(logits, target) + functional.cross_entropy(logits, target.long())
    torch.testing.assert_close(gradient_of(loss, logits), torch.autograd.grad(wanted, logits)[0])


@pytest.mark.parametrize("size", [(3, 5, 8, 7), (2, 3, 4, 5, 6)])
def test_everything_annotated_is_the_loss_of_monai(size):
    losses = pytest.importorskip("monai.losses")
    torch.manual_seed(4)
    logits, target = torch.randn(size, requires_grad=True), torch.randint(0, size[1], (size[0], *size[2:]))
    reference = losses.DiceCELoss(
        to_onehot_y=True, softmax=True, squared_pred=True, batch=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH
    )(logits, target[:, None])
    loss = marginal_loss(logits, target.to(torch.uint8), everything(logits))
    torch.testing.assert_close(loss.total, reference)
    torch.testing.assert_close(gradient_of(loss, logits), torch.autograd.grad(reference, logits)[0])


@given(partial())
@settings(deadline=None, max_examples=60)
def test_nothing_annotated_costs_nothing_and_teaches_nothing(case):
    logits, target, annotated = case
    loss = marginal_loss(logits, target, torch.zeros_like(annotated))
    assert loss.dice.item() == 0 and loss.cross_entropy.item() == 0
    assert torch.count_nonzero(gradient_of(loss, logits)) == 0


@pytest.mark.parametrize("flags", [(True, True, True, True), (True, False, True, False)])
def test_a_batch_of_hidden_voxels_costs_nothing_and_teaches_nothing(flags):
    """As a slice or a block is in which nobody annotated anything; with another batch it changes nothing."""
    logits, target = example()
    hidden = torch.full_like(target, HIDDEN)
    annotated = torch.tensor([flags, flags])
    alone = deep_loss([logits, logits[..., ::2, ::2]], hidden, annotated)
    assert alone.total.item() == 0 and torch.count_nonzero(gradient_of(alone, logits)) == 0
    row = torch.where(annotated[0][target[1].long()], target[1], 0)
    both = marginal_loss(logits, torch.stack([hidden[0], row]), annotated)
    torch.testing.assert_close(both.total, marginal_loss(logits[1:], row[None], annotated[1:]).total)
    assert torch.count_nonzero(gradient_of(both, logits)[0]) == 0


@given(partial(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_the_order_of_the_samples_does_not_matter(case, lot):
    logits, target, annotated = case
    order = list(range(len(logits)))
    lot.shuffle(order)
    loss, shuffled = (
        marginal_loss(logits, target, annotated),
        marginal_loss(logits[order], target[order], annotated[order]),
    )
    torch.testing.assert_close(shuffled.total, loss.total)
    torch.testing.assert_close(gradient_of(shuffled, logits), gradient_of(loss, logits))


@given(partial())
@settings(deadline=None, max_examples=60)
def test_a_sample_that_nobody_annotated_and_a_hidden_voxel_have_no_gradient_and_no_say(case):
    logits, target, annotated = case
    loss = marginal_loss(logits, target, annotated)
    silent = (target == HIDDEN) | ~annotated[:, 0].view(-1, *[1] * (target.ndim - 1))
    gradient = gradient_of(loss, logits)
    assert torch.isfinite(gradient).all()
    assert torch.count_nonzero(gradient * silent[:, None]) == 0
    other = torch.where(silent[:, None], -logits.detach(), logits.detach())
    torch.testing.assert_close(marginal_loss(other, target, annotated).total, loss.total.detach())


@given(partial())
@settings(deadline=None, max_examples=60)
def test_adding_the_unannotated_to_the_background_by_hand_gives_the_same(case):
    """Sample by sample: the probabilities of what is not annotated are added up, and the loss has no such channel."""
    logits, target, annotated = case
    overlap, squares, drawn = torch.zeros(3, annotated.shape[1]).unbind()
    likelihoods = []
    for scores, values, flags in zip(logits.detach(), target, annotated):
        if not flags[0]:
            continue
        p = torch.softmax(scores, dim=0)
        p[0] += p[~flags].sum(dim=0)
        for value in flags.nonzero()[:, 0].tolist():
            here = values == value
            overlap[value] += p[value][here].sum()
            squares[value] += p[value][values != HIDDEN].square().sum()
            drawn[value] += here.sum()
            likelihoods += p[value][here].log().tolist()
    loss = marginal_loss(logits, target, annotated)
    used = annotated.any(dim=0)
    dice = 1 - ((2 * overlap + SMOOTH) / (squares + drawn + SMOOTH))[used].mean() if used.any() else torch.tensor(0.0)
    torch.testing.assert_close(loss.dice.detach(), dice, atol=1e-5, rtol=1e-5)
    mean = -sum(likelihoods) / max(1, len(likelihoods))
    assert loss.cross_entropy.item() == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize(
    "annotated", [[[True] * 4] * 3, [[True, True, False, True], [True, False, False, True], [False] * 4]]
)
def test_the_gradient_is_the_numeric_derivative(annotated):
    logits, target = example(batch=3, side=2, dtype=torch.float64)
    flags = torch.tensor(annotated)
    target = torch.where(flags.gather(1, target.flatten(1).long()).view_as(target), target, 0)
    target[0, 0, 0] = HIDDEN
    assert torch.autograd.gradcheck(lambda x: marginal_loss(x, target, flags).total, (logits,))
    assert torch.autograd.gradcheck(lambda x: exclusion_loss(x, target, flags), (logits,))


def test_three_dimensions_give_what_the_same_voxels_in_two_give():
    logits, target = example()
    flat = marginal_loss(logits, target, everything(logits))
    solid = marginal_loss(logits.reshape(2, 4, 2, 3, 6), target.reshape(2, 2, 3, 6), everything(logits))
    torch.testing.assert_close(solid.total, flat.total)


def test_one_voxel_by_hand():
    """Probabilities 3/4 and 1/4, label 1 drawn: CE = ln 4; Dice of background 0, of the label 2/4 / (1 + 1/16)."""
    logits = torch.log(torch.tensor([[[[0.75]], [[0.25]]]]))
    loss = marginal_loss(logits, torch.ones(1, 1, 1, dtype=torch.uint8), torch.ones(1, 2, dtype=torch.bool))
    assert loss.cross_entropy.item() == pytest.approx(1.3862944)
    assert loss.dice.item() == pytest.approx(1 - (0 + 0.5 / 1.0625) / 2, abs=1e-4)


def test_the_gradient_is_shared_by_the_merged_channels():
    logits, target = example()
    target[target == 2] = 0
    annotated = everything(logits)
    annotated[:, 2] = False
    gradient = gradient_of(marginal_loss(logits, target, annotated), logits)
    # d/dz_i of log(sum of the merged e^z) is the channel's share in the merge, for every merged channel
    merged = torch.softmax(logits.detach()[:, [0, 2]], dim=1)
    torch.testing.assert_close(gradient[:, 2], (gradient[:, 0] + gradient[:, 2]) * merged[:, 1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("far", [60.0, 3e4])
def test_a_network_that_is_wrong_and_sure_is_told_so(far):
    """Probabilities that are 0 in float32: the cross-entropy is the distance of the logits, its slope is whole."""
    logits = torch.tensor([[[far], [0.0], [0.0]]], requires_grad=True)
    annotated = torch.tensor([[True, True, False]])
    loss = marginal_loss(logits, torch.ones(1, 1, dtype=torch.uint8), annotated)
    assert loss.cross_entropy.item() == pytest.approx(far)
    torch.testing.assert_close(gradient_of(loss, logits)[0, :2, 0], torch.tensor([1.0, -1.0]), atol=1e-4, rtol=0)


def test_half_precision_logits_in_any_memory_order_give_the_same():
    logits, target = example(side=16)
    annotated = torch.tensor([[True] * 4, [True, False, True, False]])
    target[1][target[1] % 2 == 1] = 0
    half = logits.detach().to(torch.bfloat16)
    reference = marginal_loss(half.float(), target, annotated)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for order in (torch.contiguous_format, torch.channels_last):
            ours = half.contiguous(memory_format=order).requires_grad_()
            loss = marginal_loss(ours, target, annotated)
            assert gradient_of(loss, ours).dtype == torch.bfloat16 and loss.dice.dtype == torch.float32
            torch.testing.assert_close(loss.total.detach(), reference.total)


def test_sums_over_a_million_voxels_are_those_of_a_voxel_times_a_million():
    """As on a card, where a sample stays whole: 2^20 voxels of background, each with the probability 0.7."""
    voxels = 2**20
    logits = torch.tensor([0.7, 0.3]).log()[None, :, None].expand(1, 2, voxels).contiguous()
    annotated = torch.ones(1, 2, dtype=torch.bool)
    overlap, _, drawn, _ = losses._Sums.apply(logits, torch.zeros(1, voxels, dtype=torch.uint8), annotated)
    # one after the other in float32 they come to 1 % less
    assert overlap.tolist() == pytest.approx([0.7 * voxels, 0], rel=1e-3) and drawn.tolist() == [voxels, 0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_card_says_what_a_cpu_says():
    """There the samples of one pattern go together."""
    logits, target = example(batch=6, side=16)
    annotated = torch.tensor([[True] * 4, [True, False, True, False], [False] * 4] * 2)
    target = torch.where(annotated.gather(1, target.flatten(1).long()).view_as(target), target, 0)
    loss, there = marginal_loss(logits, target, annotated), marginal_loss(logits.cuda(), target.cuda(), annotated)
    torch.testing.assert_close(there.total.cpu(), loss.total)
    torch.testing.assert_close(gradient_of(there, logits), gradient_of(loss, logits))


def test_deep_supervision_halves_the_weight_of_every_coarser_scale():
    """Targets of a coarser scale are every second voxel; an odd side loses its last. Weights 4/7, 2/7, 1/7."""
    _, target = example(side=13)
    scales = [example(side=side, seed=side)[0] for side in (13, 6, 3)]
    annotated = everything(scales[0])
    targets = (target, target[:, 0:12:2, 0:12:2], target[:, 0:12:4, 0:12:4])
    parts = [marginal_loss(logits, coarse, annotated) for logits, coarse in zip(scales, targets)]
    loss = deep_loss(scales, target, annotated)
    for term in ("dice", "cross_entropy"):
        wanted = sum(weight / 7 * getattr(part, term) for weight, part in zip((4, 2, 1), parts))
        torch.testing.assert_close(getattr(loss, term), wanted)


def test_exclusion_by_hand():
    """Two voxels, label 1 drawn in one; label 2, not annotated, has 1/2 there and 1/4 beside: 2/2 / (5/16 + 1)."""
    p = torch.tensor([[[0.25, 0.5], [0.25, 0.25], [0.5, 0.25]]])
    target, annotated = torch.tensor([[1, 0]], dtype=torch.uint8), torch.tensor([[True, True, False]])
    assert exclusion_loss(p.log(), target, annotated).item() == pytest.approx(1 / (0.3125 + 1), abs=1e-4)
    assert exclusion_loss(p.log(), target, torch.ones(1, 3, dtype=torch.bool)).item() == 0
    assert exclusion_loss(p.log(), target, torch.zeros(1, 3, dtype=torch.bool)).item() == 0


def test_the_groups_of_a_step_are_added_up():
    (organ, map_of_organs), (cancer, map_of_cancer) = example(), example(classes=2)
    annotated = {"organ": everything(organ), "cancer": everything(cancer)}
    annotated["organ"][:, 3] = False
    labels = {"organ": map_of_organs.masked_fill(map_of_organs == 3, 0), "cancer": map_of_cancer}
    answers = {"organ": organ, "cancer": (cancer, cancer[:, :, :3, :3])}
    loss = segmentation_loss(answers, labels, annotated)
    alone = marginal_loss(organ, labels["organ"], annotated["organ"])
    deep = deep_loss(answers["cancer"], map_of_cancer, annotated["cancer"])
    torch.testing.assert_close(loss.total, alone.total + deep.total)
    assert loss.logits["organ"] is organ and loss.logits["cancer"] is cancer
    weighted = segmentation_loss(answers, labels, annotated, exclusion=0.5)
    extra = 0.5 * exclusion_loss(organ, labels["organ"], annotated["organ"])
    torch.testing.assert_close(weighted.total, loss.total + extra)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
def test_a_large_block_in_slabs_gives_what_it_gives_in_one_piece(monkeypatch, order):
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 4, 8, 6, generator=draw).to(memory_format=order).requires_grad_()
    target = torch.randint(0, 4, (2, 4, 8, 6), generator=draw, dtype=torch.uint8)
    annotated = torch.tensor([[True, True, True, True], [True, True, False, False]])
    target[1][target[1] > 1] = HIDDEN
    found = []
    for slab_voxels in (1000, 12):  # 192 voxels a sample: whole, and in 16 slabs
        monkeypatch.setattr(losses, "_SLAB_VOXELS", slab_voxels)
        loss = marginal_loss(logits, target, annotated)
        found.append((loss.total, *torch.autograd.grad(loss.total, logits)))
    for whole, cut in zip(*found):
        torch.testing.assert_close(cut, whole)
