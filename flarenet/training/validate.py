"""Validation on held-out cases during training, always on the same patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..data.labels import HIDDEN, LabelSet
from ..planning.plan import Update
from .batches import Batches
from .callbacks import Findings
from .distributed import all_summed, averaged
from .examples import Examples
from .loader import PrefetchedBatches
from .loop import to_device
from .objective import Objective
from .sums import in_turns


class HeldOut:
    """The validation that fit calls: a network's Findings on `count` fixed batches; None once `stopped`, which is asked
    before each of them.

    losses      "held_out_dice_loss"; "held_out_loss" for a network that does not segment, and so has no groups
    dice        group -> mean over its labels
    labels      label name -> Dice, from voxels counted over all patches of the cases in which it is annotated. A label
                that is neither annotated nor predicted there has no Dice, and a group of such labels has none
    examples    a few of the patches; see examples.Examples
    not_finite  as in Findings

    Each batch is split into the parts that `update` states, as in training, because memory is planned for these.
    """

    def __init__(
        self,
        batches: Batches | PrefetchedBatches,
        *,
        count: int,
        labels: LabelSet,
        groups: Sequence[str],
        objective: Objective,
        device: torch.device,
        update: Update,
    ) -> None:
        self._batches, self._count, self._labels, self._groups = batches, count, labels, tuple(groups)
        self._objective, self._device, self._update = objective, device, update
        self._examples = Examples(labels, groups)

    @torch.inference_mode()
    def __call__(self, network: nn.Module, stopped: Callable[[], bool] = lambda: False) -> Findings | None:
        loss, counts, not_finite = 0.0, dict[str, Tensor](), tuple[str, ...]()
        for index in range(self._count):
            if stopped():
                return None
            batch = to_device(self._batches.batch(0, index), self._device)
            parts = batch.parts(self._update.at_once(len(batch.names)))
            for part, result in zip(parts, in_turns(parts, partial(self._objective, network))):
                one = (result.dice if self._groups else result.total).item()
                if not math.isfinite(one):
                    not_finite = not_finite or self._batches.names(0, index)
                loss += one / (self._count * len(parts))
                predicted = {group: logits.argmax(1) for group, logits in result.logits.items()}
                for group, answer in predicted.items():
                    found = dice_counts(answer, part.labels[group], part.annotated[group])
                    counts[group] = counts[group] + found if group in counts else found
                if predicted:
                    self._examples.add(part, predicted)
        # on the device: processes with GPUs can exchange nothing else
        loss = averaged(torch.tensor(loss, device=self._device)).item()
        dice = {group: _dice(all_summed(found)) for group, found in counts.items()}
        return Findings(
            losses={"held_out_dice_loss" if self._groups else "held_out_loss": loss},
            dice={group: sum(found.values()) / len(found) for group, found in dice.items() if found},
            labels={
                self._labels.names[self._labels.groups[group][index]]: value
                for group, found in dice.items()
                for index, value in found.items()
            },
            examples=self._examples.best(),
            not_finite=not_finite,
        )


def _dice(counts: Tensor) -> dict[int, float]:
    """Label (from 0 in its group) -> Dice, from the result of dice_counts; labels without a Dice are left out."""
    twice_overlap, sizes = counts.tolist()
    return {index: twice / size for index, (twice, size) in enumerate(zip(twice_overlap, sizes)) if size}


def dice_counts(predicted: Tensor, target: Tensor, annotated: Tensor) -> Tensor:
    """[2, n] float64: for each label twice the overlap, and the sum of both sizes, over samples where it is annotated.

    predicted  [B, *S] integers
    target     [B, *S], as Batch.labels
    annotated  bool [B, 1 + n]
    All rows are counted at once, so that the CPU waits for a GPU once and not for every row.
    """
    rows, classes = annotated.shape
    hidden = target == HIDDEN  # counted as background in both, and background has no Dice
    truth, guess = (each.int().masked_fill(hidden, 0) for each in (target, predicted))
    row = torch.arange(rows, dtype=torch.int32, device=predicted.device).view(-1, *[1] * (target.ndim - 1))
    place = (row * classes + truth) * classes + guess
    pairs = torch.bincount(place.flatten(), minlength=rows * classes**2).view(rows, classes, classes)
    counts = torch.stack([2 * pairs.diagonal(dim1=1, dim2=2), pairs.sum(dim=1) + pairs.sum(dim=2)])
    return (counts * annotated.to(predicted.device)).sum(dim=1)[:, 1:].double()
