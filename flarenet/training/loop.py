"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import RunError
from ..networks.memory_order import training_order
from ..planning.plan import Step, Update
from .batches import Batch, Batches
from .callbacks import BatchDone, Callback, EpochDone, Findings, Started, watched
from .checkpoints import Checkpoints
from .distributed import rank
from .ema import update_average
from .loader import PrefetchedBatches
from .objective import Objective
from .signals import Requests, noted
from .state import EpochRecord, TrainState
from .update import not_finite, update_weights

Validation = Callable[[nn.Module, Callable[[], bool]], Findings | None]
"""Called with what says, between two batches, whether a signal to end came; then it gives None."""


@dataclass(frozen=True)
class TrainingSetup:
    """What fit needs in addition to the state: the step's numbers, its batches, objective and validation."""

    step: Step
    batches: Batches | PrefetchedBatches
    objective: Objective
    validate: Validation | None
    device: torch.device
    folder: Path
    checkpoints: Checkpoints
    title: str
    callbacks: tuple[Callback, ...] = ()
    update: Update = Update()


def fit(state: TrainState, setup: TrainingSetup) -> None:
    """Train from `state` to the end of the step; save the state after every epoch and send events to the callbacks.

    A signal takes effect after the current batch, of validation too: the state is saved; one to end is then raised
    again and does what it would have done without fit.
    Raises RunError, before the weights change, where a loss or its gradient is not finite, and before the epoch is
    saved, where a loss of validation is not. Also raises it where a signal to end did not end the process, so that an
    unfinished run is never taken for a finished one.
    """
    with watched(setup.callbacks, Started(setup.title, setup.folder, setup.step, tuple(state.history))) as tell:
        with noted() as requests:
            while state.epoch < setup.step.epochs:
                findings = _epoch(state, setup, requests, tell)
                if findings is None:
                    break
                _keep_best(state, setup.step)
                setup.checkpoints.save(state)
                tell(EpochDone(tuple(state.history), findings.examples))
                requests.check()
        if state.epoch < setup.step.epochs:  # the signal did not end the process: the caller has its own handler
            raise RunError(
                setup.title,
                found=f"a signal to stop after epoch {state.epoch}, batch {state.index}",
                expected=f"{setup.step.epochs} epochs",
                remedy="the same command resumes from there",
            )


def _epoch(state: TrainState, setup: TrainingSetup, requests: Requests, tell: Callback) -> Findings | None:
    """Train the rest of an epoch, validate, and append the epoch's record to `state.history`.

    None where a signal to end came while training or validating; the state is saved then.
    """
    step, first, started = setup.step, state.index, time.perf_counter()
    begun = started - state.seconds  # when the epoch would have begun if no process had ended within it
    _train_epoch(state, setup, requests, tell, begun=begun)
    if requests.stop:
        return None
    trained = time.perf_counter()
    findings = _validate(state, setup, requests)
    if findings is None:
        state.seconds = time.perf_counter() - begun
        setup.checkpoints.save(state)  # after the last batch of the epoch: a run that goes on begins with validation
        return None
    record = EpochRecord(
        epoch=state.epoch + 1,
        learning_rate=learning_rate(step, state.epoch),
        losses={name: total / step.batches_per_epoch for name, total in state.sums.items()} | findings.losses,
        dice=findings.dice,
        labels=findings.labels,
        timing={
            "seconds": time.perf_counter() - begun,
            "samples_per_s": (step.batches_per_epoch - first) * step.batch_size / (trained - started),
        },
    )
    state.epoch, state.index, state.sums, state.seconds = state.epoch + 1, 0, {}, 0.0
    state.history.append(record)
    return findings


def _validate(state: TrainState, setup: TrainingSetup, requests: Requests) -> Findings | None:
    """What validation finds; None where a signal to end came meanwhile. Raises RunError where a loss is not finite."""
    if setup.validate is None:
        return Findings()

    def stopped() -> bool:
        requests.check()
        if requests.save and not requests.stop:  # a run that ends is saved when validation has returned
            requests.save = False
            setup.checkpoints.save(state)
        return requests.stop

    state.eval_network.eval()
    torch.manual_seed(setup.batches.seed)  # validation draws the same numbers, whatever was drawn before
    findings = setup.validate(state.eval_network, stopped)
    if findings is None:
        return None
    for name, loss in findings.losses.items():
        if not math.isfinite(loss):
            where = f"{setup.title}, validation after epoch {state.epoch + 1}"
            raise not_finite(where, f"{name} {loss}", findings.not_finite, fp16=state.scaler.is_enabled())
    return findings


def learning_rate(step: Step, epoch: float) -> float:
    """The learning rate at `epoch` (0 is the start, fractions are within an epoch).

    It rises linearly from 0 during the warm-up. Then it is constant, or falls as a polynomial with power 0.9 (Tables 2
    and 3 of the paper) or as half a cosine.
    """
    if epoch < step.warmup_epochs:
        return step.learning_rate * max(epoch, 1 / step.batches_per_epoch) / step.warmup_epochs
    done = (epoch - step.warmup_epochs) / max(1, step.epochs - step.warmup_epochs)
    if step.schedule == "polynomial":
        return step.learning_rate * (1 - done) ** 0.9
    if step.schedule == "cosine":
        return step.learning_rate * (1 + math.cos(math.pi * done)) / 2
    return step.learning_rate


def _train_epoch(state: TrainState, setup: TrainingSetup, requests: Requests, tell: Callback, *, begun: float) -> None:
    """Train on the remaining batches of an epoch that began at `begun`, or until a signal to end comes."""
    step = setup.step
    _train_mode(state.network)
    # each batch is fetched twice: during the update before its own, and when its turn comes
    fetch = lru_cache(maxsize=1)(partial(_fetch, setup, state.epoch))
    requests.check()  # a signal may have come after the last batch of validation
    while state.index < step.batches_per_epoch and not requests.stop:
        index = state.index
        rate = learning_rate(step, state.epoch + index / step.batches_per_epoch)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        loss, dice_loss = _train_batch(state, setup, index, fetch=fetch)
        for name, value in (("loss", loss), ("dice_loss", dice_loss)):
            state.sums[name] = state.sums.get(name, 0.0) + value
        state.index, state.seconds = state.index + 1, time.perf_counter() - begun
        requests.check()
        if requests.stop or requests.save or setup.checkpoints.due:
            requests.save = False
            setup.checkpoints.save(state)
        tell(BatchDone(state.epoch + 1, index, loss))


def _fetch(setup: TrainingSetup, epoch: int, index: int) -> Batch:
    return to_device(setup.batches.batch(epoch, index), setup.device)


def _train_batch(
    state: TrainState, setup: TrainingSetup, index: int, *, fetch: Callable[[int], Batch]
) -> tuple[float, float]:
    """Update the weights with one batch; returns (its loss, the Dice term of the loss)."""
    batch = fetch(index)

    def meanwhile() -> None:
        if index + 1 < setup.step.batches_per_epoch:
            fetch(index + 1)

    # for random numbers of a network, such as the mask of the masked autoencoder
    torch.manual_seed(_seed(setup.batches.seed, state.epoch, index, rank()))
    where = f"{setup.title}, epoch {state.epoch + 1}, batch {index + 1}"
    names = partial(setup.batches.names, state.epoch, index)
    found = update_weights(
        state, batch, objective=setup.objective, update=setup.update, where=where, names=names, meanwhile=meanwhile
    )
    if state.average is not None:
        number = state.epoch * setup.step.batches_per_epoch + index
        update_average(state.average, state.network, decay=setup.update.ema, updates=number)
    return found


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def to_device(batch: Batch, device: torch.device) -> Batch:
    """`batch` on `device`, the image in training_order.

    `annotated` stays on the CPU: it decides what is computed, and reading it from a GPU would mean waiting for the GPU.
    """

    def sent(part: Tensor) -> Tensor:
        # a copy from pinned memory is asynchronous; with other memory the caller waits until earlier work is done
        return (part.pin_memory() if device.type == "cuda" else part).to(device, non_blocking=True)

    order = training_order(batch.image.ndim - 2, device)
    return Batch(
        image=sent(batch.image).contiguous(memory_format=order),
        labels={group: sent(labels) for group, labels in batch.labels.items()},
        annotated=batch.annotated,
        names=batch.names,
    )


@contextmanager
def fastest_convolutions(search: bool) -> Iterator[None]:
    """Within this context, if `search`, cuDNN times its algorithms for each new input size and uses the fastest.

    That pays where there are few sizes. On a CPU it has no effect.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = search
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _train_mode(network: nn.Module) -> None:
    """Set train mode, but eval mode for frozen modules: their norm statistics stay fixed too."""
    network.train()
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def _keep_best(state: TrainState, step: Step) -> None:
    record = state.history[-1]
    if step.selection == "last":
        return
    if step.selection == "lowest loss":
        # a network without groups does not segment: its Dice loss is 0 in every epoch
        names = ("held_out_dice_loss", "dice_loss") if step.groups else ("held_out_loss", "loss")
        score = -next(record.losses[name] for name in names if name in record.losses)
    else:
        score = sum(record.dice.values()) / len(record.dice) if record.dice else 0.0
        if not score:  # nothing held out, or nothing found in it yet: only the last epoch is a fair choice
            return
    if state.best_score is None or score > state.best_score:
        state.best_epoch, state.best_score = state.epoch, score
        state.best = {name: tensor.detach().clone().cpu() for name, tensor in state.eval_network.state_dict().items()}
