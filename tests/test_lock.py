"""A folder belongs to one process at a time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from flarenet.errors import LockedError
from flarenet.lock import LOCK, locked

HOLD = """
import sys, time
from pathlib import Path
from flarenet.errors import LockedError
from flarenet.lock import locked
sys.stdin.readline()  # all at once
try:
    with locked(Path(sys.argv[1])):
        print("owner", flush=True)
        sys.stdin.readline()
except LockedError as error:
    print(error.found, flush=True)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def start():
    """start(folder) -> a process that tries to hold it after a first line, and until a second."""
    started = []

    def begin(folder):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_held_folder_is_refused_within_seconds_and_the_holder_named(tmp_path, start):
    holder = start(tmp_path / "run")
    go(holder)
    assert holder.stdout.readline() == "owner\n"
    began = time.monotonic()
    with pytest.raises(LockedError) as refused, locked(tmp_path / "run"):
        pass
    assert time.monotonic() - began < 5
    assert refused.value.exit_code == 6
    assert f"process {holder.pid} on {socket.gethostname()}" in str(refused.value)
    go(holder)
    assert holder.wait(10) == 0
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).is_file()
    assert list((tmp_path / "run").iterdir()) == []


def test_who_waits_is_told_for_whom_and_comes_next(tmp_path, start):
    holder, said = start(tmp_path), []
    go(holder)
    assert holder.stdout.readline() == "owner\n"

    def let_go(line):
        said.append(line)
        go(holder)

    with locked(tmp_path, wait=let_go):
        assert holder.wait(10) == 0
        assert (tmp_path / LOCK).read_text().split()[0] == str(os.getpid())
    assert len(said) == 1 and f"in use by process {holder.pid} on" in said[0] and str(tmp_path / LOCK) in said[0]
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_holder_is_taken_over(tmp_path, start):
    holder = start(tmp_path)
    go(holder)
    assert holder.stdout.readline() == "owner\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).is_file()
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text().split()[0] == str(os.getpid())


def test_the_lock_of_another_host_is_never_taken_over(tmp_path):
    (tmp_path / LOCK).write_text("1234567\nanother-host\n")
    with pytest.raises(LockedError, match="process 1234567 on another-host") as refused, locked(tmp_path):
        pass
    assert str(tmp_path / LOCK) in refused.value.remedy
    (tmp_path / LOCK).unlink()
    with locked(tmp_path):
        pass


def test_of_many_that_start_at_once_one_is_the_owner(tmp_path, start):
    racers = [start(tmp_path) for _ in range(12)]
    time.sleep(1)  # until all have imported
    for racer in racers:
        go(racer)
    said = [racer.stdout.readline() for racer in racers]
    [owner] = [racer for racer, line in zip(racers, said) if line == "owner\n"]
    assert sum(line.startswith(f"in use by process {owner.pid} on") for line in said) == 11
