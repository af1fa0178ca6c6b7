"""A model folder: what a training run leaves behind, and all that a prediction needs.

weights.safetensors   the network's numbers
plan.json             the plan it was trained from, which states how images are prepared and what the network is
about.json            trainer, step and the SHA-256 of all three files; written last: with it the model is finished
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ... import __version__
from ...errors import RunError
from ...networks import build
from ...planning.plan import Plan
from ...planning.plan_file import save_plan
from ...schema import parse_json, save
from ...whole import sha256_of, whole_file
from .about import ABOUT, PLAN, WEIGHTS, About, Described, check_digest, describing, read_about, read_plan, unsafe

LARGEST_HEADER_BYTES = 4 << 20
"""Most bytes of the header of a weights file; that of the largest network here takes a fiftieth of it."""

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_DTYPES |= {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}

_Kinds = dict[str, tuple[tuple[int, ...], object]]
"""Name of each tensor -> (shape, dtype)."""


@dataclass(frozen=True, eq=False)
class Model(Described):
    """A trained network, in eval mode, with the plan it came from."""

    is_loaded: ClassVar[bool] = True
    network: nn.Module

    def loaded(self) -> Model:
        return self


def save_model(
    folder: str | Path,
    network: nn.Module,
    *,
    plan: Plan,
    trainer: str,
    step: int,
    seen: Iterable[str] | None = None,
    summary: dict[str, Any],
) -> None:
    """Write a finished model folder. It counts as unfinished until about.json is there.

    seen     names of the cases that the model has learned from; None: unknown
    summary  any facts for about.json
    A model that the folder held before is unfinished from the start of writing on.
    """
    folder = Path(folder)
    (folder / ABOUT).unlink(missing_ok=True)
    save_tensors(network.state_dict(), folder / WEIGHTS)
    save_plan(plan, folder / PLAN)
    digests = {name: sha256_of(folder / name) for name in (WEIGHTS, PLAN)}
    about = About(
        trainer=trainer,
        step=step,
        dataset=plan.dataset,
        flarenet=__version__,
        seen=None if seen is None else tuple(sorted(seen)),
        sha256=digests,
        summary=summary,
    )
    save(about.sealed(), folder / ABOUT)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file, whole or not at all. Raises StorageError where the disk has no room for it."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path, size_bytes=sum(tensor.nbytes for tensor in ready.values())) as temporary:
        temporary.touch()
        permissions = temporary.stat().st_mode
        try:
            safetensors.torch.save_file(ready, temporary)
        except safetensors.SafetensorError as problem:
            raise OSError(str(problem)) from problem
        temporary.chmod(permissions)  # the library's own file can be read by its owner alone


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Model:
    """The model of a folder, its files checked by their digests, in eval mode on `device`.

    Raises RunError for a folder that is missing or unfinished. Raises UnsafeError for files that have been changed, for
    weights that do not fit the network that the plan describes, and for weights that are not finite. The header of the
    weights is compared with that network before memory is taken for them.
    """
    folder = Path(folder)
    about = read_about(folder)
    with unsafe(about.flarenet):
        plan = read_plan(folder, about)
        network = _planned(plan, about, folder)
        _check_header(folder / WEIGHTS, network)
        state = _weights(folder, about)
        _fit(network, state, folder)
        _check_finite(state, folder)
    network = network.to(device).eval()
    return Model(plan, about.trainer, about.step, folder, about.sha256[WEIGHTS], network)


def load_weights(folder: str | Path) -> dict[str, Tensor]:
    """The weights of a finished model folder, checked by their digest, on the CPU. Raises as load_model."""
    folder = Path(folder)
    about = read_about(folder)
    with unsafe(about.flarenet):
        return _weights(folder, about)


def load_start(network: nn.Module, folder: str | Path) -> None:
    """Give `network` all weights of a finished model folder, to train on from there.

    Raises as load_weights, and RunError, with what to do, where these are the weights of another network.
    """
    _begin(network, load_weights(folder), Path(folder))


def load_encoder(network: nn.Module, folder: str | Path) -> None:
    """Give the `encoder` of `network` all weights of the encoder in a finished model folder.

    Raises as load_weights, and RunError where either has no encoder or their shapes differ.
    """
    folder = Path(folder)
    encoder = getattr(network, "encoder", None)
    if encoder is None:
        raise RunError(f"the encoder of {folder}", found=type(network).__name__, expected="a network with an encoder")
    weights = load_weights(folder)
    part = {name.removeprefix("encoder."): weights[name] for name in weights if name.startswith("encoder.")}
    _begin(encoder, part, folder)


def _begin(network: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    """Copy the weights of an earlier run. Raises RunError for the first tensor that does not fit: the plans differ."""
    remedy = "give the same --set as for that run, or remove its folder and train it again"
    _compare(_kinds(weights), _kinds(network.state_dict()), folder / WEIGHTS, remedy=remedy)
    network.load_state_dict(weights)


def _planned(plan: Plan, about: About, folder: Path) -> nn.Module:
    """The network that a model's plan describes, without numbers."""
    with describing(folder), torch.device("meta"):  # no memory or random numbers for weights that are replaced at once
        network = plan.trainer(about.trainer).network
        return build(network, plan.labels.outputs, plan.configuration_of(about.trainer).patch)


def _check_finite(state: Mapping[str, Tensor], folder: Path) -> None:
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise RunError(f"{folder / WEIGHTS}: tensor {name!r}", found="NaN or infinity", expected="finite numbers")


def _check_header(path: Path, network: nn.Module) -> None:
    """Raise RunError where the weights file does not hold exactly what `network` needs; only its header is read."""
    header, length = _read_header(path)
    found = {name: _kind(entry) for name, entry in header.items() if name != "__metadata__"}
    state = network.state_dict()
    _compare(found, _kinds(state), path)
    size, wanted = path.stat().st_size, 8 + length + sum(tensor.nbytes for tensor in state.values())
    if size != wanted:
        raise RunError(path, found=f"{size} bytes", expected=f"{wanted}")


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """(header, its length in bytes) of a safetensors file, which begins with the length in 8 bytes, little-endian, and
    then has the header as JSON."""
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        most = min(LARGEST_HEADER_BYTES, os.fstat(stream.fileno()).st_size - 8)
        if length > most:
            raise RunError(path, found=f"a header of {length} bytes", expected=f"at most {most}")
        content = stream.read(length)
    try:
        header = parse_json(content.decode(), path, RunError, largest_bytes=LARGEST_HEADER_BYTES)
    except UnicodeDecodeError as problem:
        raise RunError(path, found=problem, expected="a safetensors file") from problem
    if not isinstance(header, dict):
        raise RunError(path, found="a header without names", expected="a safetensors file")
    return header, length


def _kind(entry: Any) -> tuple[tuple[int, ...], object]:
    """(shape, dtype) in an entry of a header. An entry that makes no sense gives something that fits no network."""
    if not isinstance(entry, dict) or not isinstance(entry.get("shape"), list):
        return (), entry
    dtype = entry.get("dtype")
    return tuple(entry["shape"]), _DTYPES.get(dtype, dtype) if isinstance(dtype, str) else dtype


def _weights(folder: Path, about: About) -> dict[str, Tensor]:
    _read_header(folder / WEIGHTS)
    content = (folder / WEIGHTS).read_bytes()
    check_digest(folder / WEIGHTS, hashlib.sha256(content).hexdigest(), about.sha256[WEIGHTS])
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as problem:
        raise RunError(folder / WEIGHTS, found=problem, expected="a safetensors file") from problem


def _fit(network: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    """Give `network` the weights in `state`. Raises RunError for the first tensor that does not fit."""
    _compare(_kinds(state), _kinds(network.state_dict()), folder / WEIGHTS)
    network.load_state_dict(state, assign=True)


def _kinds(state: Mapping[str, Tensor]) -> _Kinds:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}


def _compare(found: _Kinds, wanted: _Kinds, path: Path, *, remedy: str | None = None) -> None:
    """Raise RunError for the first tensor that is missing, has another shape or dtype, or is not in `wanted`."""
    for name, (shape, dtype) in wanted.items():
        if name not in found:
            raise RunError(path, found=f"no tensor {name!r}", expected=f"one of shape {shape}", remedy=remedy)
        if found[name][0] != shape:
            raise RunError(f"{path}: tensor {name!r}", found=found[name][0], expected=shape, remedy=remedy)
        if found[name][1] != dtype:
            raise RunError(f"{path}: tensor {name!r}", found=found[name][1], expected=dtype, remedy=remedy)
    extra = sorted(set(found) - set(wanted))
    if extra:
        raise RunError(path, found=f"tensor {extra[0]!r}", expected="the network's own tensors only", remedy=remedy)
