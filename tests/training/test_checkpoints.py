"""A run goes on after any batch as if nothing had happened, or says why it cannot."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time

import pytest
import torch

from flarenet.errors import RunError, StorageError, UsageError
from flarenet.training.callbacks import Findings
from flarenet.training.loop import fit
from flarenet.whole import sha256_of
from tests.canary import canary_files
from tests.training.tiny import IDENTITY, STEP, checkpoints, fresh_state, held_out, objective, training_setup
from tests.unreadable import make_unreadable


def no_word(line):
    raise AssertionError(f"nothing should be said, not {line!r}")


def content(state):
    """All that a state holds, but for seconds, as it would be compared bit for bit."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in (state.best or {}).items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in moments.items()}
    bits = {name: (tensor.stride(), tensor.numpy().tobytes()) for name, tensor in tensors.items()}
    history = [record.model_dump(exclude={"timing"}) for record in state.history]
    return bits, history, state.epoch, state.index, state.sums, state.best_epoch, state.best_score


def dice_of(network, stopped):
    """Drops as the first weight grows: a validation that tells epochs apart."""
    return Findings(dice={"organ": 1 / (1 + next(network.parameters()).abs().sum().item())})


BEST = STEP.model_copy(update={"selection": "best dice"})


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    state = fresh_state()
    fit(state, training_setup(tmp_path_factory.mktemp("unbroken"), validate=dice_of, step=BEST))
    return state


class Stop(Exception):
    pass


@pytest.mark.parametrize("calls", range(1, 16))
def test_a_run_broken_off_anywhere_ends_bit_for_bit_as_an_unbroken_one(unbroken, tmp_path, calls):
    """Anywhere: in each of its twelve batches and four validations but the very first."""
    left = iter(range(calls))

    def breaking(network, batch):
        if next(left, None) is None:
            raise Stop
        return objective(network, batch)

    def judge(network, stopped):
        if next(left, None) is None:
            raise Stop
        return dice_of(network, stopped)

    with pytest.raises(Stop):
        fit(fresh_state(), training_setup(tmp_path, objective=breaking, validate=judge, step=BEST, save_every_s=0.0))
    again = fresh_state()
    torch.manual_seed(1234)
    assert checkpoints(tmp_path).load(again, no_word)
    assert (again.epoch, again.index) != (0, 0)
    fit(again, training_setup(tmp_path, validate=dice_of, step=BEST))
    assert content(again) == content(unbroken)


def test_a_state_is_saved_after_every_epoch_and_where_one_is_due(tmp_path):
    fit(fresh_state(), training_setup(tmp_path / "epochs"))
    assert names(tmp_path / "epochs") == ["state-00003-00000", "state-00004-00000"]
    fit(fresh_state(), training_setup(tmp_path / "batches", save_every_s=0.0))
    assert names(tmp_path / "batches") == ["state-00003-00003", "state-00004-00000"]


def names(folder):
    stems = sorted(path.stem for path in folder.glob("state*.json"))
    assert stems == sorted(path.stem for path in folder.glob("state*.safetensors"))
    return stems


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGUSR1, None)])
def test_a_signal_is_answered_after_the_batch_with_a_saved_state(unbroken, tmp_path, number, error):
    calls = []

    def signalled(network, batch):
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(number)
        return objective(network, batch)

    if error:
        with pytest.raises(error):
            fit(fresh_state(), training_setup(tmp_path, objective=signalled, validate=dice_of, step=BEST))
        assert len(calls) == 5
        assert names(tmp_path) == ["state-00001-00000", "state-00001-00002"]
        again = fresh_state()
        assert checkpoints(tmp_path).load(again, no_word)
    else:
        again = fresh_state()
    fit(again, training_setup(tmp_path, objective=signalled, validate=dice_of, step=BEST))
    assert content(again) == content(unbroken)


def test_a_signal_in_a_validation_is_answered_after_its_batch_and_nothing_is_lost(tmp_path):
    """In the first of two held-out batches of the second epoch, of which all three batches were learned from."""
    unbroken, again, judged = fresh_state(), fresh_state(), []
    fit(unbroken, training_setup(tmp_path / "unbroken", validate=held_out()))

    def signalled(network, batch):
        judged.append(batch)
        if len(judged) == 3:
            signal.raise_signal(signal.SIGINT)
        return objective(network, batch)

    folder = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        fit(fresh_state(), training_setup(folder, validate=held_out(objective=signalled)))
    assert len(judged) == 3
    assert names(folder) == ["state-00001-00000", "state-00001-00003"]
    assert checkpoints(folder).load(again, no_word) and again.seconds > 0.0
    fit(again, training_setup(folder, validate=held_out()))
    assert content(again) == content(unbroken)


def test_the_seconds_of_an_epoch_are_those_of_all_processes_that_worked_on_it(tmp_path):
    """Of three batches of 0.05 s each the first process learns from two, the second from the last."""
    calls, step, again = [], STEP.model_copy(update={"epochs": 1}), fresh_state()

    def slow(network, batch):
        time.sleep(0.05)
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return objective(network, batch)

    with pytest.raises(KeyboardInterrupt):
        fit(fresh_state(), training_setup(tmp_path, objective=slow, step=step))
    assert checkpoints(tmp_path).load(again, no_word)
    spent = again.seconds
    assert spent >= 0.1
    fit(again, training_setup(tmp_path, objective=slow, step=step))
    assert again.history[0].timing["seconds"] >= spent + 0.05 and again.seconds == 0.0


def test_a_request_to_save_in_a_validation_is_answered_after_its_batch(tmp_path):
    """In the first of two held-out batches of the second epoch; what is saved is seen in the other."""
    unbroken, saving, judged, seen = fresh_state(), fresh_state(), [], []
    fit(unbroken, training_setup(tmp_path / "unbroken", validate=held_out()))
    folder = tmp_path / "asked"

    def signalled(network, batch):
        judged.append(batch)
        if len(judged) == 3:
            signal.raise_signal(signal.SIGUSR1)
        if len(judged) == 4:
            seen.append(names(folder))
        return objective(network, batch)

    fit(saving, training_setup(folder, validate=held_out(objective=signalled)))
    assert seen == [["state-00001-00000", "state-00001-00003"]]
    assert content(saving) == content(unbroken)


def test_no_state_is_not_a_state(tmp_path):
    assert not checkpoints(tmp_path).load(fresh_state(), no_word)
    fit(fresh_state(), training_setup(tmp_path))
    checkpoints(tmp_path).remove()
    assert not list(tmp_path.glob("state*"))
    assert not checkpoints(tmp_path).load(fresh_state(), no_word)


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_the_first_removes_what_killed_ones_left(tmp_path, monkeypatch, rank):
    monkeypatch.setattr("flarenet.training.checkpoints.rank", lambda: rank)
    leftover = tmp_path / ".0a1b2c.tmp.run.json"
    leftover.write_text("{")
    assert not checkpoints(tmp_path).load(fresh_state(), no_word)
    assert leftover.exists() == (rank > 0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the states after epochs 3 and 4."""
    folder = tmp_path_factory.mktemp("saved")
    fit(fresh_state(), training_setup(folder))
    return folder


NEWEST = ("state-00004-00000.safetensors", "state-00004-00000.json")


def damages():
    draw = random.Random(0)
    for name in NEWEST:
        yield from ((name, "cut", draw.random()) for _ in range(5))
        yield from ((name, "flip", draw.random()) for _ in range(20))
        yield name, "empty", 0.0
    yield NEWEST[0], "missing", 0.0


def damage(path, kind, where):
    whole = path.read_bytes()
    place, bit = int(where * len(whole)), 1 << int(where * 1e6) % 8
    if kind == "flip":
        flips = (whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for at in range(place, len(whole)))
        path.write_bytes(next(content for content in flips if not holds_the_same(content, whole)))
    else:
        path.write_bytes(whole[:place])
    if kind == "missing":
        path.unlink()


def holds_the_same(one, other):
    """Whether both are JSON of equal values: the 17th digit of a number may be another, and the number the same."""
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize(("name", "kind", "where"), list(damages()))
def test_damage_is_said_and_the_state_before_is_used(saved, tmp_path, name, kind, where):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    damage(folder / name, kind, where)
    state, said = fresh_state(), []
    assert checkpoints(folder).load(state, said.append)
    assert (state.epoch, state.index, len(state.history)) == (3, 0, 3)
    [line] = said
    assert str(folder / "state-00004-00000") in line and "the state before it is used" in line


@pytest.mark.parametrize("kind", ["flip", "empty"])
def test_where_every_state_is_damaged_nothing_starts_anew(saved, tmp_path, kind):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    for path in folder.glob("state*.safetensors"):
        damage(path, kind, 0.5)
    with pytest.raises(RunError, match="state-00004") as error:
        checkpoints(folder).load(fresh_state(), no_word)
    assert f"remove the folder {folder}" in error.value.remedy


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_states_that_cannot_be_read_are_not_taken_for_damaged_ones(saved, tmp_path, kind):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    for path in folder.glob(f"state*.{kind}"):
        make_unreadable(path)
    with pytest.raises(StorageError, match=rf"state-00004-00000.{kind}\n  found: Input/output error") as error:
        checkpoints(folder).load(fresh_state(), no_word)
    assert "remove" not in error.value.remedy


def test_the_state_of_another_network_is_passed_over(saved, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    wider = fresh_state(width=6)
    wider.epoch = 9
    checkpoints(folder).save(wider)
    state, said = fresh_state(), []
    assert checkpoints(folder).load(state, said.append)
    assert state.epoch == 4 and "size mismatch" in said[0]


def test_a_half_finished_run_of_an_older_layout_is_no_fresh_start(tmp_path):
    (tmp_path / "state.json").write_text('{"run_hash": "a", "epoch": 1}')
    with pytest.raises(RunError, match="state.json"):
        checkpoints(tmp_path).load(fresh_state(), no_word)


@pytest.mark.parametrize(
    ("now", "was", "wanted"),
    [
        ({"step": {"epochs": 8}, "seed": 5}, "step.epochs=4", "step.epochs=8"),
        ({"step": {"epochs": 4}}, "seed=5", "seed=null"),
        ({"step": {"epochs": 4, "balance": 0.5}, "seed": 6}, "seed=5, step.balance=null", "seed=6, step.balance=0.5"),
    ],
)
def test_the_state_of_another_plan_is_refused_with_what_differs(saved, now, was, wanted):
    with pytest.raises(UsageError) as error:
        checkpoints(saved, now).load(fresh_state(), no_word)
    assert (error.value.found, error.value.expected, error.value.exit_code) == (was, wanted, 2)


def test_many_differences_are_counted(saved):
    with pytest.raises(UsageError) as error:
        checkpoints(saved, {**IDENTITY, "train": {f"c{n}": "a" for n in range(14)}}).load(fresh_state(), no_word)
    assert error.value.found.startswith("train.c0=null, ") and error.value.found.endswith("train.c5=null and 4 more")


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_s01_pickled_code_in_a_state_is_refused_and_not_run(tmp_path, suffix):
    """With the digest of the tensors made right again, as whoever can write there may do."""
    canary = tmp_path / "canary"
    for name, content in canary_files(canary).items():
        checkpoints(tmp_path).save(fresh_state())
        (record,) = tmp_path.glob("state-*.json")
        tensors, written = record.with_suffix(".safetensors"), json.loads(record.read_text())
        record.with_suffix(suffix).write_bytes(content)
        if suffix == ".safetensors":
            written["sha256"]["tensors"] = sha256_of(tensors)
            record.write_text(json.dumps(written))
        with pytest.raises(RunError, match="state-"):
            checkpoints(tmp_path).load(fresh_state(), no_word)
        assert not canary.exists(), name
