"""A few held-out patches with the network's answer to them: the same ones every time, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from ..data.labels import HIDDEN, LabelSet, join
from .batches import Batch
from .callbacks import Example

MOST = 4


class Examples:
    """Gathers, batch by batch, the patch with the most labels of each case; of equals, the first."""

    def __init__(self, labels: LabelSet, groups: Sequence[str]) -> None:
        self._labels, self._groups = labels, tuple(groups)
        self._found: dict[str, tuple[int, Example]] = {}

    def add(self, batch: Batch, predicted: Mapping[str, Tensor]) -> None:
        """predicted: {group: integers [B, *S]}, 0 background, 1..n"""
        for row, case in enumerate(batch.names):
            maps = {group: batch.labels[group][row].cpu().numpy() for group in self._groups}
            richness = _labels_in(maps)
            if case not in self._found or richness > self._found[case][0]:
                self._found[case] = richness, self._example(batch, maps, predicted, row)

    def best(self) -> tuple[Example, ...]:
        """Those of the MOST cases with the most labels, in that order."""
        ranked = sorted(self._found.values(), key=lambda found: -found[0])
        return tuple(example for _, example in ranked[:MOST])

    def _example(
        self, batch: Batch, maps: Mapping[str, np.ndarray], predicted: Mapping[str, Tensor], row: int
    ) -> Example:
        image = batch.image[row].cpu().numpy()
        answers = {group: predicted[group][row].cpu().numpy() for group in self._groups}
        if image.ndim == 4:  # a block: its slice with the most labels
            z = max(range(image.shape[1]), key=lambda z: _labels_in({group: each[z] for group, each in maps.items()}))
            image = image[:, z]
            maps, answers = ({group: each[z] for group, each in both.items()} for both in (maps, answers))
        labels = join(maps, self._labels)
        labels[(labels == 0) & np.any([each == HIDDEN for each in maps.values()], axis=0)] = HIDDEN
        not_asked = tuple(
            value
            for group in self._groups
            for value, asked in zip(self._labels.groups[group], batch.asked[group][row, 1:].tolist())
            if not asked
        )
        return Example(batch.names[row], image[len(image) // 2], labels, join(answers, self._labels), not_asked)


def _labels_in(maps: Mapping[str, np.ndarray]) -> int:
    """How many labels the maps of all groups hold."""
    return sum(int((np.bincount(each.ravel(), minlength=HIDDEN)[1:HIDDEN] > 0).sum()) for each in maps.values())
