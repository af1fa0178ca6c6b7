"""Runs the stages of a prediction beside each other, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any, TypeVar

from ..planning.cost.memory import PLANES_WAITING

T = TypeVar("T")

POLL_S = 0.05
"""After so many seconds at most, a waiting stage notices that all are to stop."""


@dataclass(frozen=True)
class _End:
    """Sent in place of an item: there are no more, because of `error` if there is one."""

    error: BaseException | None = None


class _Stopped(Exception):
    """All stages were told to stop while this one waited."""


class Stages:
    """The threads of one scan. An error in one is raised where its items are taken. At the end of the `with` block all
    threads are stopped, whatever they are doing, and waited for.

    seconds  name of a stage -> seconds that it worked, without the time that it waited for others

        with Stages() as stages:
            planes = stages.ahead("prepare", planes_of(scan))
            for slab in stages.ahead("network", slabs_of(planes)):
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._here = threading.local()

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def ahead(self, name: str, items: Iterable[T], *, most: int = PLANES_WAITING) -> Iterator[T]:
        """The items, made in a thread of its own; at most `most` finished items wait to be taken."""
        queue: Queue = Queue(most)
        thread = threading.Thread(target=self._work, args=(name, items, queue), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return self._taken(queue)

    def _timed(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time to make each of them is added to the seconds of stage `name`."""
        iterator = iter(items)
        while True:
            began, waited = time.perf_counter(), self._waited
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds[name] += time.perf_counter() - began - (self._waited - waited)
            yield item

    @property
    def _waited(self) -> float:
        """Seconds that this thread has waited for items of others."""
        return getattr(self._here, "waited", 0.0)

    def _work(self, name: str, items: Iterable[Any], queue: Queue) -> None:
        with suppress(_Stopped):
            try:
                for item in self._timed(name, items):
                    self._put(queue, item)
            except _Stopped:
                raise
            except BaseException as error:  # noqa: BLE001 - it is raised where the items are taken
                self._put(queue, _End(error))
            else:
                self._put(queue, _End())

    def _put(self, queue: Queue, item: object) -> None:
        while not self._stop.is_set():
            try:
                return queue.put(item, timeout=POLL_S)
            except Full:
                continue
        raise _Stopped

    def _taken(self, queue: Queue) -> Iterator[Any]:
        while True:
            began = time.perf_counter()
            item = self._get(queue)
            self._here.waited = self._waited + time.perf_counter() - began
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def _get(self, queue: Queue) -> object:
        while not self._stop.is_set():
            try:
                return queue.get(timeout=POLL_S)
            except Empty:
                continue
        raise _Stopped
