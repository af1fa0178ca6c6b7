"""How long a step trains: how many batches make an epoch, and how many epochs, by the size of its data."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..measuring.fingerprint import Fingerprint
from ..plan import Plan
from ..plan_file import override
from .patterns import Pattern

LONGEST_EPOCH = 500
"""The most batches of an epoch. Progress is saved and judged once an epoch; with thousands of cases that would be too
rare otherwise."""

FEWEST_UPDATES = 4_000
"""The fewest steps of the optimizer: a tenth of what a set of ordinary size gets. A few scans of a few slices are one
batch, and one update an epoch leaves a network near its random weights. nnU-Net makes 250,000 updates for any set."""

CROPS_PER_CASE = 2
"""How many 3D patches each image gives in an epoch, by section 3.2 of the paper."""

FEWEST_EPOCHS = 20
"""The fewest epochs: the paper's smallest number. A learning rate needs some epochs to fall."""


def slices_of(fingerprint: Fingerprint, patterns: Iterable[Pattern]) -> int:
    """How many axial slices the cases of `patterns` have together."""
    wanted = set(patterns)
    return sum(case.shape[0] for case in fingerprint.cases if case.annotated in wanted)


def batches_of(samples: int, batch_size: int, *, most: int | None = None) -> int:
    """How many batches show every sample once; at least one, at most `most`."""
    batches = max(1, math.ceil(samples / batch_size))
    return batches if most is None else min(batches, most)


def epochs_for(updates: int, batches_per_epoch: int, *, most: int) -> tuple[int, str]:
    """(epochs, the reason): as many as make about `updates` steps of the optimizer, from FEWEST_EPOCHS to `most`.

    A set of any size needs about the same number of updates, but in a small set each case would then be seen too often.
    """
    epochs = round(updates / batches_per_epoch)
    why = f"{updates:,} updates, of the order of the paper's, in epochs of {batches_per_epoch} batches"
    if epochs > most:
        return most, f"{why} would show every sample {epochs} times; {most} epochs are the most"
    return max(epochs, FEWEST_EPOCHS), why


def fewest_batches(most_epochs: int) -> int:
    """The fewest batches of an epoch with which `most_epochs` make FEWEST_UPDATES."""
    return math.ceil(FEWEST_UPDATES / most_epochs)


def paced(
    samples: int, batch_size: int, *, updates: int, most_epochs: int, longest: int = LONGEST_EPOCH
) -> tuple[int, int, str]:
    """(batches of an epoch, epochs, the reason), with epochs as in epochs_for. Every sample is shown once an epoch, or
    more often where that would make too few updates.

    longest  the most batches of an epoch
    """
    once = batches_of(samples, batch_size, most=longest)
    batches = min(max(once, fewest_batches(most_epochs)), longest)
    epochs, why = epochs_for(updates, batches, most=most_epochs)
    if batches > once:
        why = (
            f"{batches * epochs:,} updates in epochs of {batches} batches, where {once} would show every sample; "
            f"{epochs} epochs of so few would leave the network near its random weights"
        )
    return batches, epochs, why


def with_epochs(plan: Plan, trainer: str, epochs: int) -> Plan:
    """`plan` with `epochs` in every step of `trainer`. A warm-up keeps its share of them, but never takes all."""
    key = f"trainers.{trainer}.steps"
    warmups = [
        f"{key}.{number}.warmup_epochs={min(step.warmup_epochs * epochs // step.epochs, epochs - 1)}"
        for number, step in enumerate(plan.trainer(trainer).steps)
    ]
    return override(plan, [f"{key}.*.epochs={epochs}", *warmups])
