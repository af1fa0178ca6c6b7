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

    losses  "loss" and "dice_loss" of training, and the losses that validation measured
    dice    group -> mean Dice of its labels on held-out patches; empty where nothing was held out
    labels  label name -> its Dice on held-out patches
    timing  "seconds" of the whole epoch, in all processes that worked on it, and "samples_per_s" of the training in the
            last of them; only these differ between two equal runs
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

    scaler      scales gradients; enabled in float16 only
    average     moving average of the network's weights; None where the plan has none
    epoch       number of finished epochs
    index       number of batches of the current epoch that are done
    sums        name -> sum of the losses of these batches
    seconds     seconds spent on the current epoch, in all processes that worked on it
    best_epoch  the epoch whose weights are `best`; None where selection is "last" or no epoch was scored
    best_score  its score; higher is better
    best        the best weights so far, on the CPU; None like best_epoch
    history     records of the finished epochs
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    average: nn.Module | None = None
    epoch: int = 0
    index: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    best_epoch: int | None = None
    best_score: float | None = None
    best: Weights | None = None
    history: list[EpochRecord] = field(default_factory=list)

    @property
    def eval_network(self) -> nn.Module:
        """The network that is validated and kept: the average, where there is one."""
        return self.network if self.average is None else self.average
