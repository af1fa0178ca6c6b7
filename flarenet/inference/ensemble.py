"""Several models that answer as one: in each voxel, the label with the highest mean probability.

The probabilities of each group are averaged over the models that answer it, whatever resolution they were trained at:
at the scan's own resolution, a slice at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..preparation.prepare import Frame
from .fuse import decided
from .interpolated import logits_between
from .member import Member
from .stream import Answer, Place


def mean_answer(
    z: int,
    row: Sequence[Place | None],
    frames: Sequence[Frame],
    *,
    members: Sequence[Member],
    groups: Sequence[str],
    probabilities: bool,
) -> Answer:
    """The answer of all `members` together for slice `z`. The fusion rule of the first one decides.

    row     for each member the Place of the slice; None outside its frame's box
    frames  for each member the Frame of what it sees
    groups  the groups to answer
    """
    first = members[0]
    size = frames[0].reoriented.shape[1:]
    logits = [None if place is None else logits_between(*place) for place in row]
    totals: dict[str, Tensor] = {}
    for group in groups:
        count = 1 + len(first.model.labels.groups[group])
        totals[group] = torch.zeros((count, *size), device=first.engine.device)
        for member, said, frame in zip(members, logits, frames):
            if group in member.model.groups:
                _add(totals[group], None if said is None else said[group], frame)
    maps = decided(totals, fusion=first.model.plan.fusion, labels=first.model.labels)
    if not probabilities:
        return Answer(z, maps)
    return Answer(z, maps, {group: (total / total.sum(0)).cpu().numpy() for group, total in totals.items()})


def _add(total: Tensor, logits: Tensor | None, frame: Frame) -> None:
    """Add a model's probabilities to `total`, [1 + n, Y, X] of a whole slice. Outside the model's box is background."""
    total[0] += 1
    if logits is not None:
        _, rows, columns = frame.box.slices
        total[0, rows, columns] -= 1
        total[:, rows, columns] += logits.softmax(0)
