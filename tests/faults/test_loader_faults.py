"""What becomes of training when its loader processes fail, and of them when it ends: no hang, one error, no orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from flarenet.data.cases import CaseFault
from flarenet.data.packed import Packed
from flarenet.errors import DatasetError, StorageError
from flarenet.training.loader import Loader
from tests.faults.faulty_source import SHAPE, source

ROOT = Path(__file__).resolve().parents[2]


def draw_all(batches, workers=2):
    """Every batch of two rounds; returns the seconds from the first batch to the end."""
    with Loader(workers) as loader:
        ahead = loader.prefetch(batches, epochs=1, batches_per_epoch=10)
        began = None
        try:
            for index in range(10):
                ahead.batch(0, index)
                began = began or time.monotonic()
        finally:
            assert time.monotonic() - (began or time.monotonic()) < 10


def workers_of(pid):
    """Processes below the fork server of a process."""
    servers = [child for child in psutil.Process(pid).children() if "forkserver" in " ".join(child.cmdline())]
    return [worker for server in servers for worker in server.children()]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_that_cannot_be_sent_names_its_case(workers):
    with pytest.raises(CaseFault, match="case_4: Local: odd header"):
        draw_all(source("unpicklable"), workers)
    assert workers_of(os.getpid()) == []


@pytest.mark.parametrize(("workers", "fault"), [(0, "numpy"), (0, "torch"), (2, "numpy"), (2, "torch")])
def test_where_memory_runs_out_fewer_workers_are_the_remedy(workers, fault):
    with pytest.raises(StorageError, match="a batch of case_4") as caught:
        draw_all(source(fault), workers)
    assert "fewer --workers" in caught.value.remedy and "allocate 4" in caught.value.found


def test_a_damaged_file_is_named_as_without_processes(tmp_path):
    missing = Packed(tmp_path / "case_4" / "image.b2nd", SHAPE, np.dtype(np.int16))
    with pytest.raises(DatasetError, match="image.b2nd"):
        draw_all(source(missing))


def test_a_process_that_is_killed_is_noticed_and_its_cases_named():
    with pytest.raises(StorageError, match=r"case_4\n.*exit code -9"):
        draw_all(source("dies"))
    assert workers_of(os.getpid()) == []


def test_a_process_that_is_killed_between_batches_is_noticed_too():
    batches = source("")
    with Loader(2) as loader, pytest.raises(StorageError, match="exit code -9"):
        ahead = loader.prefetch(batches, epochs=1, batches_per_epoch=1000)
        ahead.batch(0, 0)
        os.kill(workers_of(os.getpid())[0].pid, signal.SIGKILL)
        for index in range(1, 1000):
            ahead.batch(0, index)
            time.sleep(0.01)


SIGNALS = {signal.SIGINT: "", signal.SIGTERM: "sleeps", signal.SIGKILL: "sleeps"}
"""And the fault of the source that is drawn from when one comes."""

TRAIN = """
import os, sys, time
from tests.faults.faulty_source import source
from flarenet.training.loader import Loader
assert not {"skimage", "pandas"} & set(sys.modules)  # what augments brings them, and nothing here does
folder, *faults = sys.argv[1:]
for number, fault in enumerate(faults):
    if os.fork() == 0:
        os.setsid()
        os.dup2(os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT), 2)
        with Loader(2) as loader:
            ahead = loader.prefetch(source(fault), epochs=1, batches_per_epoch=1000)
            for index in range(2):  # one from each process
                ahead.batch(0, index)
            print(number, os.getpid(), flush=True)
            time.sleep(600)
for _ in faults:
    print(os.wait(), flush=True)
"""
"""A process that trains for each fault, in a session of its own, all of one that has imported everything."""


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """{signal: (a process that trains, with those below it; the file of what they say)}."""
    folder, found = tmp_path_factory.mktemp("said"), {}
    line = [sys.executable, "-c", TRAIN, str(folder), *SIGNALS.values()]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            for _ in SIGNALS:
                number, pid = map(int, process.stdout.readline().split())  # one that ended has no number
                training = psutil.Process(pid)
                found[list(SIGNALS)[number]] = [training, *training.children(recursive=True)], folder / str(number)
            yield found
        finally:
            end_all([*psutil.Process(process.pid).children(recursive=True), process])


def end_all(processes):
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            each.kill()


@pytest.mark.parametrize("number", SIGNALS)
def test_nothing_is_left_behind(trainings, number):
    """The signal goes to the training process and, as from a terminal or a scheduler, to all beside it but a kill."""
    processes, said = trainings[number]
    assert len(processes) >= 4
    if number == signal.SIGKILL:
        processes[0].kill()
    else:
        os.killpg(processes[0].pid, number)
    _, alive = psutil.wait_procs(processes, timeout=20)
    end_all(alive)
    assert alive == []
    assert said.read_text().count("Traceback") <= 1, said.read_text()
