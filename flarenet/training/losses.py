"""Dice + cross-entropy, equation (1) of the FLARE 2023 paper, over what is annotated.

Partial labels in one formula: in a sample, the probability of every label that nobody looked for is added to
the background (their logits are merged by logsumexp), so "background" there means "background or something
that was not asked". With everything annotated this is the plain loss; with nothing annotated it is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.labels import HIDDEN

_SMOOTH = 1e-5  # keeps the Dice of a class that is neither drawn nor predicted defined


@dataclass(frozen=True)
class Loss:
    """The two terms of equation (1), each a scalar with a gradient."""

    dice: Tensor
    cross_entropy: Tensor

    @property
    def total(self) -> Tensor:
        return self.dice + self.cross_entropy


def marginal_loss(logits: Tensor, target: Tensor, asked: Tensor) -> Loss:
    """The loss of one group.

    logits  [B, 1 + n, *S]
    target  [B, *S] integers: 0 background, 1..n, HIDDEN where no question is asked
    asked   [B, 1 + n] bool; asked[:, 0] is false in a sample in which no label of the group was looked for

    Dice: squared denominators, sums over all voxels of the batch, mean over background and those labels that at
    least one sample asks for. Cross-entropy: mean over the voxels that ask a question. Both are 0, and so is
    their gradient, where nothing is asked.
    """
    used = asked[:, 0]
    if not bool(used.any()):
        nothing = logits.sum() * 0.0
        return Loss(nothing, nothing)
    if not bool(used.all()):
        logits, target, asked = logits[used], target[used], asked[used]
    # [B, C, I]: one position axis; float32, because sums of squares over a million voxels need it
    log_p = torch.log_softmax(logits.flatten(2).float(), dim=1)
    goal = target.flatten(1).long()
    visible = goal != HIDDEN
    goal = goal.masked_fill(~visible, 0)
    log_p = _merge(log_p, asked)
    log_p_goal = log_p.gather(1, goal[:, None])[:, 0].masked_fill(~visible, 0.0)
    cross_entropy = -log_p_goal.sum() / visible.sum().clamp(min=1)
    return Loss(_dice_loss(log_p, log_p_goal, goal, visible, asked), cross_entropy)


def _merge(log_p: Tensor, asked: Tensor) -> Tensor:
    """Add the probability of what was not asked to channel 0, and leave none in the channels it came from."""
    if bool(asked.all()):
        return log_p
    merged = asked[:, :, None].clone()
    merged[:, 0] = False  # the background takes part in the merge
    background = log_p.masked_fill(merged, float("-inf")).logsumexp(dim=1, keepdim=True)
    return torch.cat([background, log_p[:, 1:].masked_fill(~asked[:, 1:, None], float("-inf"))], dim=1)


def _dice_loss(log_p: Tensor, log_p_goal: Tensor, goal: Tensor, visible: Tensor, asked: Tensor) -> Tensor:
    classes = log_p.shape[1]
    place = torch.where(visible, goal, classes).flatten()  # hidden voxels are counted in a class of their own
    overlap = log_p.new_zeros(classes + 1).index_add(0, place, log_p_goal.exp().flatten())[:classes]
    drawn = torch.bincount(place, minlength=classes + 1)[:classes].to(log_p.dtype)
    squares = ((2 * log_p).exp() * visible[:, None]).sum(dim=(0, 2))
    score = (2 * overlap + _SMOOTH) / (drawn + squares + _SMOOTH)
    return 1 - score[asked.any(dim=0)].mean()
