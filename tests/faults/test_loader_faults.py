"""What becomes of training when its loader processes fail, and of them when it ends: no hang, one error, no orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from flarenet.data.cases import CaseFault
from flarenet.data.packed import Packed
from flarenet.errors import DatasetError, StorageError
from flarenet.training.batches import Batches, Sample
from flarenet.training.loader import Loader

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (4, 16, 16)


@dataclass(frozen=True)
class Image:
    """Zeros, or what `fault` says."""

    fault: str = ""
    shape: tuple = SHAPE

    def __getitem__(self, window):
        if self.fault == "unpicklable":

            class Local(Exception):
                def __reduce__(self):
                    raise TypeError("no")

            raise Local("odd header")
        if self.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "sleeps":
            time.sleep(600)
        if self.fault == "numpy":
            raise MemoryError("Unable to allocate 4.00 GiB for an array")
        if self.fault == "torch":
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 GB")
        return np.zeros(SHAPE, dtype=np.int16)[window]


def source(fault):
    """Five cases in a shuffled order, the last with the fault."""
    images = [Image()] * 4 + [fault if isinstance(fault, Packed) else Image(fault)]
    flags = {"organ": np.ones(2, dtype=bool)}
    samples = [Sample(f"case_{i}", image, {}, flags) for i, image in enumerate(images)]
    return Batches(samples, (8, 8), batch_size=1, seed=0, augmentation=None)


def draw_all(batches, workers=2):
    """Every batch of two rounds; returns the seconds from the first batch to the end."""
    with Loader(workers) as loader:
        ahead = loader.ahead(batches, epochs=1, batches_per_epoch=10)
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
        ahead = loader.ahead(batches, epochs=1, batches_per_epoch=1000)
        ahead.batch(0, 0)
        os.kill(workers_of(os.getpid())[0].pid, signal.SIGKILL)
        for index in range(1, 1000):
            ahead.batch(0, index)
            time.sleep(0.01)


SCRIPT = """
import time
from tests.faults.test_loader_faults import source
from flarenet.training.loader import Loader

if __name__ == "__main__":
    with Loader(2) as loader:
        ahead = loader.ahead(source("{fault}"), epochs=1, batches_per_epoch=1000)
        for index in range(2):  # one from each process
            ahead.batch(0, index)
        print("ready", flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize(
    ("number", "fault"), [(signal.SIGINT, ""), (signal.SIGTERM, "sleeps"), (signal.SIGKILL, "sleeps")]
)
def test_nothing_is_left_behind(tmp_path, number, fault):
    """The signal goes to the training process and, as from a terminal or a scheduler, to all beside it but a kill."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(fault=fault))
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 3
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)
    _, alive = psutil.wait_procs(below, timeout=20)
    for each in alive:
        each.kill()
    assert alive == []
    said = process.communicate()[1]
    assert said.count("Traceback") <= 1, said
