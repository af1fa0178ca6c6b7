"""Torch takes no more threads than processors are granted, unless a person says so."""

from __future__ import annotations

import os

import pytest

from flarenet.cli.threads import keep_to_quota


@pytest.mark.parametrize(
    ("granted", "before", "after"),
    [(2, None, "2"), (2, "7", "7"), (8, None, None)],
    ids=["a quota", "OMP_NUM_THREADS is set", "no quota"],
)
def test_threads_are_as_many_as_processors_are_granted(monkeypatch, granted, before, after):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr("flarenet.cli.threads.processors", lambda: granted)
    monkeypatch.setenv("OMP_NUM_THREADS", before or "")
    if before is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    keep_to_quota()
    assert os.environ.get("OMP_NUM_THREADS") == after
