"""Measure a command and all the processes that it starts: time, processor use, memory."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import psutil

from .efficiency import Sample
from .gpu_memory import MB, Gpu

TICK_S = 0.1
"""Seconds between two samples, as in the FLARE challenge."""

GRACE_S = 3.0
"""Seconds from SIGTERM, on which `docker run` ends its container, to SIGKILL."""


@dataclass(frozen=True)
class ProcessCost:
    """What a command cost.

    seconds      from its start to its end
    cpu_percent  processor use; 100 is one processor, busy all the time
    samples      memory, every TICK_S, the first at the start
    exit_code    of the command; negative: the signal that ended it
    out_of_time  whether it was ended after timeout_s
    """

    seconds: float
    cpu_percent: float
    samples: tuple[Sample, ...]
    exit_code: int
    out_of_time: bool

    @property
    def peak_rss_mb(self) -> float:
        return max(sample.rss_mb for sample in self.samples)

    @property
    def gpu_peak_mb(self) -> float | None:
        return max((sample.gpu_mb for sample in self.samples if sample.gpu_mb is not None), default=None)

    @property
    def gpu_area_mb_s(self) -> float | None:
        """The area under the curve of GPU memory, where each sample counts until the next, and the last until the end.
        The challenge adds up samples x 0.1 s."""
        if self.gpu_peak_mb is None:
            return None
        ends = [*(sample.at_s for sample in self.samples[1:]), self.seconds]
        return sum((sample.gpu_mb or 0.0) * (end - sample.at_s) for sample, end in zip(self.samples, ends))


def run_measured(
    words: Sequence[str], *, log: Path, timeout_s: float | None = None, gpu: Gpu | None = None
) -> ProcessCost:
    """Run a command and measure it; its output goes to the file `log`.

    Processes that it leaves running are ended, also if this call is interrupted. Those of another user, as sudo starts
    them, cannot be: such a command is waited for, also when its time is up. Memory is summed over the processes;
    pages that several share count in each. Processor time is that of the command and of its children that ended before
    it. Raises OSError where the command cannot be started.
    """
    busy_s = _children_s()
    with open(log, "wb") as said:
        start_s = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        watch = _Watch(process.pid, start_s, timeout_s, gpu)
        try:
            watch.start()
            code = process.wait()
            seconds = time.perf_counter() - start_s
        finally:
            watch.stop()
            process.wait()
    return ProcessCost(
        seconds=seconds,
        cpu_percent=100 * (_children_s() - busy_s) / seconds,
        samples=tuple(watch.samples),
        exit_code=code,
        out_of_time=watch.out_of_time,
    )


class _Watch(Thread):
    """Samples the memory of a process and its children until it is stopped; ends them when their time is up."""

    def __init__(self, pid: int, start_s: float, timeout_s: float | None, gpu: Gpu | None) -> None:
        super().__init__(daemon=True)
        self.root, self.start_s, self.timeout_s, self.gpu = psutil.Process(pid), start_s, timeout_s, gpu
        self.samples: list[Sample] = []
        self.out_of_time = False
        self.error: Exception | None = None
        self.over = Event()
        self.seen: set[psutil.Process] = {self.root}

    def run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001 - raised by stop()
            self.error = error

    def stop(self) -> None:
        """Stop sampling and end all processes that still run. Raises the error with which sampling failed, if any."""
        self.over.set()
        if self.ident is not None:
            self.join()
        self._look()
        end(self.seen)
        # what left the tree between two samples is still in the group
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.root.pid, signal.SIGKILL)
        if self.error is not None:
            raise self.error

    def _watch(self) -> None:
        tick, wait_s = 0, 0.0
        while not (tick and self.over.wait(wait_s)):
            self._sample()
            passed_s = time.perf_counter() - self.start_s
            if self.timeout_s is not None and passed_s > self.timeout_s:
                self.out_of_time = True
                return end(self.seen)
            tick = max(tick, int(passed_s / TICK_S)) + 1  # a slow machine skips ticks
            wait_s = tick * TICK_S - passed_s
        return None

    def _sample(self) -> None:
        at_s = time.perf_counter() - self.start_s
        used_mb = None if self.gpu is None else round(self.gpu.used_mb(), 1)
        self.samples.append(Sample(at_s=round(at_s, 3), gpu_mb=used_mb, rss_mb=round(self._look() / MB, 1)))

    def _look(self) -> int:
        """Record the processes of the tree; returns the bytes of memory that they hold."""
        with suppress(psutil.NoSuchProcess):
            self.seen.update(self.root.children(recursive=True))
        held = 0
        for process in self.seen:
            with suppress(psutil.NoSuchProcess):
                held += process.memory_info().rss
        return held


def end(processes: Iterable[psutil.Process]) -> None:
    """End the processes that still run: by SIGTERM, and after GRACE_S by SIGKILL. Those of another user are left."""
    left = list(processes)
    for process in left:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.terminate()
    _, left = psutil.wait_procs(left, timeout=GRACE_S)
    for process in left:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    psutil.wait_procs(left, timeout=GRACE_S)


def _children_s() -> float:
    """Processor seconds of all ended child processes of this one, and of their ended children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
