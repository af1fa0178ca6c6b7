"""Work on the next item while the last one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def one_ahead(work: Callable[[T], U], items: Iterable[T]) -> Iterator[tuple[T, Future[U]]]:
    """Each item with the Future of work(item). While one is used, a thread works on the next one.

    The work on the first item begins at once, before it is asked for. The thread goes no further than the next item, so
    at most two results exist, however slow their user is. An error of `work` is raised by the Future's result().
    """
    worker, rest = ThreadPoolExecutor(1, thread_name_prefix="ahead"), iter(items)
    waiting = deque((item, worker.submit(work, item)) for item in islice(rest, 1))
    return _given(worker, work, waiting, rest)


def _given(
    worker: ThreadPoolExecutor, work: Callable[[T], U], waiting: deque[tuple[T, Future[U]]], rest: Iterator[T]
) -> Iterator[tuple[T, Future[U]]]:
    with worker:
        for item in rest:
            waiting.append((item, worker.submit(work, item)))
            yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
