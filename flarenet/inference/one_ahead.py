"""Work on the next item while the last one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def one_ahead(work: Callable[[T], U], items: Iterable[T]) -> Iterator[tuple[T, Future[U]]]:
    """Each item and the Future of work(item); when one is given, a thread is at work on the next one, or done with it.

    No further item is looked at, so that however slow the taker is, two results exist at most. What work raises is
    raised by the Future's result().
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as worker:
        waiting: deque[tuple[T, Future[U]]] = deque()
        for item in items:
            waiting.append((item, worker.submit(work, item)))
            if len(waiting) == 2:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
