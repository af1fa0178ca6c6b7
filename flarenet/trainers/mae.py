"""Masked autoencoding on every scan, labelled or not: the pre-training of the paper's transformer encoders."""

from __future__ import annotations

from typing import cast

from torch import nn

from ..networks import MaskedAutoencoder
from ..planning.epochs import batches_of
from ..planning.fingerprint import Fingerprint
from ..planning.plan import Augmentation, Configuration, NetworkSpec, Step, Subset, TrainerPlan
from .batches import Batch
from .losses import Loss
from .organ3d import CROPS_PER_CASE
from .trainer import Trainer

VIT_BASE = (768, 3072, 12, 12, 384, 1536, 8, 12)
"""Encoder ViT-B as in the paper's reference [3]; the lighter decoder is He et al.'s proportion (arXiv 2111.06377)."""


class TrainerMAE(Trainer):
    """Hides three quarters of the cubes of a patch and learns to fill them in."""

    name = "MAE"

    @classmethod
    def plan(
        cls, fingerprint: Fingerprint, recipe: str, configurations: dict[str, Configuration]
    ) -> TrainerPlan | None:
        """One step on all cases; AdamW 3e-4 with weight decay 0.05, a long warm-up and a cosine."""
        batch_size = 4
        step = Step(
            subset=Subset(patterns=fingerprint.patterns),
            groups=(),
            batch_size=batch_size,
            batches_per_epoch=batches_of(CROPS_PER_CASE * fingerprint.count(fingerprint.patterns), batch_size),
            epochs=500,
            learning_rate=3e-4,
            warmup_epochs=50,
            schedule="cosine",
        )
        return TrainerPlan(
            configuration="3d",
            network=NetworkSpec(kind="mae_vit", dimensions=3, features=VIT_BASE, groups=()),
            augmentation=Augmentation(probability=0.0),
            weight_decay=0.05,
            steps=(step,),
            why={"subset": "every scan: nothing but the image is needed"},
        )

    def objective(self, step: Step, network: nn.Module, batch: Batch) -> Loss:
        """The mean squared error on masked voxels; there is no Dice."""
        error = cast(MaskedAutoencoder, network).reconstruction_loss(batch.image)
        return Loss(error.new_zeros(()), error)
