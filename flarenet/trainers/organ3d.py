"""The 3D organ model, M_o2 of the paper: the teacher of the first group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..planning.epochs import CROPS_PER_CASE, LONGEST_EPOCH, batches_of, fewest_batches, paced
from ..planning.fingerprint import Fingerprint
from ..planning.patterns import Pattern, asking, fullest
from ..planning.plan import Augmentation, Step, Subset, TrainerPlan
from ..planning.presets import PAPER_RESOLUTIONS, batch_size, network_3d, network_why
from ..planning.rules import Outline
from .mae import TrainerMAE
from .trainer import Trainer

UPDATES = 40_000
"""Steps of the optimizer. The paper's organ model has 31,250 of them and its cancer model 44,760."""

MOST_EPOCHS = 1000
"""nnU-Net's number; a small set is then learned by heart, however it is augmented."""

AUTO_AUGMENTATION = Augmentation(gamma=0.3, scale=0.2, rotation_deg=15.0, zoom=0.2, foreground=0.5)
"""Wider in intensity than the paper's: a small set holds few of the phases of contrast that a new scan may show."""

AUTO_BALANCE = 0.5
"""Between drawing every case alike, where most batches say nothing about the labels that few cases answer, and drawing
every answer alike, where cohorts with few labels, as those of tumors, nearly vanish."""


@dataclass(frozen=True)
class Stage3D:
    """What sets the steps of a 3D trainer apart (Table 2 of the paper)."""

    patterns: tuple[Pattern, ...]
    why: str
    paper_epochs: int
    warmup_epochs: int
    epochs_why: str = "Table 2 of the paper"


class Trainer3DOrgan(Trainer):
    """A 3D network on the first group of the data set."""

    name = "3DOrgan"

    @classmethod
    def plan(cls, fingerprint: Fingerprint, outline: Outline) -> TrainerPlan | None:
        """`paper`: the cases with the most organs only; `auto`: every case with any, by the marginal loss.

        A transformer has both steps, one after the other: M_o1 and M_o2 of the paper.
        """
        group, values = next(iter(fingerprint.labels.groups.items()))
        every = Stage3D(
            asking(fingerprint.patterns, values),
            "every case in which any label of the group was looked for; the loss merges the others with background",
            paper_epochs=60,
            warmup_epochs=10,
            epochs_why="the paper does not say; those of its cancer model, which has about as many cases",
        )
        best = Stage3D(
            fullest(fingerprint.patterns, values),
            "the cases with the most labels of the group, as the paper's D_o13",
            paper_epochs=250,
            warmup_epochs=10,
        )
        if outline.budget.network == "unet" or every.patterns == best.patterns:
            stages = [best if outline.recipe == "paper" else every]
        else:
            stages = [every, best]
        return plan_3d(cls.name, fingerprint, outline, groups=(group,), stages=stages)


def plan_3d(
    name: str, fingerprint: Fingerprint, outline: Outline, *, groups: tuple[str, ...], stages: Sequence[Stage3D]
) -> TrainerPlan | None:
    """The part of trainer `name`, a 3D network; None where no case asks for the groups.

    A U-Net begins with random weights. A transformer begins with the encoder that MAE has trained, which never learns.
    """
    if not stages[0].patterns:
        return None
    paper, patch = outline.recipe == "paper", outline.configurations["3d"].patch
    spec = network_3d(outline.budget, patch, groups, depth=PAPER_RESOLUTIONS if paper else 0)
    samples, batch_why = batch_size(spec, fingerprint.labels.outputs, patch, budget=outline.budget, paper=paper)
    made = [_step(stage, fingerprint, groups=groups, batch_size=samples, paper=paper) for stage in stages]
    steps = [step for step, _ in made]
    for number in range(1, len(steps)):
        steps[number] = steps[number].model_copy(update={"starts_from": f"{name}/{number}"})
    if outline.budget.network != "unet":
        steps = [step.model_copy(update={"trained": ("decoder", "heads")}) for step in steps]
        steps[0] = steps[0].model_copy(update={"encoder_from": f"{TrainerMAE.name}/1"})
    return TrainerPlan(
        configuration="3d",
        network=spec,
        augmentation=Augmentation() if paper else AUTO_AUGMENTATION,
        steps=tuple(steps),
        why={
            "network": network_why(spec, patch, paper=paper),
            "subset": "; then ".join(stage.why for stage in stages),
            "batch_size": batch_why,
            "batches_per_epoch": f"{CROPS_PER_CASE} patches a case"
            + ("" if paper else f", at least {fewest_batches(MOST_EPOCHS)} and at most {LONGEST_EPOCH} batches"),
            "epochs": "; then ".join(why for _, why in made),
            "learning_rate": "AdamW, weight decay and warm-up of the paper's Table 2; it does not say what follows the "
            "warm-up, so the decay is that of its 2D steps",
            "selection": "the paper keeps the weights of the lowest Dice loss"
            if paper
            else "the Dice over all held-out patches counted together; the mean of the losses of batches, by which the "
            "paper chooses, jumps with every label that a batch lacks",
        },
    )


def _step(
    stage: Stage3D, fingerprint: Fingerprint, *, groups: tuple[str, ...], batch_size: int, paper: bool
) -> tuple[Step, str]:
    """The step, from random weights and with everything learning, and the reason for its epochs."""
    patches = CROPS_PER_CASE * fingerprint.count(stage.patterns)
    batches, epochs, why = paced(patches, batch_size, updates=UPDATES, most_epochs=MOST_EPOCHS)
    if paper:
        batches, epochs, why = batches_of(patches, batch_size), stage.paper_epochs, stage.epochs_why
    step = Step(
        subset=Subset(patterns=stage.patterns),
        groups=groups,
        batch_size=batch_size,
        batches_per_epoch=batches,
        balance=0.0 if paper else AUTO_BALANCE,
        epochs=epochs,
        learning_rate=5e-4,
        warmup_epochs=stage.warmup_epochs,
        schedule="polynomial",
        selection="lowest loss" if paper else "best dice",
    )
    return step, why
