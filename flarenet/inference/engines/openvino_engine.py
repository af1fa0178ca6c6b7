"""The engine that runs a network by Intel's OpenVINO, on the CPU; the extra `openvino`. Only to convert needs torch."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UsageError, needs_extra
from .processor import threads

if TYPE_CHECKING:
    import openvino
    from torch import Tensor, nn

HINTS = {"fp32": "f32", "bf16": "bf16"}


def find_openvino() -> Any:
    """The library, with its reports to Intel switched off. Raises UsageError where it is not installed."""
    # openvino reports to a statistics service over the network unless this module is missing
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    with needs_extra("openvino", "engine 'openvino'", otherwise="--engine torch"):
        import openvino
    return openvino


class OpenVinoEngine:
    """An Engine that runs `graph`, which answers `groups` in their order, compiled for `precision`: "fp32" or "bf16".

    The graph's input is one window, [1, channels, *patch]. Windows run one by one, because the last batch of a scan is
    seldom full, and one window keeps the threads busy. There are processor.threads() threads. All calls share one
    request, so calls from several threads take turns.
    """

    device = "cpu"

    def __init__(self, graph: openvino.Model, *, groups: Sequence[str], precision: str) -> None:
        library = find_openvino()
        compiled = core(library).compile_model(graph, "CPU", _settings(HINTS[precision]))
        self._tensor, self._request = library.Tensor, compiled.create_infer_request()
        self._turn = threading.Lock()
        self._groups = [*zip(groups, (tuple(output.shape)[1:] for output in compiled.outputs))]
        self.name = f"openvino {precision}"

    @classmethod
    def of(
        cls,
        network: nn.Module,
        *,
        channels: int,
        patch: Sequence[int],
        precision: str,
        keep: Callable[[openvino.Model], openvino.Model] | None = None,
    ) -> OpenVinoEngine:
        """The engine of a network whose attribute `groups` names what it answers.

        keep  called with the converted graph, gives the graph to run
        Raises UsageError where OpenVINO is not installed, does not know `precision` or cannot convert the network.
        """
        library = find_openvino()
        if precision not in HINTS:
            raise UsageError(f"precision {precision!r} of engine 'openvino'", expected="auto, fp32, bf16")
        groups = getattr(network, "groups", ())
        graph = _converted(library, network, groups, (1, channels, *patch))
        return cls(keep(graph) if keep else graph, groups=groups, precision=precision)

    def __call__(self, windows: Tensor) -> dict[str, Tensor]:
        import torch

        answers = self.arrays(windows.to("cpu", torch.float32).numpy())
        return {group: torch.from_numpy(answer) for group, answer in answers.items()}

    def arrays(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """As a call, but for float32 arrays of numpy."""
        windows = np.ascontiguousarray(windows)
        answers = {group: np.empty((len(windows), *shape), dtype=np.float32) for group, shape in self._groups}
        with self._turn:
            for place in range(len(windows)):
                one = slice(place, place + 1)
                self._request.set_input_tensor(self._tensor(windows[one], shared_memory=True))
                for output, answer in enumerate(answers.values()):
                    self._request.set_output_tensor(output, self._tensor(answer[one], shared_memory=True))
                self._request.infer()
        return answers


@cache
def core(library: Any) -> openvino.Core:
    """The only Core of the process, which is never released.

    With the first network, OpenVINO's CPU plugin sets a signal stack of its own for the current thread, and unmaps it
    in whichever thread releases the last Core. If that is another thread, the first one keeps the address, and its next
    signal (Ctrl-C, say) is a segmentation fault.
    """
    return library.Core()


def _converted(library: Any, network: nn.Module, groups: Sequence[str], shape: Sequence[int]) -> openvino.Model:
    import torch

    from ...networks.traced import traced

    names = ("GeneralFailure", "OpConversionFailure", "OpValidationFailure")
    refusals = (RuntimeError, *(getattr(library.frontend, name) for name in names))
    try:
        graph = traced(network.to("cpu"), groups, torch.zeros(*shape))
        return library.convert_model(graph, input=list(shape))
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
        "INFERENCE_NUM_THREADS": threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # beside threads that read and write, the system places them better
    }
