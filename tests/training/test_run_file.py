import os
import sys
from pathlib import Path

import pytest
import torch

from flarenet import __version__
from flarenet.errors import RunError
from flarenet.schema import load, save
from flarenet.training.callbacks import EpochDone
from flarenet.training.loop import fit
from flarenet.training.run_file import RunFile, RunRecord, command_line, other_versions, this_process
from tests.training.tiny import STEP, fresh_state, training_setup

FACTS = RunFile(title="test", seed=0, sha256={name: "a" * 64 for name in ("plan", "dataset", "cases", "MAE/1")})


def recorder(root, facts=FACTS):
    return RunRecord(facts, this_process(torch.device("cpu"), "fp32", root))


def read(folder):
    return load(RunFile, folder / "run.json", RunError)


def stop_after(epoch, error):
    def stop(event):
        if isinstance(event, EpochDone) and event.record.epoch == epoch:
            raise error

    return stop


def run_on(folder, *callbacks, facts=FACTS):
    state, run = fresh_state(), training_setup(folder, recorder(folder, facts), *callbacks)
    run.checkpoints.load(state, print)
    fit(state, run)


def test_one_process_says_what_it_was_and_what_it_did(tmp_path):
    run_on(tmp_path)
    [process] = read(tmp_path).processes
    assert (process.epochs, process.end) == ((1, STEP.epochs), "done")
    assert process.started <= process.ended and process.started.endswith("+00:00")
    assert process.libraries["torch"] == torch.__version__
    assert process.python == ".".join(map(str, sys.version_info[:3]))
    assert (process.device, process.precision, process.threads) == ("cpu", "float32", torch.get_num_threads())
    assert process.together == 1


def test_every_process_of_a_broken_run_is_there(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_on(tmp_path, stop_after(1, KeyboardInterrupt))
    with pytest.raises(RunError):
        run_on(tmp_path, stop_after(3, ValueError("no")))
    first, second = read(tmp_path).processes
    killed = second.model_copy(update={"end": "running", "ended": None})
    save(FACTS.model_copy(update={"processes": (first, killed)}), tmp_path / "run.json")
    run_on(tmp_path)
    assert [process.end for process in read(tmp_path).processes] == ["interrupted", "killed", "done"]
    assert [process.epochs for process in read(tmp_path).processes] == [(1, 1), (2, 3), (4, 4)]


def test_an_error_is_named(tmp_path):
    with pytest.raises(RunError):
        run_on(tmp_path, stop_after(1, ValueError("of somebody")))
    [process] = read(tmp_path).processes
    assert process.end == "RunError" and "somebody" not in (tmp_path / "run.json").read_text()


def test_versions_other_than_those_of_the_last_process_are_named(tmp_path):
    assert other_versions(tmp_path) == ""
    run_on(tmp_path)
    assert other_versions(tmp_path) == ""
    last = read(tmp_path).processes[-1]
    other = last.model_copy(update={"flarenet": "0.0.1", "libraries": {**last.libraries, "torch": "1.13.1"}})
    save(FACTS.model_copy(update={"processes": (last, other)}), tmp_path / "run.json")
    now = last.libraries["torch"]
    assert other_versions(tmp_path) == f"flarenet 0.0.1 (now {__version__}), torch 1.13.1 (now {now})"
    save(FACTS.model_copy(update={"processes": (other, last)}), tmp_path / "run.json")
    assert other_versions(tmp_path) == ""


@pytest.mark.parametrize(("changed", "processes"), [("plan", 2), ("dataset", 2), ("cases", 1), ("MAE/1", 1)])
def test_a_run_of_other_cases_or_weights_begins_anew(tmp_path, changed, processes):
    """One that resumes may have another plan, as of its other steps, and a data set that other cases were added to."""
    run_on(tmp_path)
    other = FACTS.model_copy(update={"sha256": {**FACTS.sha256, changed: "b" * 64}})
    run_on(tmp_path, facts=other)
    assert len(read(tmp_path).processes) == processes and read(tmp_path).sha256 == other.sha256


def test_command_lines_name_no_folders_outside_the_root(tmp_path, monkeypatch):
    root, home = tmp_path / "ward" / "root", tmp_path / "jane"
    (root / "raw").mkdir(parents=True)
    home.mkdir()
    (home / "labels").mkdir()
    monkeypatch.chdir(home)
    typed = [
        str(home / "bin" / "flarenet_train"),
        *("DualDecoder2D", "--step", "2", "--set", "trainers.*.steps.*.epochs=10", "a.b=Joint/1"),
        *("--root", str(root), f"--root={root}", "--root", "../ward/root"),
        *(str(root / "raw"), str(home / "labels"), "~/x", "./labels", os.path.join("..", "jane", "labels")),
    ]
    assert command_line(typed, root) == (
        "flarenet_train",
        *("DualDecoder2D", "--step", "2", "--set", "trainers.*.steps.*.epochs=10", "a.b=Joint/1"),
        *("--root", "ROOT", "--root=ROOT", "--root", "ROOT"),
        *("ROOT/raw", ".../labels", ".../x", ".../labels", ".../labels"),
    )


def test_nothing_about_people(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "flarenet_train"), "--root", str(tmp_path)])
    run_on(tmp_path)
    text = (tmp_path / "run.json").read_text()
    named = [str(tmp_path), str(Path.home()), os.uname().nodename, str(Path(sys.executable).parent)]
    assert not [word for word in named if word in text]
