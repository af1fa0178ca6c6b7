"""What changes while a network trains."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from pydantic import Field
from torch import nn

from ..schema import Frozen

Weights = dict[str, torch.Tensor]


class EpochRecord(Frozen):
    """One finished epoch, and a line of log.jsonl.

    losses  "loss" and "dice_loss" of training, and those that validation measured
    dice    group -> mean Dice of its labels on held-out patches; empty where nothing was held out
    labels  label -> its Dice there
    timing  "seconds" of all, "samples_per_s" of training: all that differs between two runs of the same thing
    """

    epoch: int
    learning_rate: float
    losses: dict[str, float]
    dice: dict[str, float] = Field(default_factory=dict)
    labels: dict[str, float] = Field(default_factory=dict)
    timing: dict[str, float]


@dataclass
class TrainState:
    """What changes while a network trains, between two batches.

    scaler   of the gradients; at work in float16 only
    average  the moving average of the network's weights, where the plan asks for one
    epoch    finished ones    index  batches that the one after them has had    sums  of its losses so far, by name
    best     the kept weights where selection is not "last"
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    average: nn.Module | None = None
    epoch: int = 0
    index: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best_epoch: int | None = None
    best_score: float | None = None
    best: Weights | None = None
    history: list[EpochRecord] = field(default_factory=list)

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept: the average, where there is one."""
        return self.network if self.average is None else self.average
