"""The same work for many cases: one after the other, in processes or on a cluster. A case that fails stops no other.

Processes are started anew ("spawn"), so a script that uses more than one worker needs the guard

    if __name__ == "__main__":
        main()

or each process would run the script from its top. What goes to another process and comes back is pickled, by
multiprocessing here and by dask on a cluster, between processes of one user; flarenet itself unpickles no file.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from concurrent.futures import TimeoutError as OutOfTime
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Thread
from typing import Any, Generic, Protocol, TypeVar

from pebble import ProcessExpired, ProcessPool
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import FlarenetError, NoRoom, StorageError, is_out_of_memory, needs_extra, without_frames
from .memory import available_mb, processors

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pool:
    """Where cases are worked on.

    workers    processes of this machine; 0 or 1 without a timeout is this process itself
    timeout_s  seconds after which a case is given up; None waits for ever
    scheduler  address of a dask scheduler, as "tcp://host:8786" (needs the extra `cluster`). Its workers then do the
               work, and `workers` is ignored. They must see the same files under the same paths
    """

    workers: int = 1
    timeout_s: float | None = None
    scheduler: str | None = None


HERE = Pool()
"""This process, one case after the other."""


class CaseFault(Exception):
    """A fault of the program in the work on a case; its cause holds the traceback."""


def map_cases(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    pool: Pool = HERE,
    describe: str,
    need_mb: Callable[[Item], float] | None = None,
) -> tuple[list[Result], list[tuple[Item, FlarenetError]]]:
    """Call `function` for every item; returns the results, and (item, error) of the items that failed, both in order.

    pool      where; beyond one process, `function` and the items must be picklable
    describe  what is being done, for the progress bar on stderr
    need_mb   the memory that an item's process needs at its peak, in MB. The largest items then start first, only as
              many run at once as fit in memory, and an item that does not even fit alone is refused

    A case has failed if it raises FlarenetError, OSError or MemoryError, if its time runs out, or if its process dies
    (killed for memory, say) and dies again when the case is retried with nothing in parallel. NoRoom and the
    StorageError of a lost cluster end the work and are raised. Any other exception is a fault of the program: it ends
    the work and is raised as CaseFault, which names the case.
    """
    items = list(items)
    if not items:
        return [], []
    with _progress() as progress, _workers(pool, len(items)) as workers:
        task = progress.add_task(describe, total=len(items))
        needs = [_need(need_mb, item) if need_mb else 0.0 for item in items]
        outcomes = _Queue(workers, _Call(function), items, needs).work(lambda: progress.advance(task))
    results = [outcome for outcome in outcomes if not isinstance(outcome, _Failure)]
    failures = [(item, outcome.error) for item, outcome in zip(items, outcomes) if isinstance(outcome, _Failure)]
    return results, failures


def _need(need_mb: Callable[[Item], float], item: Item) -> float:
    try:
        return need_mb(item)
    except (FlarenetError, OSError):  # a file that cannot be read: the case fails by it later, and takes no memory
        return 0.0


@dataclass(frozen=True)
class _Failure:
    """Comes in place of the result of a case that failed."""

    error: FlarenetError


@dataclass(frozen=True)
class _Fault:
    """Comes in place of a result where there was any other exception. It is text, because not every exception can be
    sent to another process."""

    summary: str
    traceback: str


@dataclass(frozen=True)
class _NoMemory:
    """Comes in place of the result of a case for which memory ran out."""


class _Call(Generic[Item, Result]):
    """The function made to return what it raises; this is what runs in the other process."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self.function = function

    def __call__(self, item: Item) -> Result | _Failure | _NoMemory | _Fault:
        try:
            return self.function(item)
        except FlarenetError as error:
            return _Failure(without_frames(error))
        except Exception as error:  # noqa: BLE001 - nothing is swallowed: it is raised as CaseFault where it arrives
            if is_out_of_memory(error):
                return _NoMemory()
            if isinstance(error, OSError):
                return _Failure(_failure(item, error, "files that can be read and written"))
            summary = "".join(traceback.format_exception_only(type(error), error)).strip()
            return _Fault(summary, traceback.format_exc())


class Workers(Protocol):
    """What calls run on. The future of a call ends with its result, or with an exception that says why there is none.

    slots       how many calls run side by side
    memory_mb   the memory that all of them together may take
    largest_mb  the memory that one of them may take
    """

    @property
    def slots(self) -> int: ...

    @property
    def memory_mb(self) -> float: ...

    @property
    def largest_mb(self) -> float: ...

    def submit(self, call: Callable[[Any], Any], item: Any) -> Future: ...


def _workers(pool: Pool, items: int) -> AbstractContextManager[Workers]:
    if pool.scheduler is not None:
        return _cluster(pool)
    if pool.timeout_s is None and (pool.workers <= 1 or items <= 1):
        return _Here()
    return _Processes(max(1, min(pool.workers, items)), pool.timeout_s)


def _cluster(pool: Pool) -> AbstractContextManager[Workers]:
    with needs_extra("cluster", "a scheduler"):
        from .cluster import Cluster
    return Cluster(str(pool.scheduler), pool.timeout_s)


class _Here(AbstractContextManager):
    """This process."""

    slots = 1

    def __init__(self) -> None:
        self.memory_mb = self.largest_mb = available_mb()

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, call: Callable[[Any], Any], item: Any) -> Future:
        future: Future = Future()
        future.set_result(call(item))
        return future


class _Processes(AbstractContextManager):
    """Processes of this machine, each a pool of its own. They share no pipe and no lock, so whatever happens to one of
    them, at whatever moment, does not affect the others."""

    def __init__(self, workers: int, timeout_s: float | None) -> None:
        self.slots, self.timeout_s = workers, timeout_s
        self.memory_mb = self.largest_mb = available_mb()
        self.last: dict[ProcessPool, Future] = {}

    def __exit__(self, *_: object) -> None:
        for pool in self.last:
            pool.stop()
        for pool in self.last:
            pool.join()

    def submit(self, call: Callable[[Any], Any], item: Any) -> Future:
        free = (pool for pool, last in self.last.items() if last.done() and pool.active)
        pool = next(free, None) or self._another()
        self.last[pool] = pool.schedule(call, args=(item,), timeout=self.timeout_s)
        return self.last[pool]

    def _another(self) -> ProcessPool:
        # spawn: a forked child would inherit locks that threads of torch or BLAS hold
        context, threads = multiprocessing.get_context("spawn"), max(1, processors() // self.slots)
        return ProcessPool(1, initializer=_begin, initargs=(threads,), context=context)


def _begin(threads: int) -> None:
    """Runs in a new process before its work is imported: limits its threads, and ties its life to its parent's."""
    asked = os.environ.get("OMP_NUM_THREADS", "")  # for the whole command, which has several such processes
    os.environ["OMP_NUM_THREADS"] = str(min(threads, int(asked)) if asked.isdecimal() else threads)
    end_with_parent()


def end_with_parent() -> None:
    """Make this process end when the one that started it ends, however that happens and whatever is done here."""

    def wait_for_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=wait_for_parent, daemon=True).start()


class _Queue(Generic[Item, Result]):
    """Items on their way through the workers."""

    def __init__(
        self, workers: Workers, call: _Call[Item, Result], items: Sequence[Item], needs: Sequence[float]
    ) -> None:
        self.workers, self.call, self.items, self.needs = workers, call, items, needs
        self.memory_mb = workers.memory_mb
        self.outcomes: list[Any] = [None] * len(items)
        # items are taken from the end: the largest that fits, and of equal ones the first
        self.waiting = sorted(range(len(items)), key=lambda index: (needs[index], -index))
        self.died: list[int] = []
        self.retried: set[int] = set()
        self.running: dict[Future, int] = {}

    def work(self, step: Callable[[], None]) -> list[Result | _Failure]:
        """Every outcome, in the order of the items; `step` is called once for each as it comes."""
        self._refuse(step)
        while self.waiting or self.died or self.running:
            self._start()
            for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                if self._is_settled(self.running.pop(future), future):
                    step()
        return self.outcomes

    def _refuse(self, step: Callable[[], None]) -> None:
        largest_mb = self.workers.largest_mb
        while self.waiting and self.needs[self.waiting[-1]] > largest_mb:
            index = self.waiting.pop()
            self.outcomes[index] = self._too_large(index, f"{largest_mb:.0f} MB of memory", _MORE_MEMORY)
            step()

    def _too_large(self, index: int, found: str, remedy: str) -> _Failure:
        need_mb = self.needs[index]
        expected = f"about {need_mb:.0f} MB for this case" if need_mb else "enough for this case"
        return _Failure(_failure(self.items[index], found, expected, remedy=remedy))

    def _start(self) -> None:
        while len(self.running) < self.workers.slots and (index := self._next()) is not None:
            self.running[self.workers.submit(self.call, self.items[index])] = index

    def _next(self) -> int | None:
        if not self.waiting:
            return self.died.pop(0) if self.died and not self.running else None
        free_mb = self.memory_mb - sum(self.needs[index] for index in self.running.values())
        fitting = bisect_right(self.waiting, free_mb, key=lambda index: self.needs[index])
        return self.waiting.pop(fitting - 1) if fitting else None

    def _is_settled(self, index: int, future: Future) -> bool:
        """Record the outcome of an item. False where its process died for the first time: it is tried again, alone."""
        if isinstance(future.exception(), _DEATHS) and index not in self.retried:
            self.retried.add(index)
            self.died.append(index)
            return False
        outcome = _outcome(self.items[index], future)
        if isinstance(outcome, _NoMemory):
            remedy = f"fewer workers, or {_MORE_MEMORY}" if self.workers.slots > 1 else _MORE_MEMORY
            outcome = self._too_large(index, "not enough memory", remedy)
        self.outcomes[index] = outcome
        return True


_DEATHS = (ProcessExpired, BrokenExecutor)
_MORE_MEMORY = "a machine with more memory"


def _outcome(item: Any, future: Future) -> Any:
    error = future.exception()
    if isinstance(error, _DEATHS):
        return _Failure(_death(item, error))
    if isinstance(error, OutOfTime):
        return _Failure(_failure(item, "not done within its time", "a case that ends: see --timeout-s"))
    if isinstance(error, FlarenetError):  # of the workers, not of the case
        raise error
    if error is not None:
        raise CaseFault(f"case {name_of(item)}: {type(error).__name__}: {error}") from error
    outcome = future.result()
    if isinstance(outcome, _Failure) and isinstance(outcome.error, NoRoom):
        raise outcome.error
    if isinstance(outcome, _Fault):
        raise CaseFault(f"case {name_of(item)}: {outcome.summary}") from RuntimeError(f"\n{outcome.traceback}")
    return outcome


def _death(item: object, error: BaseException) -> StorageError:
    how = f"with exit code {error.exitcode}" if isinstance(error, ProcessExpired) else f"({error})"
    return StorageError(
        f"case {name_of(item)}",
        found=f"its process died {how}, and again when nothing else ran",
        expected="a process that lives to the end",
        remedy="most likely memory ran out: use a machine with more of it",
    )


def name_of(item: object) -> str:
    """What messages call an item: its `name` where it has one, else its text."""
    return str(getattr(item, "name", item))


def _failure(item: object, found: object, expected: str, *, remedy: str | None = None) -> StorageError:
    return StorageError(f"case {name_of(item)}", found=found, expected=expected, remedy=remedy)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = (TextColumn("left"), TimeRemainingColumn())
    return Progress(*columns, *left, console=Console(stderr=True))
