"""Memory that a command frees is used again, not asked of the system anew."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is tuned")

PROGRAM = """
import resource, sys
import numpy as np
from flarenet.cli.heap import keep_freed_memory, share_one_heap

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


def test_the_next_array_takes_the_pages_of_the_one_before():
    assert page_faults("kept") < 100


def test_without_it_every_array_asks_for_its_pages():
    """Or the test above shows nothing: 4 x 64 MiB are 65,536 pages of 4 KiB, 128 of 2 MiB."""
    assert page_faults("as usual") >= 128
