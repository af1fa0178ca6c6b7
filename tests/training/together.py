"""Processes that train together, each told what torchrun would tell it."""

import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from flarenet.planning.plan import Augmentation, Step, Subset, Update
from flarenet.training.batches import Batches, Sample
from flarenet.training.checkpoints import Checkpoints
from flarenet.training.distributed import joined, own_rows, rank
from flarenet.training.loop import TrainingSetup, fit
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
    for number, annotated in enumerate(([1, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1])):
        image = draw.integers(0, 2047, (3, 12, 12)).astype(np.int16)
        drawn = (image // 700).astype(np.uint8)
        drawn[~np.array(annotated, bool)[drawn]] = 0
        made.append(Sample(f"c{number}", image, {"organ": drawn}, {"organ": np.array(annotated, bool)}))
    return made


def train(folder, harm=None, accumulate=1, victim=1):
    """Go on from what is in `folder`; the first process leaves the weights there.

    harm    what befalls the process `victim` at the fifth batch: "killed", "nan", or "signals", by which it is asked
            for a state at the fourth batch and for the end at the fifth
    """
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    state = TrainState(network, torch.optim.AdamW(network.parameters(), lr=0.01))
    batches = Batches(
        samples(), (8, 8), batch_size=5, seed=5, augmentation=Augmentation(gamma=0.2), rows=own_rows(STEP.batch_size)
    )
    seen = []

    def objective(network, batch):
        seen.append(batch)
        number = len(seen) if rank() == victim else 0
        if number == 5 and harm == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if number in (4, 5) and harm == "signals":
            signal.raise_signal(signal.SIGUSR1 if number == 4 else signal.SIGTERM)
        factor = math.nan if number == 5 and harm == "nan" else 1.0
        answers = {"organ": network(batch.image) * factor}
        return segmentation_loss(answers, batch.labels, batch.annotated, exclusion=0.5)

    checkpoints, update = Checkpoints(folder, {}, save_every_s=1e9), Update(accumulate=accumulate)
    checkpoints.load(state, print)
    setup = TrainingSetup(STEP, batches, objective, None, CPU, folder, checkpoints, "test", update=update)
    fit(state, setup)
    if rank() == 0:
        save_file(network.state_dict(), folder / "weights.safetensors")


def work(task, folder, told, log, words):
    """The whole of a process that is told `told` by its environment, and writes what it says to `log`."""
    os.environ.update(told)
    with open(log, "w") as said:
        os.dup2(said.fileno(), 2)
    torch.set_num_threads(1)
    with joined(CPU):
        task(folder, **words)


PRELOADED = [__name__, "torch._dynamo", "batchgenerators.augmentations.color_augmentations"]
"""All that a process needs; torch's optimizers import the second at their first step, what augments the third."""


def second(folder):
    """Where the second of two processes finds what the first finds in `folder`: what it writes is seen there."""
    return folder.with_name(f"{folder.name}-second")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def on_two_machines(folder):
    """[(exit code, what it said)] of two torchruns that train in `folder`, which they share, as on a machine each."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}", "--local-addr", "127.0.0.1"]
    line, root = [*torchrun, *meet, "-m", __name__, str(folder)], Path(__file__).resolve().parents[2]
    started = [subprocess.Popen(line, cwd=root, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        said = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.terminate()  # which ends what it started too
    return [(process.returncode, text) for process, text in zip(started, said)]


def start(folder, task=train, **words):
    """[(process, its log)] of two at `task`, all copies of one that has imported all; each in a folder of its own."""
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "test"}
    context, started = multiprocessing.get_context("forkserver"), []
    context.set_forkserver_preload(PRELOADED)
    for number, place in enumerate((folder, second(folder))):
        place.mkdir(exist_ok=True)
        own = {name: str(value) for name, value in {**told, "RANK": number, "LOCAL_RANK": number}.items()}
        log = place.with_name(f"{place.name}.txt")
        process = context.Process(target=work, args=(task, place, own, log, words))
        process.start()
        started.append((process, log))
    return started


def end(started):
    """[(exit code, what it said)]; None for a code where the first has not ended a minute after the second."""
    for (process, _), patience_s in zip(started[::-1], (300, 60)):
        process.join(patience_s)
    ended = [(process.exitcode, log.read_text()) for process, log in started]
    for process, _ in started:
        process.kill()
    return ended


if __name__ == "__main__":  # torchrun starts it so
    torch.set_num_threads(1)
    with joined(CPU):
        train(Path(sys.argv[1]))
        group = weakref.ref(torch.distributed.group.WORLD)
    assert group() is None  # with its threads, one of which could abort the process at its end
