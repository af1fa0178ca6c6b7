"""Planning that is killed while it writes what it decided, and started again, leaves the files of an unbroken run."""

import multiprocessing
import os
import signal

import pytest

from benchmarks.preparation.kill import NAME, content_of
from flarenet.cli import plan
from flarenet.phantom import write_phantom_set
from flarenet.whole import FAILPOINT

WRITTEN = ("fingerprint.json", "splits.json", "dataset.json", "plan.json")
"""In this order, before any case is prepared."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / NAME
    write_phantom_set(folder, cases=4, test_cases=1, seed=0, detail=0.4)
    return folder


def root_of(path, raw):
    (path / "raw").mkdir(parents=True)
    (path / "raw" / NAME).symlink_to(raw)
    return path


def planned(root):
    return plan.main(["-d", NAME, "--root", str(root), "--workers", "1"])


def killed(root, failpoint):
    """The exit code of a process that plans, and is killed there."""

    def run():
        os.environ[FAILPOINT] = failpoint
        planned(root)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    return process.exitcode


def test_killed_and_run_again(raw, tmp_path):
    """One root is killed at each file in turn, and so also goes on from what was gone on with."""
    unbroken, broken = root_of(tmp_path / "unbroken", raw), root_of(tmp_path / "broken", raw)
    assert planned(unbroken) == 0
    prepared = broken / "prepared" / NAME
    for number, name in enumerate(WRITTEN):
        assert killed(broken, f"{name}:half") == -signal.SIGKILL
        assert {path.name for path in prepared.glob("[!.]*.json")} == set(WRITTEN[:number])
    assert planned(broken) == 0
    assert content_of(broken) == content_of(unbroken)
