"""A network's kernels for windows of one shape, recorded once as a CUDA graph and replayed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

OPENING = threading.Lock()
"""Held by who runs a network for the first time and records it: torch records one graph of a process at a time."""


class Recorded:
    """`answer`, of windows of `shape` on `device`, without Python between its kernels.

    A 2D network starts some hundred kernels a call, each of which takes less time than to start it, the more so as the
    other stages of a prediction want Python too. `answer` must have run before with such windows, and do nothing but
    start kernels. Its memory is kept for as long as this is, and is one for all calls: threads take it in turns. Made
    by one thread at a time, which holds OPENING. Raises RuntimeError where `answer` cannot be recorded.
    """

    def __init__(
        self, answer: Callable[[Tensor], dict[str, Tensor]], shape: tuple[int, ...], device: torch.device
    ) -> None:
        self._turn = threading.Lock()
        self._windows = torch.zeros(shape, device=device)
        self._graph = torch.cuda.CUDAGraph()
        # of this thread alone: others may go on copying to the GPU and asking for its memory meanwhile. The stream that
        # was current is so again whatever happens. On a stream of this device: torch's own for graphs is of the device
        # that the process recorded on first, and of another one it would see nothing
        with torch.cuda.stream(torch.cuda.current_stream(device)):
            stream = torch.cuda.Stream(device)
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._answers = answer(self._windows)

    def takes(self, windows: Tensor) -> bool:
        return len(windows) <= len(self._windows) and windows.shape[1:] == self._windows.shape[1:]

    @torch.inference_mode()
    def __call__(self, windows: Tensor) -> dict[str, Tensor]:
        """As `answer`, of as many windows or fewer."""
        count = len(windows)
        with self._turn:
            self._windows[:count].copy_(windows, non_blocking=True)
            self._graph.replay()
            return {group: value[:count].clone() for group, value in self._answers.items()}
