"""One update of the weights: from a batch to the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from ..errors import RunError
from ..inference.engines.engine import pick_precision
from ..planning.plan import Update
from .batches import Batch
from .distributed import average_gradients, averaged
from .objective import Objective
from .state import TrainState
from .sums import in_turns


def make_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """A scaler that keeps small gradients from underflow in float16; disabled in other precisions.

    precision  as engines.pick_precision takes it
    """
    return torch.amp.GradScaler(device.type, enabled=pick_precision(device, precision) == torch.float16)


def update_weights(
    state: TrainState,
    batch: Batch,
    *,
    objective: Objective,
    update: Update,
    where: str,
    names: Callable[[], Sequence[str]] | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> tuple[float, float]:
    """Take one step of the optimizer on `batch`; returns (the loss, its Dice term).

    names      gives the cases of the whole batch, of which other processes may have a part; None: those of `batch`
    meanwhile  called once a GPU has been given its work, before the CPU waits for it; the weights have not changed yet
    A gradient that overflows in float16 only lowers the scale, as long as it is above 1.
    Raises RunError at `where`, before the weights change, if the loss or its gradient is not finite (then it names the
    cases), or if no parameter that learns has a part in the loss.
    """
    learning = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    state.optimizer.zero_grad(set_to_none=True)
    terms, parts = torch.zeros(2, device=batch.image.device), batch.parts(update.at_once(len(batch.names)))
    for loss in in_turns(parts, partial(objective, state.network)):
        if not loss.total.requires_grad:
            expected = "parts that learn among those that answer the step's groups"
            raise RunError(where, found="a loss in which nothing that learns has a part", expected=expected)
        terms += torch.stack([loss.total.detach(), loss.dice.detach()]) / len(parts)
        state.scaler.scale(loss.total / len(parts)).backward()
    average_gradients(learning)
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.clip_grad_norm_(learning, update.clip_norm)
    numbers = torch.stack([*averaged(terms), norm])
    meanwhile()
    total, dice, length = numbers.tolist()  # only here the CPU waits for a GPU
    cases, fp16 = names or (lambda: batch.names), state.scaler.is_enabled()
    if not math.isfinite(total):
        raise not_finite(where, f"loss {total}", cases(), fp16=fp16)
    if not math.isfinite(length) and state.scaler.get_scale() <= 1:  # 1 where nothing is scaled
        raise not_finite(where, f"a gradient of length {length}", cases(), fp16=fp16)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return total, dice


def not_finite(where: str, found: str, cases: Sequence[str], *, fp16: bool) -> RunError:
    """The error for a number, `found` at `where` in a batch of `cases`, that ends a run.

    fp16  whether the run computes in float16, which holds no number above 65504
    """
    named = f"; cases of this batch: {', '.join(sorted(set(cases)))}" if cases else ""  # another process knows them
    remedy = "look at these images, or lower the learning rate; the last state is kept"
    if fp16:
        remedy = "the same command with --precision fp32 goes on from the last state; if it ends here too, " + remedy
    return RunError(where, found=found + named, expected="finite numbers", remedy=remedy)
