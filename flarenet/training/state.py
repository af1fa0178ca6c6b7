"""The state of a training run on disk: enough to go on from the last epoch as if nothing had happened.

Order, patches, augmentation and learning rate are functions of (seed, epoch, index), so weights, the two moments of
AdamW and the history are all there is. Tensors are safetensors, the rest is JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..errors import RunError
from ..schema import Frozen, load, save
from ..whole import sha256_of, whole_file

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


class _StateFile(Frozen):
    run_hash: str
    epoch: int
    best_epoch: int | None
    best_score: float | None
    history: tuple[EpochRecord, ...] = Field(default=())
    scaler: dict[str, float] = Field(default_factory=dict)
    tensors: str
    sha256: str


@dataclass
class TrainState:
    """What changes while a network trains.

    scaler   of the gradients; at work in float16 only
    average  the moving average of the network's weights, where the plan asks for one
    best     the kept weights where selection is not "last"
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    average: nn.Module | None = None
    epoch: int = 0
    best_epoch: int | None = None
    best_score: float | None = None
    best: Weights | None = None
    history: list[EpochRecord] = field(default_factory=list)

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept: the average, where there is one."""
        return self.network if self.average is None else self.average


def save_state(state: TrainState, folder: Path, run_hash: str) -> None:
    """Write the state after a finished epoch. The JSON file is the pointer: it names a tensor file that is complete."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in (state.best or {}).items()}
    if state.average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in state.average.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    path = folder / f"state-{state.epoch}.safetensors"
    with whole_file(path) as temporary:
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, temporary)
    record = _StateFile(
        run_hash=run_hash,
        epoch=state.epoch,
        best_epoch=state.best_epoch,
        best_score=state.best_score,
        history=tuple(state.history),
        scaler=state.scaler.state_dict(),
        tensors=path.name,
        sha256=sha256_of(path),
    )
    save(record, folder / "state.json")
    for old in folder.glob("state-*.safetensors"):
        if old != path:
            old.unlink()


def load_state(state: TrainState, folder: Path, run_hash: str) -> bool:
    """Fill `state` from `folder`; False where no state was saved.

    Raises RunError where the state is damaged, or was saved by a run with another plan or other cases.
    """
    if not (folder / "state.json").is_file():
        return False
    record = load(_StateFile, folder / "state.json", RunError)
    again = f"remove the folder {folder} to train this step from its start"
    if record.run_hash != run_hash:
        raise RunError(
            folder,
            found="a half-finished run of another plan or of other cases",
            expected="the same plan and cases",
            remedy=again,
        )
    path = folder / record.tensors
    if not path.is_file() or sha256_of(path) != record.sha256:
        raise RunError(path, found="a damaged or missing file", expected=f"sha256 {record.sha256}", remedy=again)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise RunError(path, found=error, expected="safetensors", remedy=again) from error
    state.network.load_state_dict(_under("network.", tensors))
    state.best = _under("best.", tensors) or None
    if state.average is not None:
        state.average.load_state_dict(_under("average.", tensors))
    if record.scaler:
        state.scaler.load_state_dict(dict(record.scaler))
    _load_optimizer(state.optimizer, _under("optimizer.", tensors))
    state.epoch, state.history = record.epoch, list(record.history)
    state.best_epoch, state.best_score = record.best_epoch, record.best_score
    return True


def remove_state(folder: Path) -> None:
    """Forget the state of a finished run."""
    (folder / "state.json").unlink(missing_ok=True)
    for path in folder.glob("state-*.safetensors"):
        path.unlink()


def _under(prefix: str, tensors: Weights) -> Weights:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load_optimizer(optimizer: torch.optim.Optimizer, moments: Weights) -> None:
    content = optimizer.state_dict()
    content["state"] = {}
    for name, tensor in moments.items():
        number, _, key = name.partition(".")
        content["state"].setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(content)
