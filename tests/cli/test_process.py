"""Torch takes no more threads than processors are granted, unless a person says so; memory that a command frees is used
again, not asked of the system anew."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from flarenet.cli.process import keep_to_quota

only_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is tuned")


@pytest.mark.parametrize(
    ("granted", "before", "after"),
    [(2, None, "2"), (2, "7", "7"), (8, None, None)],
    ids=["a quota", "OMP_NUM_THREADS is set", "no quota"],
)
def test_threads_are_as_many_as_processors_are_granted(monkeypatch, granted, before, after):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr("flarenet.cli.process.processors", lambda: granted)
    monkeypatch.setenv("OMP_NUM_THREADS", before or "")
    if before is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    keep_to_quota()
    assert os.environ.get("OMP_NUM_THREADS") == after


PROGRAM = """
import resource, sys
import numpy as np
from flarenet.cli.process import keep_freed_memory, share_one_heap

if sys.argv[1] == "kept":
    keep_freed_memory()
    share_one_heap()
np.ones(2**23)  # 64 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@only_glibc
def test_the_next_array_takes_the_pages_of_the_one_before():
    assert page_faults("kept") < 100


@only_glibc
def test_without_it_every_array_asks_for_its_pages():
    """Or the test above shows nothing: 4 x 64 MiB are 65,536 pages of 4 KiB, 128 of 2 MiB."""
    assert page_faults("as usual") >= 128
