"""The engine that runs a network by Intel's OpenVINO, on the CPU; the extra `openvino`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import UsageError, needs_extra
from ..networks.traced import traced
from .engines import WORDS, pick_precision

if TYPE_CHECKING:
    import openvino

HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}


def find_openvino() -> Any:
    """The library, with its reports to Intel switched off. Raises UsageError where it is not installed."""
    # openvino reports to a statistics service over the network unless this module is missing
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    with needs_extra("openvino", "engine 'openvino'", otherwise="--engine torch"):
        import openvino
    return openvino


class OpenVinoEngine:
    """An Engine that converts and compiles `network`, whose attribute `groups` names what it answers.

    The network's input is [b, channels, *patch]. Windows run one by one, because the last batch of a scan is seldom
    full, and one window keeps the threads busy. There are torch.get_num_threads() threads. All calls share one request,
    so calls from several threads take turns. The network is left on the CPU, in eval mode.
    Raises UsageError where OpenVINO is not installed, does not know `precision` or cannot convert the network.
    """

    def __init__(self, network: nn.Module, *, channels: int, patch: Sequence[int], precision: str = "fp32") -> None:
        library = find_openvino()
        self.device = torch.device("cpu")
        dtype = pick_precision(self.device, precision)
        if dtype not in HINTS:
            raise UsageError(f"precision {precision!r} of engine 'openvino'", expected="auto, fp32, bf16")
        groups = getattr(network, "groups", ())
        converted = _converted(library, network, groups, torch.zeros(1, channels, *patch))
        compiled = _core(library).compile_model(converted, "CPU", _settings(HINTS[dtype]))
        self._tensor, self._request = library.Tensor, compiled.create_infer_request()
        self._turn = threading.Lock()
        self._groups = [*zip(groups, (tuple(output.shape)[1:] for output in compiled.outputs))]
        self.name = f"openvino {WORDS[dtype]}"

    def __call__(self, windows: Tensor) -> dict[str, Tensor]:
        windows = windows.to(self.device, torch.float32).contiguous()
        answers = {group: torch.empty(len(windows), *shape) for group, shape in self._groups}
        with self._turn:
            for place in range(len(windows)):
                one = slice(place, place + 1)
                self._request.set_input_tensor(self._over(windows[one]))
                for output, answer in enumerate(answers.values()):
                    self._request.set_output_tensor(output, self._over(answer[one]))
                self._request.infer()
        return answers

    def _over(self, numbers: Tensor) -> openvino.Tensor:
        """A tensor of OpenVINO on the same memory."""
        return self._tensor(numbers.numpy(), shared_memory=True)


@cache
def _core(library: Any) -> openvino.Core:
    """The only Core of the process, which is never released.

    With the first network, OpenVINO's CPU plugin sets a signal stack of its own for the current thread, and unmaps it
    in whichever thread releases the last Core. If that is another thread, the first one keeps the address, and its next
    signal (Ctrl-C, say) is a segmentation fault.
    """
    return library.Core()


def _converted(library: Any, network: nn.Module, groups: Sequence[str], window: Tensor) -> openvino.Model:
    names = ("GeneralFailure", "OpConversionFailure", "OpValidationFailure")
    refusals = (RuntimeError, *(getattr(library.frontend, name) for name in names))
    try:
        graph = traced(network.to("cpu"), groups, window)
        return library.convert_model(graph, input=list(window.shape))
    except refusals as problem:
        *_, said = str(problem).strip().splitlines()
        raise UsageError(
            "engine 'openvino'",
            found=f"cannot convert this {type(network).__name__}: {said}",
            expected="a network of operations that OpenVINO knows",
            remedy="--engine torch",
        ) from problem


def _settings(precision: str) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # beside threads that read and write, the system places them better
    }
