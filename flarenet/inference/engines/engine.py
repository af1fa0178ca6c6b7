"""Where a network runs, in which number type, and by which library."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from ...errors import UsageError, unknown
from ...networks.traced import CONVERTED
from .processor import computes_bf16
from .recorded import OPENING, Recorded

if TYPE_CHECKING:
    import openvino

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ENGINES = ("torch", "openvino")
WORDS = {dtype: word for word, dtype in PRECISIONS.items()}


class Engine(Protocol):
    """A network made ready for one device and number type.

    name    its name in reports, such as "torch fp32"
    device  the device of its logits, or its name

    Called with windows [b, C, *patch], float32 on any device, it gives {group: logits [b, 1 + n, *patch]}, float32 and
    contiguous; later calls do not change them. b may differ from call to call. The same windows give the same bits. It
    may be called from several threads: where calls would share memory, one waits for the other.
    """

    name: str

    @property
    def device(self) -> torch.device | str: ...

    def __call__(self, windows: Tensor) -> dict[str, Tensor]: ...


class TorchEngine:
    """The network itself, run by torch with channels last; see Engine.

    dimensions  those of the patch: 2 or 3
    first       the shape of windows in most calls, or None. Where given, a thread makes the network ready for it
                while the maker of the engine goes on; its errors are raised by the calls. On a GPU, where is_recorded,
                it records the network too, see Recorded
    The network is left on `device`, in eval mode.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        dimensions: int,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        first: tuple[int, ...] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self._precision = pick_precision(self.device, precision)
        self._layout = torch.channels_last if dimensions == 2 else torch.channels_last_3d
        self.name = f"torch {WORDS[self._precision]}"
        self._network = network
        self._recorded: Recorded | None = None
        self._worker = None
        if first is None:
            self._open()
            return
        if self.device.type == "cuda":
            torch.cuda.init()  # here, so that asking for the memory in use need not wait for the thread
        # setting up a GPU, and what cuDNN loads and tries for the first windows of a shape, take a second or two, in
        # which a scan can be read. This thread runs all calls, because cuDNN remembers shapes by thread
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._opened = self._worker.submit(self._open, first)

    def __call__(self, windows: Tensor) -> dict[str, Tensor]:
        if self._worker is None:
            return self._answer(windows)
        self._opened.result()
        if self._recorded is not None and self._recorded.takes(windows):
            return self._recorded(windows)
        return self._worker.submit(self._answer, windows).result()

    def _open(self, first: tuple[int, ...] | None = None) -> None:
        moved = self._network.to(self.device).to(memory_format=self._layout)  # type: ignore[call-overload]
        self._network = moved.eval()
        if first is None:
            return
        with OPENING:
            self._answer(torch.zeros(first))
            if self.device.type == "cuda" and is_recorded(self._network, first):
                self._recorded = self._record(first)

    def _record(self, first: tuple[int, ...]) -> Recorded | None:
        try:
            return Recorded(self._answer, first, self.device)
        except RuntimeError as problem:  # a network that cannot be recorded still runs
            reason = str(problem).strip().splitlines()[0]
            warnings.warn(
                f"prediction is slower than it needs to be: no CUDA graph could be made ({reason})", stacklevel=2
            )
            return None

    def _answer(self, windows: Tensor) -> dict[str, Tensor]:
        with torch.inference_mode(), autocast(self.device, WORDS[self._precision]):
            logits = self._network(windows.to(self.device).contiguous(memory_format=self._layout))
            # contiguous: the order that interpolation and argmax read fastest, whatever the network computed in
            return {
                group: value.to(torch.float32, memory_format=torch.contiguous_format) for group, value in logits.items()
            }


def is_recorded(network: nn.Module, shape: Sequence[int]) -> bool:
    """Whether a GPU records `network` for windows of `shape`: one of our own for slices [b, C, y, x]. The kernels of a
    block together take longer to run than to start, and a recorded network keeps the memory that they work in."""
    return type(network) in CONVERTED and len(shape) == 4


def open_engine(
    network: nn.Module,
    *,
    channels: int,
    patch: Sequence[int],
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = 1,
    keep: Callable[[openvino.Model], openvino.Model] | None = None,
) -> Engine:
    """`network`, whose input is [b, channels, *patch], in an engine by its name.

    channels    channels of the network's input
    patch       size of the network's input
    engine      "torch", "openvino" or "auto": OpenVINO on a CPU, if it is installed and known to convert the network,
                else torch (docs/engines.md)
    device      as pick_device takes it
    precision   as pick_precision takes it; OpenVINO has no fp16
    batch_size  windows in most calls; on a GPU the network is made ready for these, see TorchEngine
    keep        as OpenVinoEngine.of takes it, for networks that "auto" converts
    Raises UsageError for an unknown name. Raises it for "openvino" with another device than a CPU, where OpenVINO is
    not installed, and where it cannot convert the network.
    """
    if engine not in ("auto", *ENGINES):
        raise unknown("engine", engine, ["auto", *ENGINES])
    if engine == "openvino" and device not in ("auto", "cpu"):
        raise UsageError("engine 'openvino'", found=f"device {device!r}", expected="cpu", remedy="--engine torch")
    where = torch.device("cpu") if engine == "openvino" else pick_device(device)
    word = WORDS[pick_precision(where, precision)]
    if engine == "openvino" or (engine == "auto" and where.type == "cpu" and type(network) in CONVERTED):
        from .openvino_engine import OpenVinoEngine

        try:
            keep = keep if type(network) in CONVERTED else None  # another class may change what it does
            return OpenVinoEngine.of(network, channels=channels, patch=patch, precision=word, keep=keep)
        except UsageError:
            if engine == "openvino":
                raise
    first = (batch_size, channels, *patch) if where.type == "cuda" else None
    return TorchEngine(network, dimensions=len(patch), device=where, precision=precision, first=first)


def pick_device(name: str) -> torch.device:
    """The device with this name: "auto" (the first GPU, else the CPU), "cpu", "cuda" (the current GPU), "cuda:1" ...

    A GPU gets its number, so that it has one name however it was asked for.

    Raises UsageError for a name that is not a device, and for a device that this machine lacks.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", 0) if count else torch.device("cpu")
    real = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if name not in real:
        if name == "cuda" or name.startswith("cuda:"):
            raise UsageError(f"device {name!r}", found=f"{count} CUDA devices", expected=", ".join(real))
        raise unknown("device", name, real)
    if name == "cuda":  # before CUDA has begun, for which it is too early here, the first one is current
        return torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_initialized() else 0)
    return torch.device(name)


def pick_precision(device: torch.device, precision: str) -> torch.dtype:
    """The number type for a word of PRECISIONS or "auto": bfloat16 where the hardware computes in it, else float32.

    Raises UsageError for any other word.
    """
    if precision == "auto":
        return torch.bfloat16 if _computes_bf16(device) else torch.float32
    if precision not in PRECISIONS:
        raise unknown("precision", precision, ["auto", *PRECISIONS])
    return PRECISIONS[precision]


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The context in which a network's forward pass runs; in float32 it does nothing."""
    dtype = pick_precision(device, precision)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current one
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return computes_bf16()
