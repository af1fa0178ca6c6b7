"""Dice + cross-entropy, equation (1) of the FLARE 2023 paper, over what is annotated.

Partial labels in one formula: in a sample, the probability of every label that nobody looked for is added to
the background (their logits are merged by logsumexp), so "background" there means "background or something
that was not asked". With everything annotated this is the plain loss; with nothing annotated it is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..data.labels import HIDDEN
from .sums import summed

_SMOOTH = 1e-5  # keeps the Dice of a class that is neither drawn nor predicted defined

_SLAB_VOXELS = 2**15
"""A block of 128^3 in one piece takes a core three times as long (1.13 s with 14 channels, in slabs 0.35 s)."""


@dataclass(frozen=True)
class Loss:
    """The two terms of equation (1), each a scalar with a gradient.

    exclusion  what is added to them, weighted: see exclusion_loss
    logits     by group, what the network answered at full resolution; empty where it does not segment
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
    asked: Mapping[str, Tensor],
    *,
    exclusion: float = 0.0,
) -> Loss:
    """Equation (1) over what is annotated, summed over the groups that the network answers.

    answers    group -> logits [B, 1 + n, *S], or logits at S, S/2, S/4 ... under deep supervision
    labels, asked  by group, as Batch holds them, for these groups at least
    exclusion  weight of exclusion_loss at full resolution; 0 leaves it out
    """
    scales = {group: answer if isinstance(answer, tuple) else (answer,) for group, answer in answers.items()}
    finest = {group: logits[0] for group, logits in scales.items()}
    losses = [deep_loss(logits, labels[group], asked[group]) for group, logits in scales.items()]
    excluded: Tensor | float = 0.0
    if exclusion:
        excluded = exclusion * sum(exclusion_loss(logits, labels[g], asked[g]) for g, logits in finest.items())
    return replace(_sum(losses, [1.0] * len(losses)), exclusion=excluded, logits=finest)


def deep_loss(scales: Sequence[Tensor], target: Tensor, asked: Tensor) -> Loss:
    """marginal_loss over logits at S, S/2, S/4 ..., each weighing half as much as the finer one, 1 in all.

    The deep supervision of nnU-Net (Isensee et al., Nature Methods 18, 2021). The target of a coarser scale is every
    second voxel of the finer one along each axis.
    """
    losses = []
    for level, logits in enumerate(scales):
        every = (slice(None), *(slice(0, size * 2**level, 2**level) for size in logits.shape[2:]))
        losses.append(marginal_loss(logits, target[every], asked))
    return _sum(losses, [2.0**-level / (2 - 2.0 ** (1 - len(losses))) for level in range(len(losses))])


def _sum(losses: Sequence[Loss], weights: Sequence[float]) -> Loss:
    terms = [weight * torch.stack([loss.dice, loss.cross_entropy]) for loss, weight in zip(losses, weights)]
    return Loss(*torch.stack(terms).sum(dim=0))


def marginal_loss(logits: Tensor, target: Tensor, asked: Tensor) -> Loss:
    """The loss of one group.

    logits  [B, 1 + n, *S]
    target  [B, *S] uint8: 0 background, 1..n, HIDDEN where no question is asked
    asked   [B, 1 + n] bool, best on the CPU; asked[:, 0] is false where no label of the group was looked for

    Dice: squared denominators, sums over all voxels of the batch, mean over background and those labels that at
    least one sample asks for. Cross-entropy: mean over the voxels that ask a question. Both are 0, and so is
    their gradient, where nothing is asked.
    """
    overlap, squares, drawn, log_likelihood = _Sums.apply(*_in_slabs(logits.flatten(2), target.flatten(1), asked))
    asking = asked.sum(dim=0).to(logits.device, non_blocking=True)
    overlap, squares, drawn, asking, log_likelihood = _over_the_batch(overlap, squares, drawn, asking, log_likelihood)
    used = asking > 0
    score = (2 * overlap + _SMOOTH) / (drawn + squares + _SMOOTH)
    dice = (1 - score).masked_fill(~used, 0).sum() / used.sum().clamp(min=1)
    return Loss(dice, -log_likelihood / drawn.sum().clamp(min=1))


def exclusion_loss(logits: Tensor, target: Tensor, asked: Tensor) -> Tensor:
    """How much of what was drawn the unasked labels of a group claim: 0 where they claim nothing, at most 1.

    The exclusion loss of Shi et al. (Medical Image Analysis 70, 2021) in the Dice's form; arguments as marginal_loss.
    For each label, over the samples of the group that do not ask for it: 2 sum(p d) / (sum p^2 + sum d), d being 1 on
    drawn voxels; the mean over the labels that some sample does not ask for. A tumor and the organ it sits in are
    answered by different groups, each with logits of its own, and so never exclude each other.
    """
    goal = target.flatten(1)[:, None]
    visible, drawn = goal != HIDDEN, (goal > 0) & (goal != HIDDEN)
    unasked = (asked[:, :1] & ~asked)[:, :, None].to(logits.device, non_blocking=True)
    p = torch.softmax(logits.flatten(2).to(_precision(logits)), dim=1) * (unasked & visible)
    overlap, squares = (p * drawn).sum(dim=(0, 2)), p.square().sum(dim=(0, 2))
    overlap, squares, areas, not_asking = _over_the_batch(
        overlap, squares, (drawn & unasked).sum(dim=(0, 2)), unasked.sum(dim=(0, 2))
    )
    shares = 2 * overlap / (squares + areas + _SMOOTH)
    return shares.sum() / (not_asking > 0).sum().clamp(min=1)


def _over_the_batch(*sums: Tensor) -> tuple[Tensor, ...]:
    """Each of `sums`, which are over the rows here, over the whole batch: see sums.summed."""
    whole = summed(torch.cat([part.flatten().to(sums[0].dtype) for part in sums]))
    return tuple(part.view_as(own) for part, own in zip(whole.split([own.numel() for own in sums]), sums))


@dataclass(frozen=True, eq=False)
class _Piece:
    """Samples that answer the same labels.

    rows    [b] their numbers in the batch
    kept    [K] the channels of background and of what was asked      place  [256] a label's place among `kept`
    merged  [M] those of background and of what was not
    """

    rows: Tensor
    kept: Tensor
    merged: Tensor
    place: Tensor

    def of(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities [b, K, I], the place of what was drawn [b, 1, I], and whether it is hidden [b, 1, I]."""
        scores, values = logits[self.rows].to(_precision(logits)), target[self.rows][:, None]
        if len(self.merged) > 1:
            background = scores[:, self.merged].logsumexp(dim=1, keepdim=True)
            scores = torch.cat([background, scores[:, self.kept[1:]]], dim=1)
        return scores.log_softmax(dim=1), self.place[values.long()], values == HIDDEN

    def spread(self, by_score: Tensor, logits: Tensor, gradient: Tensor) -> None:
        """Write a gradient [b, K, I] into that of the logits: each merged channel has its share of the background's."""
        rows = self.rows[:, None]
        gradient[rows, self.kept] = by_score.to(gradient.dtype)
        if len(self.merged) > 1:
            shares = logits[rows, self.merged].to(by_score.dtype).softmax(dim=1)
            gradient[rows, self.merged] = (shares * by_score[:, :1]).to(gradient.dtype)


def _in_slabs(logits: Tensor, target: Tensor, asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B, C, I], [B, I] and [B, C] as more samples of fewer voxels, to fit in a CPU's cache; else as they are."""
    count = _slabs(target.shape[1]) if logits.device.type == "cpu" else 1
    slabs = logits.unflatten(2, (count, -1)).transpose(1, 2).flatten(0, 1)
    return slabs, target.unflatten(1, (count, -1)).flatten(0, 1), asked.repeat_interleave(count, dim=0)


def _slabs(voxels: int) -> int:
    """Into how many equal parts of _SLAB_VOXELS or more so many voxels can be halved."""
    count = 1
    while voxels % (2 * count) == 0 and voxels // (2 * count) >= _SLAB_VOXELS:
        count *= 2
    return count


def _pieces(asked: Tensor, device: torch.device) -> Iterator[_Piece]:
    """The samples of which anything was asked: one by one on a CPU, elsewhere those of one pattern together."""
    alike: dict[object, list[int]] = {}
    patterns = asked.tolist()
    for row, pattern in enumerate(patterns):
        if pattern[0]:
            alike.setdefault(row if device.type == "cpu" else tuple(pattern), []).append(row)
    for rows in alike.values():
        kept = [channel for channel, flag in enumerate(patterns[rows[0]]) if flag]
        merged = [0, *(channel for channel, flag in enumerate(patterns[rows[0]]) if not flag)]
        place = [kept.index(value) if value in kept else 0 for value in range(256)]
        # non_blocking: a card is not waited for
        yield _Piece(*(torch.tensor(each).to(device, non_blocking=True) for each in (rows, kept, merged, place)))


def _precision(logits: Tensor) -> torch.dtype:
    """float32 at least: sums of squares over a million voxels need it."""
    return torch.promote_types(logits.dtype, torch.float32)


class _Sums(torch.autograd.Function):
    """What the loss needs of its voxels: logits [B, C, I] -> overlap [C], squares [C], drawn [C], log-likelihood [].

    `overlap` sums the probabilities of what was drawn, `squares` the squares of all, `drawn` counts voxels. Passes of a
    whole batch through memory cost a CPU as much as a network does, so it goes sample by sample, each of which fits in
    the cache, keeps nothing but the logits for the backward pass, and has its gradient written out.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, asked: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ctx.save_for_backward(logits, target)
        ctx.pieces = list(_pieces(asked, logits.device))
        classes = logits.shape[1]
        overlap, squares, drawn = (logits.new_zeros(classes, dtype=_precision(logits)) for _ in range(3))
        log_likelihood = overlap.new_zeros(())
        for piece in ctx.pieces:
            log_p, goal, hidden = piece.of(logits, target)
            log_p_goal = log_p.gather(1, goal).masked_fill_(hidden, 0)
            p = log_p.exp_().masked_fill_(hidden, 0)
            seen = (~hidden).to(p.dtype)
            # slabs, for a number is added to a sum of millions only in steps of what float32 tells apart there
            places = goal.reshape(len(piece.rows) * _slabs(goal.shape[2]), -1)
            for total, voxels in ((overlap, log_p_goal.exp() * seen), (drawn, seen)):
                per_slab = p.new_zeros((len(places), len(piece.kept)))
                total[piece.kept] += per_slab.scatter_add_(1, places, voxels.reshape(places.shape)).sum(dim=0)
            squares[piece.kept] += p.square_().sum(dim=(0, 2))
            log_likelihood += log_p_goal.sum()
        ctx.mark_non_differentiable(drawn)
        return overlap, squares, drawn, log_likelihood

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (logits, target), (by_overlap, by_squares, _, by_log_likelihood) = ctx.saved_tensors, slopes
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
