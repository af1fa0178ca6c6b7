"""Dice + cross-entropy, equation (1) of the FLARE 2023 paper, over what is annotated.

Partial labels in one formula: in each sample, the probabilities of labels that are not annotated are added to the
background's (their logits are merged by logsumexp). So "background" there means "background, or a label that is not
annotated". With everything annotated this is the plain loss; with nothing annotated it is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..data.labels import HIDDEN
from .sums import summed

_SMOOTH = 1e-5  # keeps the Dice defined for a class that is neither annotated nor predicted

_SLAB_VOXELS = 2**15
"""Fewest voxels of a slab. In one piece, a block of 128^3 voxels takes a core three times as long (with 14 channels
1.13 s; in slabs 0.35 s)."""


@dataclass(frozen=True)
class Loss:
    """The two terms of equation (1), each a scalar with a gradient.

    exclusion  weighted exclusion_loss, added to the two terms
    logits     {group: logits [B, 1 + n, *S]} at full resolution; empty for a network that does not segment
    """

    dice: Tensor
    cross_entropy: Tensor
    exclusion: Tensor | float = 0.0
    logits: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        return self.dice + self.cross_entropy + self.exclusion


def segmentation_loss(
    answers: Mapping[str, Tensor | tuple[Tensor, ...]],
    labels: Mapping[str, Tensor],
    annotated: Mapping[str, Tensor],
    *,
    exclusion: float = 0.0,
) -> Loss:
    """Equation (1) over what is annotated, summed over the groups that the network predicts.

    answers    {group: logits [B, 1 + n, *S]}; under deep supervision a tuple of logits at S, S/2, S/4 ...
    labels     by group, as Batch holds them; for the groups of `answers` at least
    annotated  like labels
    exclusion  weight of exclusion_loss at full resolution; 0 leaves it out
    """
    scales = {group: answer if isinstance(answer, tuple) else (answer,) for group, answer in answers.items()}
    finest = {group: logits[0] for group, logits in scales.items()}
    losses = [deep_loss(logits, labels[group], annotated[group]) for group, logits in scales.items()]
    excluded: Tensor | float = 0.0
    if exclusion:
        excluded = exclusion * sum(exclusion_loss(logits, labels[g], annotated[g]) for g, logits in finest.items())
    return replace(_sum(losses, [1.0] * len(losses)), exclusion=excluded, logits=finest)


def deep_loss(scales: Sequence[Tensor], target: Tensor, annotated: Tensor) -> Loss:
    """marginal_loss over logits at S, S/2, S/4 ... Each scale weighs half as much as the next finer one; in all 1.

    The deep supervision of nnU-Net (Isensee et al., Nature Methods 18, 2021). The target of a coarser scale is every
    second voxel of the finer one along each axis.
    """
    losses = []
    for level, logits in enumerate(scales):
        every = (slice(None), *(slice(0, size * 2**level, 2**level) for size in logits.shape[2:]))
        losses.append(marginal_loss(logits, target[every], annotated))
    return _sum(losses, [2.0**-level / (2 - 2.0 ** (1 - len(losses))) for level in range(len(losses))])


def _sum(losses: Sequence[Loss], weights: Sequence[float]) -> Loss:
    terms = [weight * torch.stack([loss.dice, loss.cross_entropy]) for loss, weight in zip(losses, weights)]
    return Loss(*torch.stack(terms).sum(dim=0))


def marginal_loss(logits: Tensor, target: Tensor, annotated: Tensor) -> Loss:
    """The loss of one group.

    logits     [B, 1 + n, *S]
    target     [B, *S] uint8: 0 background, 1..n, HIDDEN where the voxel is ignored
    annotated  [B, 1 + n] bool, best on the CPU: the labels annotated in each sample; [:, 0] is false where none is

    The Dice term has squared denominators and sums over all voxels of the batch; it is the mean over background and
    those labels that are annotated in at least one sample. The cross-entropy is the mean over the voxels that are not
    ignored, in samples with any label annotated. Where there are none both are 0, and so are their gradients.
    """
    overlap, squares, target_voxels, log_likelihood = _Sums.apply(
        *_in_slabs(logits.flatten(2), target.flatten(1), annotated)
    )
    counts = annotated.sum(dim=0).to(logits.device, non_blocking=True)
    overlap, squares, target_voxels, counts, log_likelihood = _over_the_batch(
        overlap, squares, target_voxels, counts, log_likelihood
    )
    used = counts > 0
    score = (2 * overlap + _SMOOTH) / (target_voxels + squares + _SMOOTH)
    dice = (1 - score).masked_fill(~used, 0).sum() / used.sum().clamp(min=1)
    return Loss(dice, -log_likelihood / target_voxels.sum().clamp(min=1))


def exclusion_loss(logits: Tensor, target: Tensor, annotated: Tensor) -> Tensor:
    """How far labels that are not annotated are predicted where other labels are: 0 if nowhere, at most 1.

    The exclusion loss of Shi et al. (Medical Image Analysis 70, 2021) in the form of the Dice; arguments as
    marginal_loss. Each label has 2 sum(p d) / (sum p^2 + sum d), summed over the samples where it is not annotated but
    another label of the group is; d is 1 on foreground voxels. The result is the mean over the labels that have such
    samples. A tumor and its host organ are in different groups, each with its own logits, and so never exclude each
    other.
    """
    goal = target.flatten(1)[:, None]
    visible, foreground = goal != HIDDEN, (goal > 0) & (goal != HIDDEN)
    unannotated = (annotated[:, :1] & ~annotated)[:, :, None].to(logits.device, non_blocking=True)
    p = torch.softmax(logits.flatten(2).to(_precision(logits)), dim=1) * (unannotated & visible)
    overlap, squares = (p * foreground).sum(dim=(0, 2)), p.square().sum(dim=(0, 2))
    overlap, squares, areas, counts = _over_the_batch(
        overlap, squares, (foreground & unannotated).sum(dim=(0, 2)), unannotated.sum(dim=(0, 2))
    )
    shares = 2 * overlap / (squares + areas + _SMOOTH)
    return shares.sum() / (counts > 0).sum().clamp(min=1)


def _over_the_batch(*sums: Tensor) -> tuple[Tensor, ...]:
    """The sums over the whole batch, from sums over the rows that this process or turn has: see sums.summed."""
    whole = summed(torch.cat([part.flatten().to(sums[0].dtype) for part in sums]))
    return tuple(part.view_as(own) for part, own in zip(whole.split([own.numel() for own in sums]), sums))


@dataclass(frozen=True, eq=False)
class _Piece:
    """Samples with the same labels annotated.

    rows    [b] indices of the samples in the batch
    kept    [K] channels of background and of the labels that are annotated
    merged  [M] channels of background and of the labels that are not
    place   [256] index in `kept` of each label's channel, 0 for labels that are not there
    """

    rows: Tensor
    kept: Tensor
    merged: Tensor
    place: Tensor

    def of(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(log-probabilities [b, K, I], index in `kept` of the target [b, 1, I], whether it is hidden [b, 1, I])."""
        scores, values = logits[self.rows].to(_precision(logits)), target[self.rows][:, None]
        if len(self.merged) > 1:
            background = scores[:, self.merged].logsumexp(dim=1, keepdim=True)
            scores = torch.cat([background, scores[:, self.kept[1:]]], dim=1)
        return scores.log_softmax(dim=1), self.place[values.long()], values == HIDDEN

    def spread(self, by_score: Tensor, logits: Tensor, gradient: Tensor) -> None:
        """Write a gradient [b, K, I] into `gradient`, that of all logits; merged channels share the background's."""
        rows = self.rows[:, None]
        gradient[rows, self.kept] = by_score.to(gradient.dtype)
        if len(self.merged) > 1:
            shares = logits[rows, self.merged].to(by_score.dtype).softmax(dim=1)
            gradient[rows, self.merged] = (shares * by_score[:, :1]).to(gradient.dtype)


def _in_slabs(logits: Tensor, target: Tensor, annotated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B, C, I], [B, I] and [B, C]; on a CPU split into more samples of fewer voxels, to fit in the cache."""
    count = _slabs(target.shape[1]) if logits.device.type == "cpu" else 1
    slabs = logits.unflatten(2, (count, -1)).transpose(1, 2).flatten(0, 1)
    return slabs, target.unflatten(1, (count, -1)).flatten(0, 1), annotated.repeat_interleave(count, dim=0)


def _slabs(voxels: int) -> int:
    """How many equal parts, of at least _SLAB_VOXELS each, repeated halving makes of so many voxels."""
    count = 1
    while voxels % (2 * count) == 0 and voxels // (2 * count) >= _SLAB_VOXELS:
        count *= 2
    return count


def _pieces(annotated: Tensor, device: torch.device) -> Iterator[_Piece]:
    """The samples with any label annotated. On a CPU each is a piece; elsewhere those of one pattern are."""
    alike: dict[object, list[int]] = {}
    patterns = annotated.tolist()
    for row, pattern in enumerate(patterns):
        if pattern[0]:
            alike.setdefault(row if device.type == "cpu" else tuple(pattern), []).append(row)
    for rows in alike.values():
        kept = [channel for channel, flag in enumerate(patterns[rows[0]]) if flag]
        merged = [0, *(channel for channel, flag in enumerate(patterns[rows[0]]) if not flag)]
        place = [kept.index(value) if value in kept else 0 for value in range(256)]
        # non_blocking: the CPU does not wait for a GPU
        yield _Piece(*(torch.tensor(each).to(device, non_blocking=True) for each in (rows, kept, merged, place)))


def _precision(logits: Tensor) -> torch.dtype:
    """The type to compute in: at least float32, which sums of squares over a million voxels need."""
    return torch.promote_types(logits.dtype, torch.float32)


class _Sums(torch.autograd.Function):
    """What the loss needs of its voxels: logits [B, C, I] -> overlap, squares, target_voxels [C], log-likelihood [].

    overlap        sum of the probabilities of each class over its target voxels
    squares        sum of the squared probabilities of each class
    target_voxels  number of target voxels of each class

    Passes of a whole batch through memory cost a CPU as much time as the network does. So this works piece by piece,
    each of which fits in the cache, keeps only the logits and the target for the backward pass, and computes the
    gradient by its own formula.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, annotated: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ctx.save_for_backward(logits, target)
        ctx.pieces = list(_pieces(annotated, logits.device))
        classes = logits.shape[1]
        overlap, squares, target_voxels = (logits.new_zeros(classes, dtype=_precision(logits)) for _ in range(3))
        log_likelihood = overlap.new_zeros(())
        for piece in ctx.pieces:
            log_p, goal, hidden = piece.of(logits, target)
            log_p_goal = log_p.gather(1, goal).masked_fill_(hidden, 0)
            p = log_p.exp_().masked_fill_(hidden, 0)
            seen = (~hidden).to(p.dtype)
            # slab by slab: added one by one to a float32 total in the millions, each number would be rounded to the
            # total's spacing
            places = goal.reshape(len(piece.rows) * _slabs(goal.shape[2]), -1)
            for total, voxels in ((overlap, log_p_goal.exp() * seen), (target_voxels, seen)):
                per_slab = p.new_zeros((len(places), len(piece.kept)))
                total[piece.kept] += per_slab.scatter_add_(1, places, voxels.reshape(places.shape)).sum(dim=0)
            squares[piece.kept] += p.square_().sum(dim=(0, 2))
            log_likelihood += log_p_goal.sum()
        ctx.mark_non_differentiable(target_voxels)
        return overlap, squares, target_voxels, log_likelihood

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (logits, target), (by_overlap, by_squares, _, by_log_likelihood) = ctx.saved_tensors, gradients
        gradient = torch.zeros_like(logits)
        for piece in ctx.pieces:
            log_p, goal, hidden = piece.of(logits, target)
            p = log_p.exp_().masked_fill_(hidden, 0)
            # with z the logits: d log p_goal / dz_k = [k = goal] - p_k, and d f(p_c) / dz_k = f' p_c ([k = c] - p_k)
            at_goal = by_overlap[piece.kept][goal] * p.gather(1, goal) + by_log_likelihood
            at_goal = at_goal.masked_fill_(hidden, 0)
            by_p = p * (2 * by_squares[piece.kept])[:, None]
            common = (by_p * p).sum(dim=1, keepdim=True).add_(at_goal)
            piece.spread(by_p.mul_(p).addcmul_(p, common, value=-1).scatter_add_(1, goal, at_goal), logits, gradient)
        return gradient, None, None
