"""The 3D organ model, M_o2 of the paper: the teacher of the first group."""

from __future__ import annotations

from ..planning.epochs import LONGEST_EPOCH, batches_of, epochs_for
from ..planning.fingerprint import Fingerprint
from ..planning.patterns import asking, fullest
from ..planning.plan import Augmentation, Step, Subset, TrainerPlan
from ..planning.presets import PAPER_RESOLUTIONS, batch_size, network, network_why
from ..planning.rules import Outline
from .trainer import Trainer

CROPS_PER_CASE = 2
"""Section 3.2 of the paper: each image gives two patches an epoch."""

UPDATES = 40_000
"""Steps of the optimizer. The paper's organ model has 31,250 of them and its cancer model 44,760."""

MOST_EPOCHS = 1000
"""nnU-Net's number; a small set is then learned by heart, however it is augmented."""

AUTO_AUGMENTATION = Augmentation(gamma=0.3, scale=0.2, rotation_deg=15.0, zoom=0.2, foreground=0.5)
"""Wider in intensity than the paper's: a small set holds few of the phases of contrast that a new scan may show."""

AUTO_BALANCE = 0.5
"""Between drawing every case alike, where most batches say nothing about the labels that few cases answer, and drawing
every answer alike, where cohorts with few labels, as those of tumors, nearly vanish."""


class Trainer3DOrgan(Trainer):
    """A 3D U-Net on the first group of the data set."""

    name = "3DOrgan"

    @classmethod
    def plan(cls, fingerprint: Fingerprint, outline: Outline) -> TrainerPlan | None:
        """One step. `paper`: the cases with the most organs only; `auto`: every case with any, by the marginal loss."""
        group, values = next(iter(fingerprint.labels.groups.items()))
        if outline.recipe == "paper":
            patterns = fullest(fingerprint.patterns, values)
            why = "the cases with the most labels of the group, as the paper's D_o13"
        else:
            patterns = asking(fingerprint.patterns, values)
            why = (
                "every case in which any label of the group was looked for; the loss merges the others with background"
            )
        return unet_3d(
            fingerprint, outline, groups=(group,), patterns=patterns, paper_epochs=250, warmup_epochs=10, why=why
        )


def unet_3d(
    fingerprint: Fingerprint,
    outline: Outline,
    *,
    groups: tuple[str, ...],
    patterns: tuple[tuple[int, ...], ...],
    paper_epochs: int,
    warmup_epochs: int,
    why: str,
) -> TrainerPlan | None:
    """One step of a 3D U-Net from random weights (Table 2 of the paper); None where no case asks for the groups."""
    if not patterns:
        return None
    paper, patch = outline.recipe == "paper", outline.configurations["3d"].patch
    spec = network(outline.budget.size, patch, groups, depth=PAPER_RESOLUTIONS if paper else 0)
    samples, batch_why = batch_size(spec, fingerprint.labels.outputs, patch, budget=outline.budget, paper=paper)
    batches = batches_of(CROPS_PER_CASE * fingerprint.count(patterns), samples, most=None if paper else LONGEST_EPOCH)
    epochs, epochs_why = epochs_for(UPDATES, batches, most=MOST_EPOCHS)
    step = Step(
        subset=Subset(patterns=patterns),
        groups=groups,
        batch_size=samples,
        batches_per_epoch=batches,
        balance=0.0 if paper else AUTO_BALANCE,
        epochs=paper_epochs if paper else epochs,
        learning_rate=5e-4,
        warmup_epochs=warmup_epochs,
        schedule="polynomial",
        selection="lowest loss",
    )
    return TrainerPlan(
        configuration="3d",
        network=spec,
        augmentation=Augmentation() if paper else AUTO_AUGMENTATION,
        steps=(step,),
        why={
            "network": network_why(spec, patch, paper=paper),
            "subset": why,
            "batch_size": batch_why,
            "batches_per_epoch": f"{CROPS_PER_CASE} patches a case, at most {LONGEST_EPOCH} batches",
            "epochs": "Table 2 of the paper" if paper else epochs_why,
        },
    )
