"""One answer from two: for a scan as it is, and for the scan mirrored left to right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from ..data.labels import LabelSet
from ..data.sides import mirrored
from .windows import Slab


def with_mirrored(straight: Iterable[Slab], flipped: Iterable[Slab], labels: LabelSet) -> Iterator[Slab]:
    """Slabs of logits that stand for the mean of both probabilities; `flipped` are slabs of the image mirrored along x.

    In the mirrored image the left kidney looks like a right one. So its answers are mirrored back, and left and right
    labels exchanged.
    """
    order = {group: _channels(labels, group) for group in labels.groups}
    for (start, answer), (_, other) in zip(straight, flipped, strict=True):
        one = {group: torch.as_tensor(value) for group, value in answer.items()}
        back = {group: torch.as_tensor(value).flip(-1)[order[group]] for group, value in other.items()}
        # log(p + q), not halved: halving would add the same to every channel
        yield start, {g: torch.logaddexp(one[g].log_softmax(0), back[g].log_softmax(0)) for g in one}


def _channels(labels: LabelSet, group: str) -> list[int]:
    """For each channel of a group's logits, the channel that answers it in a mirrored image; for background itself."""
    return [0, *(1 + place for place in mirrored([labels.names[value] for value in labels.groups[group]]))]
