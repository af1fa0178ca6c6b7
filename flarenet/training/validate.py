"""How a network does on held-out cases while it trains: the same patches every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from ..data.labels import HIDDEN, LabelSet
from .batches import Batches
from .callbacks import Findings
from .distributed import all_summed, averaged
from .examples import Examples
from .loader import Ahead
from .loop import Objective, to_device


class HeldOut:
    """Callable for fit: what `count` fixed batches say.

    losses    "held_out_dice_loss"; of a network that does not segment, and so has no groups, "held_out_loss"
    dice      of a group: the mean over its labels
    labels    of a label: counts of voxels over all patches of the cases that ask for it; a label that is neither drawn
              nor predicted there has no Dice, and a group of such labels none either
    examples  a few of the patches; see examples.Examples
    """

    def __init__(
        self,
        batches: Batches | Ahead,
        *,
        count: int,
        labels: LabelSet,
        groups: Sequence[str],
        objective: Objective,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager],
    ) -> None:
        self._batches, self._count, self._labels, self._groups = batches, count, labels, tuple(groups)
        self._objective, self._device, self._autocast = objective, device, autocast

    @torch.inference_mode()
    def __call__(self, network: nn.Module) -> Findings:
        loss, counts, examples = 0.0, dict[str, Tensor](), Examples(self._labels, self._groups)
        for index in range(self._count):
            batch = to_device(self._batches.batch(0, index), self._device)
            with self._autocast():
                judged = self._objective(network, batch)
                loss += (judged.dice if self._groups else judged.total).item() / self._count
            predicted = {group: logits.argmax(1) for group, logits in judged.logits.items()}
            for group, answer in predicted.items():
                found = _counts(answer, batch.labels[group], batch.asked[group])
                counts[group] = counts[group] + found if group in counts else found
            if predicted:
                examples.add(batch, predicted)
        loss = averaged(torch.tensor(loss, device=self._device)).item()  # processes with GPUs exchange nothing else
        dice = {group: _dice(all_summed(found)) for group, found in counts.items()}
        return Findings(
            losses={"held_out_dice_loss" if self._groups else "held_out_loss": loss},
            dice={group: sum(found.values()) / len(found) for group, found in dice.items() if found},
            labels={
                self._labels.names[self._labels.groups[group][index]]: value
                for group, found in dice.items()
                for index, value in found.items()
            },
            examples=examples.best(),
        )


def _dice(counts: Tensor) -> dict[int, float]:
    """Label, counted from 0 in its group -> Dice, from what _counts gives; without those that have none."""
    twice_overlap, sizes = counts.tolist()
    return {index: twice / size for index, (twice, size) in enumerate(zip(twice_overlap, sizes)) if size}


def _counts(predicted: Tensor, target: Tensor, asked: Tensor) -> Tensor:
    """[2, n]: per label, twice the overlap and the sum of both sizes, over what was asked."""
    labels = asked.shape[1] - 1
    rows = asked.nonzero()[:, 0].unique()
    result = torch.zeros(2, labels, dtype=torch.float64, device=predicted.device)
    for row in rows.tolist():
        visible = target[row] != HIDDEN
        truth, guess = target[row][visible].long(), predicted[row][visible]
        hits = torch.bincount(truth[truth == guess], minlength=labels + 1)
        sizes = torch.bincount(truth, minlength=labels + 1) + torch.bincount(guess, minlength=labels + 1)
        use = asked[row, 1:].to(predicted.device)
        result[0] += 2 * hits[1:] * use
        result[1] += sizes[1:] * use
    return result
