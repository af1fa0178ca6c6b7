"""The answers of all groups for one slice, decided by the plan's rule.

The result is a map for each group; laid over each other (data.labels.join) they are the label map. What a group says
beneath a later one is kept, and shows where settle takes the later one away.

"overlay": each group's most probable label; a later group covers an earlier one.

"probability": a group learns only where no later group hides it, so its probabilities hold *given* that no later group
has a label there. By the chain rule, a label's probability is its own times that of background in every later group.
The answer is the most probable of all labels and background. Unlike the overlay, which asks the last group first, this
rule takes a lesion of 40 % where two organs share the other 60.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..data.labels import LabelSet
from ..planning.fusion import Fusion
from .upsample import NetworkSlice, labels_between

if TYPE_CHECKING:
    from torch import Tensor


def slice_maps(
    lower: NetworkSlice, upper: NetworkSlice, share: float, *, fusion: Fusion, labels: LabelSet
) -> dict[str, np.ndarray]:
    """{group: uint8 [Y, X]} of a slice between two network slices: `lower` at `share` 0, `upper` at `share` 1."""
    if fusion.rule == "overlay":
        return labels_between(lower, upper, share)  # needs no torch
    from .interpolated import logits_between

    logits = logits_between(lower, upper, share)
    return decided({group: value.softmax(0) for group, value in logits.items()}, fusion=fusion, labels=labels)


def decided(probabilities: Mapping[str, Tensor], *, fusion: Fusion, labels: LabelSet) -> dict[str, np.ndarray]:
    """{group: uint8 [Y, X]} from {group: probabilities [1 + n, Y, X]}, which need not add up to 1."""
    from .interpolated import best

    if fusion.rule == "overlay":
        return {group: best(value).cpu().numpy() for group, value in probabilities.items()}
    return most_probable({group: probabilities[group] for group in labels.groups if group in probabilities})


def most_probable(probabilities: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """{group: uint8 [Y, X]} by the chain rule, from {group: [1 + n, Y, X]} in drawing order; in a tie background."""
    import torch

    from .interpolated import best

    latest_first = list(probabilities)[::-1]
    own = {group: value / value.sum(0) for group, value in probabilities.items()}
    rest = torch.ones_like(own[latest_first[0]][0])
    highest = torch.zeros_like(rest)
    winner = torch.full(rest.shape, len(own), dtype=torch.uint8, device=rest.device)  # its place in latest_first
    for place, group in enumerate(latest_first):
        chance = own[group][1:].amax(0) * rest
        winner.masked_fill_(chance > highest, place)
        highest = torch.maximum(highest, chance)
        rest = rest * own[group][0]
    winner.masked_fill_(rest >= highest, len(own))
    maps = {}
    for place, group in enumerate(latest_first):
        drawn = best(own[group])
        drawn = torch.where(winner == place, best(own[group][1:]) + 1, drawn)
        drawn.masked_fill_((winner > place) | (winner == len(own)), 0)
        maps[group] = drawn.cpu().numpy()
    return {group: maps[group] for group in probabilities}
