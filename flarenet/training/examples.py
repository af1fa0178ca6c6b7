"""A few held-out patches with their predictions, to look at: the same patches after every epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from ..data.labels import HIDDEN, LabelSet, join
from .batches import Batch
from .callbacks import Example

MOST = 4
"""Most examples, each of a different case."""


class Examples:
    """Gathers, batch by batch, each case's patch with the most labels; among equal ones the first.

    Every validation has the same batches, so the first one chooses the patches and later ones only collect these.
    """

    def __init__(self, labels: LabelSet, groups: Sequence[str]) -> None:
        self._labels, self._groups = labels, tuple(groups)
        self._number = 0  # of the next patch, counted within its validation
        self._richest: dict[str, tuple[int, int]] = {}  # case -> how many labels its patch has, and which it is
        self._chosen: list[int] | None = None
        self._shown: dict[int, Example] = {}

    def add(self, batch: Batch, predicted: Mapping[str, Tensor]) -> None:
        """Take the examples of a batch. predicted: {group: integers [B, *S]}, 0 background, 1..n the group's labels."""
        for row in range(len(batch.names)):
            if self._is_rich(batch, row) if self._chosen is None else self._number in self._chosen:
                self._shown[self._number] = self._example(batch, predicted, row)
            self._number += 1

    def best(self) -> tuple[Example, ...]:
        """The examples, at most MOST, with the most labels first. The next `add` starts a new validation."""
        if self._chosen is None:
            ranked = sorted(self._richest.values(), key=lambda found: -found[0])
            self._chosen = [number for _, number in ranked[:MOST]]
        examples = tuple(self._shown[number] for number in self._chosen)
        self._number, self._shown = 0, {}
        return examples

    def _is_rich(self, batch: Batch, row: int) -> bool:
        """Whether the patch has more labels than all earlier ones of its case; if so it replaces the best of them."""
        richness = _labels_in(self._maps(batch, row))
        most, number = self._richest.get(batch.names[row], (-1, -1))
        if richness <= most:
            return False
        self._shown.pop(number, None)
        self._richest[batch.names[row]] = richness, self._number
        return True

    def _maps(self, batch: Batch, row: int) -> dict[str, np.ndarray]:
        return {group: batch.labels[group][row].cpu().numpy() for group in self._groups}

    def _example(self, batch: Batch, predicted: Mapping[str, Tensor], row: int) -> Example:
        image, maps = batch.image[row].cpu().numpy(), self._maps(batch, row)
        answers = {group: predicted[group][row].cpu().numpy() for group in self._groups}
        if image.ndim == 4:  # a block: its slice with the most labels
            z = max(range(image.shape[1]), key=lambda z: _labels_in({group: each[z] for group, each in maps.items()}))
            image = image[:, z]
            maps, answers = ({group: each[z] for group, each in both.items()} for both in (maps, answers))
        labels = join(maps, self._labels)
        labels[(labels == 0) & np.any([each == HIDDEN for each in maps.values()], axis=0)] = HIDDEN
        not_annotated = tuple(
            value
            for group in self._groups
            for value, annotated in zip(self._labels.groups[group], batch.annotated[group][row, 1:].tolist())
            if not annotated
        )
        return Example(batch.names[row], image[len(image) // 2], labels, join(answers, self._labels), not_annotated)


def _labels_in(maps: Mapping[str, np.ndarray]) -> int:
    """How many labels the maps of all groups hold."""
    return sum(int((np.bincount(each.ravel(), minlength=HIDDEN)[1:HIDDEN] > 0).sum()) for each in maps.values())
