"""What map_cases survives: processes that are killed, stuck or out of memory, and errors that cannot be sent."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from flarenet.data.cases import CaseFault, Pool, map_cases
from flarenet.errors import StorageError

ROOT = Path(__file__).resolve().parents[2]
GB = 1 << 30


@dataclass(frozen=True)
class Item:
    name: str
    number: int
    folder: Path | None = None


def items(folder=None, count=6):
    return [Item(f"case{n}", n, folder) for n in range(count)]


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    left = [process for process in psutil.Process().children() if "spawn_main" in " ".join(process.cmdline())]
    assert left == []


def die_at_two(item: Item) -> int:
    """Notes every beginning and end; case 2 is killed a moment after its beginning, as the kernel does it."""
    note(item, "begin")
    if item.number == 2:
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    note(item, "end")
    return item.number


def die_at_first(item: Item) -> int:
    seen = item.folder / item.name
    if item.number in (1, 2, 4) and not seen.exists():
        seen.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item.number


def note(item: Item, what: str) -> None:
    with open(item.folder / "notes", "a") as file:
        file.write(f"{what} {item.number}\n")


def test_a_killed_process_loses_its_own_case_only_and_it_is_tried_again_alone(tmp_path):
    began = time.monotonic()
    results, failures = map_cases(die_at_two, items(tmp_path), pool=Pool(2), describe="die")
    assert time.monotonic() - began < 10
    assert results == [0, 1, 3, 4, 5]
    [(item, error)] = failures
    assert item.name == "case2" and isinstance(error, StorageError)
    assert "case case2" in error.thing and "exit code -9" in error.found and "memory" in error.remedy
    notes = (tmp_path / "notes").read_text().split("\n")
    assert notes.count("begin 2") == 2
    assert notes[-2] == "begin 2" and sum(line.startswith("end") for line in notes) == 5  # the others were all done


def test_cases_whose_processes_died_once_are_done_the_second_time(tmp_path):
    results, failures = map_cases(die_at_first, items(tmp_path), pool=Pool(2), describe="die once")
    assert (results, failures) == ([0, 1, 2, 3, 4, 5], [])


def read_or_square(item: Item) -> int:
    if item.number == 1:
        (item.folder / "scan.nii.gz").read_bytes()  # a named pipe that nobody writes to
    return item.number**2


def spin_at_one(item: Item) -> int:
    while item.number == 1:
        pass
    return item.number**2


@pytest.mark.parametrize("work", [read_or_square, spin_at_one])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_stuck_case_is_given_up_and_the_rest_is_done(tmp_path, work, workers):
    os.mkfifo(tmp_path / "scan.nii.gz")
    began = time.monotonic()
    results, failures = map_cases(work, items(tmp_path, 4), pool=Pool(workers, timeout_s=1), describe="stuck")
    assert time.monotonic() - began < 6
    assert results == [0, 4, 9]
    [(item, error)] = failures
    assert item.name == "case1" and "within its time" in error.found


class Unsendable(Exception):
    """Holds a lock: cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Unreceivable(Exception):
    """Can be pickled, but not made anew from its arguments."""

    def __init__(self, text: str, more: str) -> None:
        super().__init__(text)


def raise_unsendable(item: Item) -> int:
    if item.number == 1:
        raise Unsendable("odd")
    return item.number


def raise_unreceivable(item: Item) -> int:
    if item.number == 1:
        raise Unreceivable("odd", "more")
    return item.number


def give_unsendable(item: Item) -> object:
    return threading.Lock() if item.number == 1 else item.number


@pytest.mark.parametrize(
    ("work", "said"),
    [(raise_unsendable, "odd"), (raise_unreceivable, "odd"), (give_unsendable, "TypeError: cannot pickle")],
)
def test_what_cannot_be_sent_is_a_fault_with_the_name_of_its_case(work, said):
    began = time.monotonic()
    with pytest.raises(CaseFault, match=f"case case1: .*{said}"):
        map_cases(work, items(), pool=Pool(2), describe="send")
    assert time.monotonic() - began < 10


def fill(item: Item) -> int:
    """Three GB for case 3, where a process may have two."""
    resource.setrlimit(resource.RLIMIT_AS, (2 * GB, resource.getrlimit(resource.RLIMIT_AS)[1]))
    np.zeros(3 * GB if item.number == 3 else 1000, dtype=np.uint8)
    return item.number


def test_a_case_that_needs_more_memory_than_it_may_have_is_named_and_the_rest_is_done():
    results, failures = map_cases(fill, items(count=10), pool=Pool(2), describe="fill")
    assert results == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert [(item.number, error.found) for item, error in failures] == [(3, "not enough memory")]
    assert "fewer workers" in failures[0][1].remedy


SCRIPT = """
import sys, time
from flarenet.data.cases import Pool, map_cases
if __name__ == "__main__":
    print("begun", flush=True)
    map_cases(time.sleep, [60, 60], pool=Pool(2), describe="sleep")
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_parent(tmp_path, ending):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, script], **pipes) as parent:
        assert parent.stdout.readline() == b"begun\n"
        workers = wait_for(lambda: workers_of(parent.pid), 2)
        time.sleep(0.5)  # until they sleep
        parent.send_signal(ending)
        parent.wait(timeout=10)
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


def workers_of(pid):
    return [child for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]


def wait_for(look, count, limit_s=10):
    end = time.monotonic() + limit_s
    while len(found := look()) < count and time.monotonic() < end:
        time.sleep(0.05)
    assert len(found) == count
    return found
