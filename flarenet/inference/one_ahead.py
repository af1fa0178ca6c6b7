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
    """Each item and the Future of work(item); when one is given, a thread is at work on the next one, or done with it.
    It begins with the first at once, before anybody asks for it.

    No further item is looked at, so that however slow the taker is, two results exist at most. What work raises is
    raised by the Future's result().
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
