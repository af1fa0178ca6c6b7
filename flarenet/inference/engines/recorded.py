"""A network's kernels for windows of one shape, recorded once as a CUDA graph and replayed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

OPENING = threading.Lock()
"""The lock to hold while running a network for the first time and recording it: torch records one graph at a time."""


class Recorded:
    """Replays `answer`, recorded for windows of `shape` on `device`, without Python between its kernels.

    A 2D network starts some hundred kernels a call. Each takes less time to run than to start, the more so as other
    stages of a prediction need Python meanwhile. `answer` must have run before with windows of this shape, and must do
    nothing but start kernels. Its memory is kept as long as this object and used by all calls, so threads take turns.
    Only a thread that holds OPENING may make one. Raises RuntimeError where `answer` cannot be recorded.
    """

    def __init__(
        self, answer: Callable[[Tensor], dict[str, Tensor]], shape: tuple[int, ...], device: torch.device
    ) -> None:
        self._turn = threading.Lock()
        self._windows = torch.zeros(shape, device=device)
        self._graph = torch.cuda.CUDAGraph()
        # "thread_local": other threads may go on copying to the GPU and asking for its memory. The outer context makes
        # the current stream current again whatever happens. The stream is one of this device, because torch's own for
        # graphs belongs to the device on which the process recorded first, and would record nothing of another one
        with torch.cuda.stream(torch.cuda.current_stream(device)):
            stream = torch.cuda.Stream(device)
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._answers = answer(self._windows)

    def takes(self, windows: Tensor) -> bool:
        return len(windows) <= len(self._windows) and windows.shape[1:] == self._windows.shape[1:]

    @torch.inference_mode()
    def __call__(self, windows: Tensor) -> dict[str, Tensor]:
        """As `answer`, for as many windows as recorded, or fewer."""
        count = len(windows)
        with self._turn:
            self._windows[:count].copy_(windows, non_blocking=True)
            self._graph.replay()
            return {group: value[:count].clone() for group, value in self._answers.items()}
