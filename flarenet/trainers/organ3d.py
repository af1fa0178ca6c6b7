"""The 3D organ model, M_o2 of the paper: the teacher of the first group."""

from __future__ import annotations

from ..planning.epochs import batches_of
from ..planning.fingerprint import Fingerprint
from ..planning.patterns import asking, fullest
from ..planning.plan import Augmentation, Configuration, NetworkSpec, Step, Subset, TrainerPlan
from .trainer import Trainer

FEATURES = (16, 16, 32, 64, 128, 16)
"""Channels of the paper's 3D U-Net: 1.439 M parameters."""

CROPS_PER_CASE = 2
"""Section 3.2 of the paper: each image gives two patches an epoch."""

AUTO_AUGMENTATION = Augmentation(gamma=0.3, scale=0.2, rotation_deg=15.0, zoom=0.2, foreground=0.5)
"""Wider in intensity than the paper's: a small set holds few of the phases of contrast that a new scan may show."""

AUTO_BALANCE = 0.5
"""Between drawing every case alike, where most batches say nothing about the labels that few cases answer, and drawing
every answer alike, where cohorts with few labels, as those of tumors, nearly vanish."""


class Trainer3DOrgan(Trainer):
    """A 3D U-Net on the first group of the data set."""

    name = "3DOrgan"

    @classmethod
    def plan(
        cls, fingerprint: Fingerprint, recipe: str, configurations: dict[str, Configuration]
    ) -> TrainerPlan | None:
        """One step. `paper`: the cases with the most organs only; `auto`: every case with any, by the marginal loss."""
        group, values = next(iter(fingerprint.labels.groups.items()))
        if recipe == "paper":
            patterns, augmentation = fullest(fingerprint.patterns, values), Augmentation()
            why = "the cases with the most labels of the group, as the paper's D_o13"
        else:
            patterns, augmentation = asking(fingerprint.patterns, values), AUTO_AUGMENTATION
            why = (
                "every case in which any label of the group was looked for; the loss merges the others with background"
            )
        return unet_3d(
            fingerprint,
            (group,),
            patterns,
            epochs=250,
            warmup_epochs=10,
            augmentation=augmentation,
            balance=0.0 if recipe == "paper" else AUTO_BALANCE,
            why=why,
        )


def unet_3d(
    fingerprint: Fingerprint,
    groups: tuple[str, ...],
    patterns: tuple[tuple[int, ...], ...],
    *,
    epochs: int,
    warmup_epochs: int,
    augmentation: Augmentation,
    balance: float = 0.0,
    why: str,
) -> TrainerPlan | None:
    """One step of a 3D U-Net from random weights (Table 2 of the paper); None where no case asks for the groups."""
    if not patterns:
        return None
    batch_size = 4
    step = Step(
        subset=Subset(patterns=patterns),
        groups=groups,
        batch_size=batch_size,
        batches_per_epoch=batches_of(CROPS_PER_CASE * fingerprint.count(patterns), batch_size),
        balance=balance,
        epochs=epochs,
        learning_rate=5e-4,
        warmup_epochs=warmup_epochs,
        schedule="polynomial",
        selection="lowest loss",
    )
    return TrainerPlan(
        configuration="3d",
        network=NetworkSpec(kind="unet", dimensions=3, features=FEATURES, groups=groups),
        augmentation=augmentation,
        steps=(step,),
        why={"subset": why, "batches_per_epoch": f"{CROPS_PER_CASE} patches a case"},
    )
