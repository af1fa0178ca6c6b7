"""The state of a training run on disk: enough to resume after any batch as if the run had not stopped.

state-EPOCH-BATCH.safetensors   weights of the network, of its average and of the best epoch; moments of the optimizer
state-EPOCH-BATCH.json          everything else, and the SHA-256 of both; written last: without it there is no state

The order of cases, patches, augmentation, learning rate and random numbers of the network are functions of (seed,
epoch, index), so no state of a random generator is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import FlarenetError, RunError, StorageError, UsageError, some_of
from ..inference.models.model import save_tensors
from ..schema import LARGEST_TABLE_BYTES, Frozen, check_content, digest, leaves, load, save, to_json
from ..whole import reading, remove_leftovers, sha256_of
from .distributed import rank
from .state import EpochRecord, TrainState, Weights

Identity = dict[str, JsonValue]
"""What decides the result of a run: plan and data, as JSON."""


class _Record(Frozen):
    identity: Identity
    epoch: int
    index: int
    sums: dict[str, float]
    seconds: float
    best_epoch: int | None
    best_score: float | None
    history: tuple[EpochRecord, ...]
    scaler: dict[str, float]


class _StateFile(Frozen):
    largest_bytes = LARGEST_TABLE_BYTES
    version: Literal[3] = 3
    record: _Record
    sha256: dict[Literal["record", "tensors"], str]


class Checkpoints:
    """The last two states of one run, in `folder`. A state also holds the best weights so far.

    identity      only states of this identity are loaded
    save_every_s  seconds after which the state is due to be saved again
    """

    def __init__(self, folder: Path, identity: Mapping[str, JsonValue], *, save_every_s: float) -> None:
        self._folder, self._identity, self._save_every_s = folder, dict(identity), save_every_s
        self._last_s = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last_s >= self._save_every_s

    def save(self, state: TrainState) -> None:
        """Write `state`; of the others only the newest older one stays. Of several processes only the first writes."""
        if rank() > 0:
            return
        path = self._folder / f"state-{state.epoch:05}-{state.index:05}.safetensors"
        save_tensors(_tensors(state), path)
        record = _Record(
            identity=self._identity,
            epoch=state.epoch,
            index=state.index,
            sums=state.sums,
            seconds=state.seconds,
            best_epoch=state.best_epoch,
            best_score=state.best_score,
            history=tuple(state.history),
            scaler=state.scaler.state_dict(),
        )
        digests: dict[Literal["record", "tensors"], str] = {"record": digest(record), "tensors": sha256_of(path)}
        save(_StateFile(record=record, sha256=digests), path.with_suffix(".json"))
        older = [other for other in self._newest_first() if other.stem < path.stem]
        self._remove_all_but(path.stem, *(other.stem for other in older[:1]))
        self._last_s = time.monotonic()

    def load(self, state: TrainState, say: Callable[[str], None]) -> bool:
        """Fill `state` from the newest saved state that is sound; False where none was ever saved.

        say  called with what is wrong with newer states
        Where no saved state can be used, raises the error of the newest: RunError for damage, StorageError for files
        that cannot be read, UsageError, naming the differences, for another identity.
        """
        if rank() == 0:  # a second process would remove what the first is writing
            remove_leftovers(self._folder)
        faults = list[FlarenetError]()
        for path in self._newest_first():
            try:
                self._fill(state, path)
            except FlarenetError as fault:
                faults.append(fault)
                continue
            for passed_over in faults:
                say(f"{passed_over}\n  the state before it is used")
            return True
        if faults:
            first = faults[0]
            if isinstance(first, StorageError):  # it may be sound
                raise first
            remedy = f"put it back as it was, or remove the folder {self._folder} to train this step from its start"
            raise type(first)(first.thing, found=first.found, expected=first.expected, remedy=remedy) from first
        return False

    def remove(self) -> None:
        """Remove the states of a finished run."""
        self._remove_all_but()

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("state*.json"), reverse=True)

    def _remove_all_but(self, *stems: str) -> None:
        for suffix in (".json", ".safetensors"):  # in this order: without its JSON file a state does not count
            for path in self._folder.glob(f"state*{suffix}"):
                if path.stem not in stems:
                    path.unlink()

    def _fill(self, state: TrainState, path: Path) -> None:
        record, tensors = _read(path)
        found, expected = differences(record.identity, self._identity)
        if found:
            raise UsageError(f"{path}: the state of another run", found=found, expected=expected)
        try:
            state.network.load_state_dict(_under("network.", tensors))
            if state.average is not None:
                state.average.load_state_dict(_under("average.", tensors))
            if record.scaler:  # empty unless the run was in float16
                state.scaler.load_state_dict(_in_types_of(state.scaler.state_dict(), record.scaler))
            _fill_optimizer(state.optimizer, _under("optimizer.", tensors))
        except (RuntimeError, ValueError, LookupError) as problem:
            raise RunError(path, found=problem, expected="a state of this network and its optimizer") from problem
        state.best = _under("best.", tensors) or None
        state.epoch, state.index, state.seconds = record.epoch, record.index, record.seconds
        state.sums = dict(record.sums)
        state.best_epoch, state.best_score = record.best_epoch, record.best_score
        state.history = list(record.history)


def _read(path: Path) -> tuple[_Record, Weights]:
    """The content of a state. Raises RunError where either file is not bit for bit as it was written, StorageError
    where one cannot be read."""
    written = load(_StateFile, path, RunError)
    check_content(digest(written.record), written.sha256.get("record"), path, RunError)
    tensors = path.with_suffix(".safetensors")
    try:
        with reading(tensors):
            check_content(sha256_of(tensors), written.sha256.get("tensors"), tensors, RunError)
            return written.record, load_file(tensors)
    except (OSError, SafetensorError) as problem:
        raise RunError(tensors, found=problem, expected="a readable safetensors file") from problem


def _in_types_of(own: Mapping[str, Any], found: Mapping[str, float]) -> dict[str, Any]:
    """The numbers `found` in the types of `own`, the scaler's state: torch needs its count of steps to be an int."""
    return {name: type(number)(found[name]) for name, number in own.items()}


def _tensors(state: TrainState) -> Weights:
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in (state.best or {}).items()}
    if state.average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in state.average.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return tensors


def _under(prefix: str, tensors: Weights) -> Weights:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _fill_optimizer(optimizer: torch.optim.Optimizer, moments: Weights) -> None:
    """Load moments in the memory format of their parameters: in another one each update would take longer."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    content = optimizer.state_dict()
    content["state"] = {}
    for name, tensor in moments.items():
        number, _, key = name.partition(".")
        like = parameters[int(number)]
        placed = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.shape == like.shape else tensor
        content["state"].setdefault(int(number), {})[key] = placed
    optimizer.load_state_dict(content)


def differences(was: Identity, now: Identity) -> tuple[str, str]:
    """(values in `was`, values in `now`) of the first keys, by name, in which they differ; empty where none does."""
    before, after = dict(leaves(was)), dict(leaves(now))
    keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    was_said, now_said = (some_of([f"{key}={to_json(side.get(key))}" for key in keys]) for side in (before, after))
    return was_said, now_said
