"""The same work for many cases: in order, in processes, and a case that fails does not stop the others."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, as_completed
from typing import TypeVar

from pebble import ProcessExpired, ProcessPool
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import FlarenetError, StorageError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_cases(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int = 1, describe: str
) -> tuple[list[Result], list[tuple[Item, FlarenetError]]]:
    """`function` of every item: the results of those that succeeded and (item, error) of the others, both in order.

    workers   processes; 0 or 1 works in this process. With more, `function` and the items must be picklable.
    describe  what is being done, for the progress bar on stderr

    Only FlarenetError and OSError count as the failure of a case; so does the death of its process (killed for
    memory, say). Anything else is a fault of the program, ends the work and is raised.
    """
    items = list(items)
    with _progress() as progress:
        task = progress.add_task(describe, total=len(items))
        step = lambda: progress.advance(task)  # noqa: E731
        if workers <= 1 or len(items) <= 1:
            outcomes: list[Result | _Failure] = [_attempt(function, item, step) for item in items]
        else:
            outcomes = _in_processes(function, items, min(workers, len(items)), step)
    results = [outcome for outcome in outcomes if not isinstance(outcome, _Failure)]
    failures = [(item, outcome.error) for item, outcome in zip(items, outcomes) if isinstance(outcome, _Failure)]
    return results, failures


class _Failure:
    """What stands for the result of a case that failed."""

    def __init__(self, error: FlarenetError) -> None:
        self.error = error


def _attempt(function: Callable[[Item], Result], item: Item, step: Callable[[], None]) -> Result | _Failure:
    try:
        return function(item)
    except (FlarenetError, OSError) as error:
        return _Failure(_as_failure(item, error))
    finally:
        step()


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, step: Callable[[], None]
) -> list[Result | _Failure]:
    # spawn: a forked child would inherit locks that threads of torch or BLAS hold
    pool = ProcessPool(max_workers=workers, context=multiprocessing.get_context("spawn"))
    try:
        futures = [pool.schedule(function, args=(item,)) for item in items]
        for done in as_completed(futures):
            step()
            error = done.exception()
            if error is not None and not isinstance(error, (FlarenetError, OSError, ProcessExpired)):
                raise error
        outcomes: list[Result | _Failure] = [_outcome(item, future) for item, future in zip(items, futures)]
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()
    return outcomes


def _outcome(item: Item, future: Future) -> Result | _Failure:
    error = future.exception()
    return future.result() if error is None else _Failure(_as_failure(item, error))


def _as_failure(item: object, error: BaseException) -> FlarenetError:
    if isinstance(error, FlarenetError):
        return error
    name = getattr(item, "name", item)
    if isinstance(error, ProcessExpired):
        code = getattr(error, "exitcode", None)
        return StorageError(
            f"case {name}",
            found=f"its process died with exit code {code}",
            expected="a process that lives to the end",
            remedy="most often memory ran out: use fewer workers",
        )
    return StorageError(f"case {name}", found=error, expected="files that can be read and written")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))
