"""A scan seen as it is and mirrored left to right, as one answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from ..data.labels import LabelSet
from ..data.sides import mirrored
from .windows import Slab


def with_mirrored(straight: Iterable[Slab], flipped: Iterable[Slab], labels: LabelSet) -> Iterator[Slab]:
    """The logits of the mean of both probabilities; `flipped` are the slabs of the image mirrored along x.

    A mirrored patient's left kidney is the right one: what is said of it goes back to its voxels, as the other label.
    """
    order = {group: _channels(labels, group) for group in labels.groups}
    for (start, one), (_, other) in zip(straight, flipped, strict=True):
        back = {group: value.flip(-1)[order[group]] for group, value in other.items()}
        # log(p + q): to halve it would add the same to every channel
        yield start, {g: torch.logaddexp(one[g].log_softmax(0), back[g].log_softmax(0)) for g in one}


def _channels(labels: LabelSet, group: str) -> list[int]:
    """For each channel of a group's logits the one that answers it in a mirrored image; background is its own."""
    return [0, *(1 + place for place in mirrored([labels.names[value] for value in labels.groups[group]]))]
