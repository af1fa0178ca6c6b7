"""A run of seconds: a network of two layers that learns to tell bright voxels from dark ones."""

import numpy as np
import torch
from torch import nn

from flarenet.data.labels import LabelSet
from flarenet.planning.plan import Step, Subset, Update
from flarenet.training.batches import Batches, Sample
from flarenet.training.checkpoints import Checkpoints
from flarenet.training.loop import TrainingSetup
from flarenet.training.losses import segmentation_loss
from flarenet.training.state import TrainState
from flarenet.training.validate import HeldOut

STEP = Step(
    subset=Subset(patterns=((1,),)), groups=("organ",), batch_size=2, batches_per_epoch=3, epochs=4, learning_rate=0.01
)
IDENTITY = {"step": {"epochs": 4}, "seed": 5}
LABELS = LabelSet(names=("background", "bright"), groups={"organ": (1,)})
CPU = torch.device("cpu")


class Network(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(width, 2, 1)
        )

    def forward(self, image, groups):
        return {group: self.layers(image) for group in groups}


def objective(network, batch):
    return segmentation_loss(network(batch.image, ("organ",)), batch.labels, batch.annotated)


def batches(*, seed=5, count=3):
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 2048, (3, 12, 12)).astype(np.int16) for _ in range(count)]
    annotated = {"organ": np.array([True, True])}
    samples = [
        Sample(f"c{n}", each, {"organ": (each > 1000).astype(np.uint8)}, annotated) for n, each in enumerate(images)
    ]
    return Batches(samples, (8, 8), batch_size=2, seed=seed, augmentation=None)


def held_out(accumulate=1, objective=objective):
    return HeldOut(
        batches(seed=6),
        count=2,
        labels=LABELS,
        groups=STEP.groups,
        objective=objective,
        device=CPU,
        update=Update(accumulate=accumulate),
    )


def checkpoints(folder, identity=IDENTITY, *, save_every_s=600.0):
    return Checkpoints(folder, identity, save_every_s=save_every_s)


def training_setup(folder, *callbacks, objective=objective, validate=None, step=STEP, save_every_s=600.0):
    kept = checkpoints(folder, save_every_s=save_every_s)
    return TrainingSetup(step, batches(), objective, validate, CPU, folder, kept, "test", callbacks)


def fresh_state(width=4):
    torch.manual_seed(0)
    network = Network(width).to(memory_format=torch.channels_last)
    return TrainState(network, torch.optim.AdamW(network.parameters(), lr=0.01))
