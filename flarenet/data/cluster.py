"""Cases on the workers of a running dask scheduler; needs the extra `cluster`.

dask sends functions, cases and results between its processes by cloudpickle: whoever may talk to the scheduler may run
code on its workers. Use one in a network that you trust, or with TLS (https://distributed.dask.org/en/stable/tls.html).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from concurrent.futures import TimeoutError as OutOfTime
from contextlib import AbstractContextManager, suppress
from threading import Event, Thread
from typing import Any

from distributed import Client, KilledWorker, get_worker
from distributed import Future as Remote
from distributed import TimeoutError as NoAnswer

from ..errors import StorageError

ANSWER_S = 10.0
"""Seconds after which a scheduler that does not answer, or has no worker, counts as not running."""

ABSENT_S = 120.0
"""Seconds for which all workers may be away while cases wait: enough for a nanny to start one anew."""


class Cluster(AbstractContextManager):
    """The Workers of map_cases: as many calls side by side as the workers have threads.

    address    the scheduler's, as "tcp://host:8786"
    timeout_s  seconds that a call may take. Then its worker is started anew, where it has a nanny to do so

    When a worker dies, dask gives its cases to others, up to `distributed.scheduler.allowed-failures` times. Start
    workers with one thread each, so that a case may take all the memory of its worker.
    Raises StorageError where there is no scheduler or it has no worker. Where all workers stay away later, each future
    that is still open ends with StorageError; dask itself would wait for other workers without end.
    """

    memory_mb = float("inf")  # each worker has its own: largest_mb is what counts

    def __init__(self, address: str, timeout_s: float | None = None) -> None:
        self.address, self.timeout_s = address, timeout_s
        self.held: dict[Remote, Future] = {}  # dask forgets a task whose last future is gone
        self.over = Event()
        try:
            self.client = Client(address, timeout=ANSWER_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise StorageError(f"scheduler {address}", found=error, expected="a running dask scheduler") from error
        try:
            self.client.wait_for_workers(1, timeout=ANSWER_S)
        except NoAnswer as error:
            self.client.close()
            remedy = f"start some: dask worker {address} --nthreads 1"
            raise StorageError(f"scheduler {address}", found="no worker", expected="workers", remedy=remedy) from error
        Thread(target=self._watch, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.client.close()

    @property
    def slots(self) -> int:
        """How many threads all present workers have together."""
        return max(1, sum(worker["nthreads"] for worker in self._workers()))

    @property
    def largest_mb(self) -> float:
        """The least memory that a worker has for each of its threads; infinite where they have no limit."""
        shares = [(worker["memory_limit"] or float("inf")) / worker["nthreads"] for worker in self._workers()]
        return min(shares, default=float("inf")) / (1 << 20)

    def submit(self, call: Callable[[Any], Any], item: Any) -> Future:
        """The future of call(item). It ends with TimeoutError where the time ran out, and with BrokenExecutor where the
        workers kept dying."""
        remote = self.client.submit(_within, call, item, self.timeout_s, key=f"flarenet-{uuid.uuid4()}")
        local: Future = Future()
        self.held[remote] = local
        remote.add_done_callback(lambda done: self._hand_over(done, local))
        return local

    def _workers(self) -> list[dict]:
        return list(self.client.scheduler_info()["workers"].values())

    def _watch(self) -> None:
        """End all that waits once there has been no worker for ABSENT_S."""
        seen_s = time.monotonic()
        while not self.over.wait(ABSENT_S / 10):
            if self._workers():
                seen_s = time.monotonic()
            elif time.monotonic() - seen_s > ABSENT_S:
                for remote in list(self.held):
                    local = self.held.pop(remote, None)
                    if local is not None:
                        gone = "no worker any more"
                        local.set_exception(StorageError(f"scheduler {self.address}", found=gone, expected="workers"))

    def _hand_over(self, done: Remote, local: Future) -> None:
        if self.held.pop(done, None) is None:  # given up before
            return
        try:
            result = done.result(timeout=ANSWER_S)
        except KilledWorker as error:
            local.set_exception(BrokenExecutor(str(error.last_worker)))
        except CancelledError:
            local.set_exception(StorageError(f"scheduler {self.address}", found="no connection any more"))
        except Exception as error:  # noqa: BLE001 - handed on to whoever asks for the result
            local.set_exception(error)
        else:
            self._hand_over_result(result, local)

    def _hand_over_result(self, result: Any, local: Future) -> None:
        if not isinstance(result, _OutOfTime):
            return local.set_result(result)
        with suppress(ValueError):  # without a nanny the stuck thread stays until its worker ends
            # a nanny that has not started another worker within the timeout gives up for good
            self.client.restart_workers([result.worker], timeout=ABSENT_S, raise_for_error=False)
        return local.set_exception(OutOfTime())


class _OutOfTime:
    """A worker returns this in place of a result that did not come in time."""

    def __init__(self, worker: str) -> None:
        self.worker = worker


def _within(call: Callable[[Any], Any], item: Any, timeout_s: float | None) -> Any:
    """Runs on the worker: call(item), or _OutOfTime where that takes longer than `timeout_s`."""
    if timeout_s is None:
        return call(item)
    result: Future = Future()
    Thread(target=lambda: result.set_result(call(item)), daemon=True).start()
    try:
        return result.result(timeout_s)
    except OutOfTime:
        return _OutOfTime(get_worker().address)
