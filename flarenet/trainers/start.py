"""Makes the TrainState that a step starts from: its network, with the weights that it builds on, and an optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ..errors import RunError
from ..inference.models.model import load_encoder, load_start
from ..networks import build
from ..networks.memory_order import training_order
from ..planning.plan import Plan, Step, TrainerPlan
from ..planning.runs import Run
from ..training.ema import average_of
from ..training.state import TrainState
from ..training.update import make_scaler
from .foundations import Foundation


def make_state(
    step: Step,
    foundations: Mapping[Run, Foundation],
    *,
    plan: Plan,
    part: TrainerPlan,
    device: torch.device,
    precision: str,
    compiled: bool,
) -> TrainState:
    """The network that the step starts from, on the device, and an optimizer for the parts that learn.

    foundations  the finished runs that the step builds on
    """
    torch.manual_seed(plan.seed)
    patch = plan.configurations[part.configuration].patch
    network = build(part.network, plan.labels.outputs, patch)
    if step.starts_from is not None:
        load_start(network, foundations[step.starts_from].folder)
    if step.encoder_from is not None:
        load_encoder(network, foundations[step.encoder_from].folder)
    freeze(network, step.trained)
    order = training_order(len(patch), device)
    network.to(device).to(memory_format=order)  # type: ignore[call-overload]  # torch's stubs lack it
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    state = TrainState(
        network,
        torch.optim.AdamW(learning, lr=step.learning_rate, weight_decay=part.weight_decay),
        scaler=make_scaler(device, precision),
        average=average_of(network) if part.update.ema else None,
    )
    if compiled:
        network.compile()  # in place: the names of the weights stay as they are
    return state


def freeze(network: nn.Module, trained: Sequence[str]) -> None:
    """Freeze all but the submodules `trained`; empty: nothing. Raises RunError, listing the real names, for others.

    What the network itself holds fixed, such as a position embedding, stays so in each of them.
    """
    if not trained:
        return
    modules = dict(network.named_modules())
    for name in trained:
        if name not in modules or not name:
            real = [module for module in modules if module and module.count(".") <= 1]
            raise RunError(f"submodule {name!r}", found="no such part of the network", expected=", ".join(real))
    kept = {parameter for name in trained for parameter in modules[name].parameters()}
    for parameter in network.parameters():
        if parameter not in kept:
            parameter.requires_grad_(False)
