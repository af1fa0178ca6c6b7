"""Training that is killed in the middle of a save, told to end, or out of disk leaves a state that is gone on from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flarenet.cli.shell import new_parser, run
from flarenet.errors import RunError, StorageError
from flarenet.training.loop import fit
from flarenet.whole import FAILPOINT, sha256_of, write_text
from tests.full_disk import longest_file
from tests.training.tiny import checkpoints, fresh_state, objective, training_setup

ROOT = Path(__file__).resolve().parents[2]
LAST = "state-00004-00000"

STAGES = (
    "state-00003-*.safetensors:open",
    "state-00003-*.safetensors:half",
    "state-00003-*.safetensors:written",
    "state-00003-*.safetensors:flushed",
    "state-00003-*.safetensors:replaced",
    "state-00003-*.json:half",
)
TRAIN = f"""
import os, sys
from pathlib import Path
import torch._dynamo  # which torch's optimizers import at their first step
from flarenet.training.loop import fit
from tests.training.tiny import fresh_state, training_setup
for number, stage in enumerate({STAGES}):
    process = os.fork()
    if process == 0:
        os.environ[{FAILPOINT!r}] = stage
        folder = Path(sys.argv[1]) / str(number)
        fit(fresh_state(), training_setup(folder))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""
"""A process for each of STAGES, all of one that has imported everything."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """SHA-256 of network and optimizer after the last epoch."""
    folder = tmp_path_factory.mktemp("unbroken")
    fit(fresh_state(), training_setup(folder))
    return sha256_of(folder / f"{LAST}.safetensors")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder for each of STAGES, in which training was killed there."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run([sys.executable, "-c", TRAIN, str(folder)], capture_output=True, text=True)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(STAGES), done.stderr
    return {stage: folder / str(number) for number, stage in enumerate(STAGES)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_in_any_stage_of_a_save_leaves_the_state_before_it(unbroken, killed, stage):
    folder, state = killed[stage], fresh_state()
    assert checkpoints(folder).load(state, pytest.fail)
    assert state.epoch == 2
    fit(state, training_setup(folder))
    assert sha256_of(folder / f"{LAST}.safetensors") == unbroken
    assert not list(folder.glob(".*.tmp.*"))


def command(folder, signals):
    """flarenet_x, which trains and gets `signals`, [(batch, signal)], on the way; its exit code and its batches."""
    batches = []

    def signalled(network, batch):
        batches.append(1)
        for number in signals.get(len(batches), ()):
            signal.raise_signal(number)
        return objective(network, batch)

    def work(arguments):
        state = fresh_state()
        checkpoints(folder).load(state, pytest.fail)
        fit(state, training_setup(folder, objective=signalled))

    return run(new_parser("flarenet_x", "For tests."), work, []), len(batches)


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ((signal.SIGTERM,), 75),
        ((signal.SIGTERM, signal.SIGTERM), 75),
        ((signal.SIGINT,), 130),
        ((signal.SIGUSR1, signal.SIGTERM), 75),
    ],
)
def test_a_signal_ends_a_command_after_its_batch_and_nothing_is_lost(unbroken, tmp_path, signals, code):
    assert command(tmp_path, {5: signals}) == (code, 5)
    assert command(tmp_path, {}) == (0, 12 - 5)
    assert sha256_of(tmp_path / f"{LAST}.safetensors") == unbroken


def test_a_run_that_is_to_end_is_not_taken_for_one_that_has_ended(unbroken, tmp_path):
    """Where the signal then does nothing, as in a program with a handler of its own."""

    def signalled(network, batch):
        signal.raise_signal(signal.SIGTERM)
        return objective(network, batch)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(RunError, match="a signal to stop after epoch 0, batch 1"):
            fit(fresh_state(), training_setup(tmp_path, objective=signalled))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert command(tmp_path, {}) == (0, 12 - 1)
    assert sha256_of(tmp_path / f"{LAST}.safetensors") == unbroken


def test_a_signal_during_a_save_lets_it_end(unbroken, tmp_path, monkeypatch):
    replace = os.replace

    def signalled(*paths):
        signal.raise_signal(signal.SIGTERM)
        replace(*paths)

    monkeypatch.setattr(os, "replace", signalled)
    assert command(tmp_path, {}) == (75, 3)  # the first save is that after the first epoch
    monkeypatch.undo()
    assert command(tmp_path, {}) == (0, 9)
    assert sha256_of(tmp_path / f"{LAST}.safetensors") == unbroken


@pytest.mark.parametrize("size", [0, 100, 1000])
def test_a_full_disk_is_an_error_with_numbers_and_the_state_before_stays(tmp_path, size):
    state = fresh_state()
    fit(state, training_setup(tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    state.epoch += 1
    with pytest.raises(StorageError) as error, longest_file(size):
        checkpoints(tmp_path).save(state)
    assert "state-00005-00000" in error.value.thing and error.value.exit_code == 5
    assert "bytes free" in error.value.found and " bytes" in error.value.expected
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_text_that_the_disk_has_no_room_for(tmp_path):
    with pytest.raises(StorageError, match="room for 20 bytes"), longest_file(10):
        write_text(tmp_path / "a.txt", "x" * 20)
    assert not list(tmp_path.iterdir())
