"""Batches made ahead of their use, in worker processes.

Each process gets what it needs to make any batch (paths and numbers; it opens the store itself), and then the keys of
the batches to make. Each has a pipe of its own, so if it dies, its reader meets the end of that pipe: nothing is polled
and no lock is shared.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from mmap import MAP_POPULATE, MAP_SHARED, mmap
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.reduction import recv_handle, send_handle
from typing import NoReturn, cast

import torch

from ..data.cases import CaseFault, end_with_parent
from ..data.memory import processors
from ..errors import FlarenetError, StorageError
from .batches import Batch, Batches, Sample
from .distributed import processes_here

AHEAD = 2
"""How many batches are requested of each process at a time: the one it makes and the one after it."""

MOST_WORKERS = 12

Key = tuple[int, int, int]
"""A batch: (number of its source, epoch, index)."""


def default_workers(device: torch.device) -> int:
    """How many loader processes to use for training on `device`: enough to keep a GPU busy; none on a CPU."""
    return max(0, min(MOST_WORKERS, processors() // processes_here() - 1)) if device.type == "cuda" else 0


class Loader(AbstractContextManager):
    """Processes that make batches; leaving the context ends them. With 0 workers each batch is made when needed."""

    def __init__(self, workers: int) -> None:
        self._count = workers
        self._sources: list[Batches] = []
        self._workers: dict[Connection, _Worker] = {}
        self._made: dict[Key, Batch] = {}

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()

    def prefetch(self, batches: Batches, *, epochs: int, batches_per_epoch: int) -> PrefetchedBatches:
        """A stand-in for `batches`, of which `epochs` times `batches_per_epoch` will be taken, mostly in order.

        Call it for all sources before taking the first batch: that starts the processes and sends them the sources.
        """
        self._sources.append(batches)
        return PrefetchedBatches(self, len(self._sources) - 1, batches, epochs, batches_per_epoch)

    @property
    def reach(self) -> int:
        """How many batches are requested beyond the one that is needed now."""
        return AHEAD * self._count

    def ask(self, key: Key) -> None:
        """Request a batch from the process that has the least to do."""
        if not self._workers:
            self._start()
        min(self._workers.values(), key=lambda worker: len(worker.asked)).ask(key)

    def take(self, key: Key) -> Batch:
        """A batch that was requested.

        Raises the error of this batch or of a later one, FlarenetError as it is, anything else as CaseFault, and
        StorageError where a process died.
        """
        self._collect(0)
        while key not in self._made:
            self._collect(None)
        return self._made.pop(key)

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        # one process imports torch and the augmentation library; the workers are forked from it
        context.set_forkserver_preload([__name__, "batchgenerators.augmentations.color_augmentations"])
        for _ in range(self._count):
            worker = _Worker(context, self._sources)
            self._workers[worker.pipe] = worker

    def _collect(self, timeout_s: float | None) -> None:
        for pipe in wait(list(self._workers), timeout_s):
            key, batch = self._workers[cast(Connection, pipe)].answer()
            self._made[key] = batch


class PrefetchedBatches:
    """Stands in for Batches: while one batch is used, the next ones are made."""

    def __init__(self, loader: Loader, number: int, batches: Batches, epochs: int, batches_per_epoch: int) -> None:
        self._loader, self._number, self._batches = loader, number, batches
        self._epochs, self._per_epoch = epochs, batches_per_epoch
        self._asked: deque[tuple[int, int]] = deque()

    @property
    def seed(self) -> int:
        return self._batches.seed

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self._batches.samples

    def names(self, epoch: int, index: int) -> tuple[str, ...]:
        """As Batches.names."""
        return self._batches.names(epoch, index)

    def batch(self, epoch: int, index: int) -> Batch:
        """As Batches.batch."""
        if self._loader.reach <= 0:
            return self._batches.batch(epoch, index)
        while self._asked and self._asked[0] != (epoch, index):  # a jump: batches made ahead are dropped
            self._loader.take((self._number, *self._asked.popleft()))
        for key in islice(self._from(epoch, index), len(self._asked), 1 + self._loader.reach):
            self._asked.append(key)
            self._loader.ask((self._number, *key))
        return self._loader.take((self._number, *self._asked.popleft()))

    def _from(self, epoch: int, index: int) -> Iterator[tuple[int, int]]:
        for turn in range(epoch * self._per_epoch + index, self._epochs * self._per_epoch):
            yield divmod(turn, self._per_epoch)


@dataclass(frozen=True)
class _Failure:
    """Sent in place of a batch that could not be made. Text, because not every exception can be pickled."""

    error: FlarenetError | None
    summary: str
    traceback: str

    def throw(self) -> NoReturn:
        if self.error is not None:
            raise self.error
        raise CaseFault(self.summary) from RuntimeError(f"\n{self.traceback}")


class _Worker:
    """A process, and the batches that were requested from it and have not arrived yet."""

    def __init__(self, context: ForkServerContext, sources: Sequence[Batches]) -> None:
        self.pipe, theirs = context.Pipe()
        self.asked: deque[Key] = deque()
        self._sources = sources
        self._process = context.Process(target=_serve, args=(theirs, sources), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, key: Key) -> None:
        self.asked.append(key)
        try:
            self.pipe.send(key)
        except OSError:
            raise self._death() from None

    def answer(self) -> tuple[Key, Batch]:
        """The next batch that it made. Raises the error that stopped it from making one."""
        try:
            found = _receive(self.pipe)
        except (EOFError, OSError):
            raise self._death() from None
        if isinstance(found, _Failure):
            found.throw()
        return self.asked.popleft(), found

    def end(self) -> None:
        self.pipe.close()
        self._process.kill()
        self._process.join()

    def _death(self) -> StorageError:
        self._process.join(1)
        cases = [name for number, *key in list(self.asked)[:1] for name in self._sources[number].names(*key)]
        return StorageError(
            f"the loader process that made a batch of {', '.join(cases) or 'nothing'}",
            found=f"it died with exit code {self._process.exitcode}",
            expected="a process that lives to the end",
            remedy="most likely memory ran out: use fewer --workers; the same command resumes from here",
        )


def _serve(pipe: Connection, sources: Sequence[Batches]) -> None:
    """Make the requested batches until the parent closes the pipe."""
    # meant for the parent, which ends this process when it is done
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    torch.set_num_threads(1)
    try:
        while True:
            _send(pipe, _made(sources, pipe.recv()))
    except (EOFError, OSError):  # the parent has closed the pipe or died
        pass


def _made(sources: Sequence[Batches], key: Key) -> Batch | _Failure:
    number, epoch, index = key
    try:
        return sources[number].batch(epoch, index)
    except FlarenetError as error:
        return _Failure(error, "", "")
    except BaseException as error:  # noqa: BLE001 - nothing is swallowed: it is raised where it arrives
        return _Failure(None, str(error), traceback.format_exc())


def _send(pipe: Connection, made: Batch | _Failure) -> None:
    """Send a batch in shared memory, whose file descriptor goes through the pipe.

    Once sent, a batch needs neither its sender nor /dev/shm, which is small in many containers. torch's own way of
    sending tensors needs both.
    """
    if isinstance(made, _Failure):
        pipe.send(made)
        return
    parts = [made.image, *made.labels.values(), *made.annotated.values()]
    memory = os.memfd_create("batch")
    with open(memory, "wb") as stream:
        for part in parts:
            stream.write(part.numpy().data)
        stream.flush()
        pipe.send((made.names, tuple(made.labels), [(part.dtype, part.shape) for part in parts]))
        send_handle(pipe, memory, None)


def _receive(pipe: Connection) -> Batch | _Failure:
    head = pipe.recv()
    if isinstance(head, _Failure):
        return head
    names, groups, kinds = head
    descriptor = recv_handle(pipe)
    memory = mmap(descriptor, 0, flags=MAP_SHARED | MAP_POPULATE)  # it lives as long as the tensors
    os.close(descriptor)
    parts, start = [], 0
    for dtype, shape in kinds:
        parts.append(torch.frombuffer(memory, dtype=dtype, count=shape.numel(), offset=start).view(shape))
        start += parts[-1].nbytes
    image, labels, annotated = parts[0], parts[1 : 1 + len(groups)], parts[1 + len(groups) :]
    return Batch(image=image, labels=dict(zip(groups, labels)), annotated=dict(zip(groups, annotated)), names=names)
