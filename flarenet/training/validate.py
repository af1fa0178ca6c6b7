"""How a network does on held-out cases while it trains: the same patches every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from ..data.labels import HIDDEN
from .batches import Batches
from .loop import Objective, to_device


class HeldOut:
    """Callable for fit: {"held_out_dice_loss": mean, "dice GROUP": mean over labels} of `count` fixed batches.

    A network that does not segment has no groups and so no Dice; its first entry is "held_out_loss" instead.
    The Dice of a label counts voxels over all patches of the cases that ask for it. A label that is neither drawn nor
    predicted there is left out of the mean; a group of which nothing is left has no entry.
    """

    def __init__(
        self,
        batches: Batches,
        *,
        count: int,
        groups: Sequence[str],
        objective: Objective,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager],
    ) -> None:
        self._batches, self._count, self._groups = batches, count, tuple(groups)
        self._objective, self._device, self._autocast = objective, device, autocast

    @torch.inference_mode()
    def __call__(self, network: nn.Module) -> dict[str, float]:
        loss, counts = 0.0, dict[str, Tensor]()
        for index in range(self._count):
            batch = to_device(self._batches.batch(0, index), self._device)
            with self._autocast():
                judged = self._objective(network, batch)
                loss += (judged.dice if self._groups else judged.total).item() / self._count
                logits = network(batch.image, self._groups) if self._groups else {}
            for group in self._groups:
                found = _counts(logits[group], batch.labels[group], batch.asked[group])
                counts[group] = counts[group] + found if group in counts else found
        scores = {"held_out_dice_loss" if self._groups else "held_out_loss": loss}
        for group, (twice_overlap, sizes) in counts.items():
            dice = (twice_overlap / sizes)[sizes > 0]
            if dice.numel():
                scores[f"dice {group}"] = dice.mean().item()
        return scores


def _counts(logits: Tensor, target: Tensor, asked: Tensor) -> Tensor:
    """[2, n]: per label, twice the overlap and the sum of both sizes, over what was asked."""
    labels = logits.shape[1] - 1
    predicted = logits.argmax(1)
    rows = asked.nonzero()[:, 0].unique()
    result = torch.zeros(2, labels, dtype=torch.float64, device=logits.device)
    for row in rows.tolist():
        visible = target[row] != HIDDEN
        truth, guess = target[row][visible].long(), predicted[row][visible]
        hits = torch.bincount(truth[truth == guess], minlength=labels + 1)
        sizes = torch.bincount(truth, minlength=labels + 1) + torch.bincount(guess, minlength=labels + 1)
        use = asked[row, 1:]
        result[0] += 2 * hits[1:] * use
        result[1] += sizes[1:] * use
    return result
