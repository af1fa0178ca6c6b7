"""Masked autoencoding on every scan, labelled or not: the pre-training of the paper's transformer encoders."""

from __future__ import annotations

from typing import cast

from torch import nn

from ..networks import MaskedAutoencoder
from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import CLIP_WHY, Augmentation, Step, Subset, TrainerPlan
from ..planning.rules.configurations import Outline
from ..planning.rules.epochs import CROPS_PER_CASE, LONGEST_EPOCH, batches_of
from ..planning.rules.presets import batch_size, masked_autoencoder
from ..training.batches import Batch
from ..training.losses import Loss
from ..training.sums import weight_of
from .trainer import Trainer


class TrainerMAE(Trainer):
    """Trains an encoder: three quarters of the cubes of a patch are hidden, and the network learns to fill them in."""

    name = "MAE"

    @classmethod
    def plan(cls, fingerprint: Fingerprint, outline: Outline) -> TrainerPlan | None:
        """One step on all cases, with learning rate 3e-4, weight decay 0.05, a long warm-up and a cosine schedule."""
        budget, spec = outline.request.budget, masked_autoencoder(outline.request.budget)
        patch, outputs = outline.configurations["3d"].patch, fingerprint.labels.outputs
        samples, batch_why = batch_size(spec, outputs, patch, budget=budget)
        patches = CROPS_PER_CASE * fingerprint.count(fingerprint.patterns)
        step = Step(
            subset=Subset(patterns=fingerprint.patterns),
            groups=(),
            batch_size=samples,
            batches_per_epoch=batches_of(patches, samples, most=LONGEST_EPOCH),
            epochs=500,
            learning_rate=3e-4,
            warmup_epochs=50,
            schedule="cosine",
        )
        return TrainerPlan(
            configuration="3d",
            network=spec,
            augmentation=Augmentation(probability=0.0),
            weight_decay=0.05,
            steps=(step,),
            why={
                "network": _NETWORK_WHY[spec.kind],
                "subset": "every scan: nothing but the image is needed",
                "batch_size": batch_why,
                "batches_per_epoch": f"{CROPS_PER_CASE} patches a case, at most {LONGEST_EPOCH} batches",
                **dict.fromkeys(
                    ("learning_rate", "warmup_epochs", "schedule", "weight_decay"), "the paper's reference [3]"
                ),
                "augmentation": "none but the position of a patch: He et al. found that filling in needs no more",
                "balance": "every case alike: nothing is asked about labels",
                "clip_norm": CLIP_WHY,
                "selection": "the last weights: there is no truth to judge others by",
                "epochs": "as long as pre-training of this kind takes; the paper does not say",
            },
        )

    def objective(self, step: Step, network: nn.Module, batch: Batch) -> Loss:
        """The mean squared error on hidden voxels; its Dice term is 0."""
        error = cast(MaskedAutoencoder, network).reconstruction_loss(batch.image)
        return Loss(error.new_zeros(()), error * weight_of(len(batch.names), step.batch_size))


_NETWORK_WHY = {
    "mae_vit": "ViT-B with He et al.'s lighter decoder, as in the paper's reference [3]",
    "mae_swin": "Swin UNETR's encoder and a linear map, SimMIM's, as in the paper's reference [3]",
}
