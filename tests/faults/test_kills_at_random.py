"""kill -9 at random moments of commands, by the benchmarks that do nothing else. FLARENET_FULL=1 runs it."""

import importlib
import os
import sys

import pytest

FULL = os.environ.get("FLARENET_FULL") == "1"


@pytest.mark.skipif(not FULL, reason="minutes: only with FLARENET_FULL=1")
@pytest.mark.parametrize("room", ["preparation", "training"])
def test_killed_at_three_moments_and_run_again(room, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kill", "--kills", "3"])
    assert importlib.import_module(f"benchmarks.{room}.kill").main() == 0, capsys.readouterr().out
