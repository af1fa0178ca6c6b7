"""Work on the next item while the last one is used."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as OutOfTime
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from ..errors import StorageError

T = TypeVar("T")
U = TypeVar("U")

CLOSING_S = 5.0
"""For so many seconds at most, whoever stops early waits for a file that is being read: it may never end."""


def prefetch(work: Callable[[T], U], items: Iterable[T]) -> Iterator[tuple[T, Future[U]]]:
    """Each item with the Future of work(item). While one is used, a thread works on the next one.

    The work on the first item begins at once, before it is asked for. The thread goes no further than the next item, so
    at most two results exist, however slow their user is. An error of `work` is raised by the Future's result(). To
    stop early, close the iterator: that waits for the work in progress.
    """
    worker = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    return _prefetch(lambda item: worker.submit(work, item), worker.shutdown, items)


def prefetch_files(
    read: Callable[[T], U], items: Iterable[T], *, timeout_s: float | None = None
) -> Iterator[tuple[T, Future[U]]]:
    """As prefetch, for files, a read of which may never end, as from a network disk that is gone: neither the end of
    the process nor, beyond CLOSING_S, whoever closes the iterator waits for it.

    timeout_s  after so many seconds an item fails with StorageError, and the next one is read
    """
    reader = _Reader(read, timeout_s)
    given = _prefetch(reader.submit, reader.close, items)
    weakref.finalize(given, reader.stop)  # a generator that nobody started closes nothing
    return given


def _prefetch(
    begin: Callable[[T], Future[U]], close: Callable[[], None], items: Iterable[T]
) -> Iterator[tuple[T, Future[U]]]:
    rest = iter(items)
    waiting = deque((item, begin(item)) for item in islice(rest, 1))
    return _given(begin, close, waiting, rest)


def _given(
    begin: Callable[[T], Future[U]], close: Callable[[], None], waiting: deque[tuple[T, Future[U]]], rest: Iterator[T]
) -> Iterator[tuple[T, Future[U]]]:
    try:
        for item in rest:
            waiting.append((item, begin(item)))
            yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        close()


class _Reader(Generic[T, U]):
    """A thread as ThreadPoolExecutor(1) has, but one that ends with the process, whatever it is doing."""

    def __init__(self, read: Callable[[T], U], timeout_s: float | None) -> None:
        self._read, self._timeout_s = read, timeout_s
        self._calls: SimpleQueue[tuple[T, Future[U]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="reader", daemon=True)
        self._thread.start()

    def submit(self, item: T) -> Future[U]:
        future: Future[U] = Future()
        self._calls.put((item, future))
        return future

    def stop(self) -> None:
        self._calls.put(None)

    def close(self) -> None:
        self.stop()
        self._thread.join(CLOSING_S)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            _fulfil(self._read_one, *call)
            del call  # else it would hold the result until the next call

    def _read_one(self, item: T) -> U:
        return self._read(item) if self._timeout_s is None else _in_time(self._read, self._timeout_s, item)


def _in_time(read: Callable[[T], U], timeout_s: float, item: T) -> U:
    """read(item). Raises StorageError where it takes longer; its thread is then left to itself."""
    future: Future[U] = Future()
    Thread(target=_fulfil, args=(read, item, future), name="reading", daemon=True).start()
    try:
        return future.result(timeout_s)
    except OutOfTime as error:
        if future.done():  # just now; or the error is the system's own, of a disk that did not answer
            return future.result()
        expected = "a file that can be read within that time: see --timeout-s"
        raise StorageError(item, found=f"not read after {timeout_s:g} s", expected=expected) from error


def _fulfil(work: Callable[[T], U], item: T, future: Future[U]) -> None:
    try:
        future.set_result(work(item))
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
        future.set_exception(error)
        del future  # else it and the frames of its error would hold each other
