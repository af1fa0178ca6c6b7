"""Makes the TrainingSetup of the loop, from a step of the plan and its samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from pydantic import JsonValue

from ..planning.facts import training_facts
from ..planning.plan import Plan, Step, TrainerPlan
from ..training.batches import Batches, Sample, case_weights, rare_labels
from ..training.callbacks import Callback
from ..training.checkpoints import Checkpoints
from ..training.distributed import own_rows
from ..training.loader import Loader
from ..training.loop import TrainingSetup
from ..training.objective import Objective
from ..training.validate import HeldOut

HELD_OUT_SHARE = 5
"""One held-out batch is scored for every so many training batches of an epoch: the paper holds out 20 % of slices."""

FEWEST_PATCHES, MOST_OF_A_CASE = 100, 4
"""After an epoch at least FEWEST_PATCHES patches are scored, as many as nnU-Net scores, or MOST_OF_A_CASE for each
held-out case where that is fewer, because patches of one case are alike. A fifth of the batches of a 3D step would be
two patches a case. The lowest loss is chosen as in the paper, by a fifth."""


def make_setup(
    step: Step,
    train: Sequence[Sample],
    held_out: Sequence[Sample],
    *,
    plan: Plan,
    part: TrainerPlan,
    loader: Loader,
    objective: Objective,
    device: torch.device,
    starts_from: str | None,
    folder: Path,
    title: str,
    callbacks: Sequence[Callback] = (),
) -> TrainingSetup:
    """The TrainingSetup of one step, which runs in `folder`. Without held-out samples it has no validation.

    starts_from  as identity_of takes it
    """
    draw = _drawing(step, plan, part)
    validate = None
    if held_out:
        count = held_out_batches(step, len(held_out))
        fixed = draw(held_out, seed=plan.seed + 1, augmentation=None)
        validate = HeldOut(
            loader.prefetch(fixed, epochs=1, batches_per_epoch=count),
            count=count,
            labels=plan.labels,
            groups=step.groups,
            objective=objective,
            device=device,
            update=part.update,
        )
    identity = identity_of(step, train, held_out, plan=plan, part=part, starts_from=starts_from)
    rare = rare_labels(train, step.rare)
    weights = case_weights(train, balance=step.balance, rare=rare)
    batches = draw(train, seed=plan.seed, augmentation=part.augmentation, weights=weights, rare=rare)
    return TrainingSetup(
        step=step,
        batches=loader.prefetch(batches, epochs=step.epochs, batches_per_epoch=step.batches_per_epoch),
        objective=objective,
        validate=validate,
        device=device,
        folder=folder,
        checkpoints=Checkpoints(folder, identity, save_every_s=plan.save_every_s),
        title=title,
        callbacks=tuple(callbacks),
        update=part.update,
    )


def identity_of(
    step: Step,
    train: Sequence[Sample],
    held_out: Sequence[Sample],
    *,
    plan: Plan,
    part: TrainerPlan,
    starts_from: str | None,
) -> dict[str, JsonValue]:
    """The facts of a step's training, and each of its cases with the key of what it was made from.

    An interrupted run resumes only where its identity is still the same. Device, precision and the numbers of workers
    and processes are not part of it, so a run may resume elsewhere. Nor are the other steps of the plan.

    starts_from  the SHA-256 of the weights that the step starts from; None where they are random
    """
    return {
        **training_facts(plan, part, step=step),
        "starts_from": starts_from,
        "train": {sample.name: sample.key for sample in train},
        "held_out": {sample.name: sample.key for sample in held_out},
    }


def held_out_batches(step: Step, cases: int) -> int:
    """How many batches are scored after each epoch, with so many held-out `cases`."""
    share = max(1, step.batches_per_epoch // HELD_OUT_SHARE)
    if not step.groups or step.selection == "lowest loss":
        return share
    return max(share, math.ceil(min(FEWEST_PATCHES, MOST_OF_A_CASE * cases) / step.batch_size))


def _drawing(step: Step, plan: Plan, part: TrainerPlan) -> partial[Batches]:
    """Batches of a step, without its samples, seed, augmentation and weights."""
    configuration = plan.configurations[part.configuration]
    return partial(
        Batches,
        patch=configuration.patch,
        batch_size=step.batch_size,
        rows=own_rows(step.batch_size),
        foreground=part.augmentation.foreground,
        neighbours=configuration.neighbours,
    )
