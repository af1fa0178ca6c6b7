"""One of several processes that train together, as torchrun starts it; test_distributed.py starts it by hand."""

import math
import os
import signal
from contextlib import nullcontext

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from flarenet.planning.plan import Augmentation, Step, Subset
from flarenet.training.batches import Batches, Sample
from flarenet.training.checkpoints import Checkpoints
from flarenet.training.distributed import joined, own_rows, rank
from flarenet.training.loop import Course, fit
from flarenet.training.losses import segmentation_loss
from flarenet.training.state import TrainState

CPU = torch.device("cpu")
STEP = Step(
    subset=Subset(patterns=((1,),)), groups=("organ",), batch_size=5, batches_per_epoch=3, epochs=2, learning_rate=0.01
)


def samples():
    """Cases that answer both labels, one of them, or none."""
    draw = np.random.default_rng(0)
    made = []
    for number, asked in enumerate(([1, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1])):
        image = draw.integers(0, 2047, (3, 12, 12)).astype(np.int16)
        drawn = (image // 700).astype(np.uint8)
        drawn[~np.array(asked, bool)[drawn]] = 0
        made.append(Sample(f"c{number}", image, {"organ": drawn}, {"organ": np.array(asked, bool)}))
    return made


def train(folder, harm=None):
    """Rank 0 leaves the weights in `folder`. `harm`: what befalls the second process at the fifth batch, "killed" or
    "nan"."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    state = TrainState(network, torch.optim.AdamW(network.parameters(), lr=0.01))
    batches = Batches(
        samples(), (8, 8), batch_size=5, seed=5, augmentation=Augmentation(gamma=0.2), rows=own_rows(STEP.batch_size)
    )
    seen = []

    def objective(network, batch):
        seen.append(batch)
        if len(seen) == 5 and rank() == 1 and harm == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        factor = math.nan if len(seen) == 5 and rank() == 1 and harm == "nan" else 1.0
        answers = {"organ": network(batch.image) * factor}
        return segmentation_loss(answers, batch.labels, batch.asked, exclusion=0.5)

    checkpoints = Checkpoints(folder, {}, save_every_s=1e9)
    fit(state, Course(STEP, batches, objective, None, CPU, nullcontext, folder, checkpoints, "test"))
    if rank() == 0:
        save_file(network.state_dict(), folder / "weights.safetensors")


def work(folder, told, log, harm=None):
    """The whole of a process that is told `told` by its environment, and writes what it says to `log`."""
    os.environ.update(told)
    with open(log, "w") as said:
        os.dup2(said.fileno(), 2)
    torch.set_num_threads(1)
    with joined(CPU):
        train(folder, harm)
