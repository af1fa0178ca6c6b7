"""A step around its loop: in which order things happen, and what is said of a run that has ended."""

import signal
from types import SimpleNamespace

import pytest
import torch

from flarenet.errors import PlanError, RunError, UsageError
from flarenet.inference.models.about import is_finished
from flarenet.inference.models.model import load_weights
from flarenet.planning.plan import Update
from flarenet.planning.runs import Run
from flarenet.planning.split import Splits
from flarenet.schema import save
from flarenet.trainers import Trainer3DOrgan, trainer
from flarenet.trainers.own import find_trainer
from flarenet.trainers.trainer import compiling, summary_of
from flarenet.training.callbacks import Findings
from flarenet.training.loop import fit
from flarenet.workspace import Workspace
from tests.inference.test_predict import plan_for
from tests.training.tiny import STEP, fresh_state, training_setup


class Mine(Trainer3DOrgan):
    name = "Own"


@pytest.mark.parametrize(
    ("chosen", "run", "typed"),
    [
        (Mine, Run("Own", 1), f"{__name__}:Mine"),
        (Mine, Run("3DOrgan", 1), "3DOrgan"),
        (Trainer3DOrgan, Run("3DOrgan", 1), "3DOrgan"),
    ],
)
def test_a_run_that_is_missing_is_named_by_a_command_that_makes_it(tmp_path, chosen, run, typed):
    one, step = trainer_of(tmp_path, kind=chosen)
    with pytest.raises(RunError) as caught:
        one.teachers(step.model_copy(update={"teachers": {"organ": run}}))
    assert caught.value.remedy == f"flarenet_train {typed} --step 1 -d Toy --root {tmp_path}"
    assert Run(find_trainer(typed).name, 1) == run


def test_states_are_removed_when_every_process_has_read_them(tmp_path, monkeypatch):
    """Also of a run that was ended between its last state and its model, and so has nothing left to train."""
    one, _ = trainer_of(tmp_path)
    seen, folder = [], tmp_path / "run"
    run = training_setup(folder)
    fit(fresh_state(), run)
    monkeypatch.setattr(trainer, "wait_for_all", lambda: seen.append(len(list(folder.glob("state-*.json")))))
    monkeypatch.setattr(one, "_state", lambda *_: fresh_state())
    monkeypatch.setattr(one, "_setup", lambda *_, **__: run)
    one.train(1)
    first, last = seen  # the other processes read the state before the first of these
    assert first > 0 == last and is_finished(folder)


def test_a_run_that_goes_on_says_so_and_which_version_is_another(tmp_path, monkeypatch):
    said, (one, _) = [], trainer_of(tmp_path)
    monkeypatch.setattr(one, "_say", said.append)
    state, run = SimpleNamespace(epoch=3, index=7), SimpleNamespace(title="3DOrgan step 1", folder=None)
    for other in ("", "torch 1.13.1 (now 2.13.0)"):
        monkeypatch.setattr(trainer, "other_versions", lambda folder, other=other: other)
        one._tell_resumed(state, run, finish=False)
    one._tell_resumed(state, run, finish=True)
    resumes, again, note, ends = said
    assert resumes == again == "3DOrgan step 1: resumes after epoch 3, batch 7"
    assert note.startswith("note: until there it was trained with torch 1.13.1 (now 2.13.0)")
    assert ends == "3DOrgan step 1: ends after epoch 3, batch 7"


def test_a_batch_of_fewer_rows_than_processes_is_refused_before_any_step(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "processes", lambda: 4)
    steps = tuple(STEP.model_copy(update={"batch_size": size}) for size in (1, 4, 2))
    one, _ = trainer_of(tmp_path, steps=steps)
    finished = Workspace(tmp_path, "Toy").run("Threshold", 1)  # however many rows it had
    finished.mkdir(parents=True)
    (finished / "about.json").touch()
    with pytest.raises(PlanError, match="at least one sample for each of 4 processes") as caught:
        one.train()
    assert caught.value.thing == "trainers.Threshold.steps.2.batch_size" and caught.value.found == "2"
    assert "--set trainers.Threshold.steps.2.batch_size=4, " in caught.value.remedy
    assert caught.value.remedy.endswith("or no more processes than 2")


def test_the_numbers_of_a_run_are_those_of_the_epoch_that_is_kept(tmp_path):
    dice = iter([0.2, 0.7, 0.5, 0.6])
    state, step = fresh_state(), STEP.model_copy(update={"selection": "best dice"})
    fit(state, training_setup(tmp_path, validate=lambda *_: Findings(dice={"organ": next(dice)}), step=step))
    said = summary_of(state)
    assert (said["epochs"], said["kept_epoch"], said["dice organ"]) == (4, 2, 0.7)
    assert "batches" not in said
    assert said["loss"] == round(state.history[1].losses["loss"], 4) != round(state.history[3].losses["loss"], 4)
    state.index, state.seconds = 2, 100.0
    assert summary_of(state)["batches"] == 2
    assert summary_of(state)["seconds"] == pytest.approx(said["seconds"] + 100.0, abs=0.11)


def test_pseudo_labels_come_from_torch_in_the_precision_of_the_run_whatever_engine_is_installed(tmp_path, monkeypatch):
    """What OpenVINO says may differ, and the models of two machines would with it."""
    opened = []

    def predictor(model, **words):
        opened.append((model, words))
        return SimpleNamespace()

    monkeypatch.setattr(trainer, "Predictor", predictor)
    monkeypatch.setattr(trainer, "Teachers", lambda predictors, *_: predictors)
    one, step = trainer_of(tmp_path)
    monkeypatch.setattr(one, "_foundations", lambda runs: {run: SimpleNamespace(folder=run) for run in runs})
    other = Run("Other", 1)
    assert list(one.teachers(step.model_copy(update={"teachers": {"organ": other}}))) == [other]
    assert opened == [(other, {"engine": "torch", "device": "cpu", "precision": "fp32"})]


class Threshold(Trainer3DOrgan):
    name = "Threshold"


def trainer_of(root, *, kind=Threshold, dimensions=2, **changes):
    """A trainer of a small U-Net, its part of the plan changed."""
    plan, workspace = plan_for(("organ", "cancer"), dimensions, (32,) * dimensions), Workspace(root, "Toy")
    save(Splits(folds=((), ())), workspace.splits)
    part = plan.trainers["Threshold"].model_copy(update=changes)
    plan = plan.model_copy(update={"trainers": {kind.name: part}})
    return kind(plan, workspace, device="cpu", precision="fp32"), part.steps[0]


def test_a_script_that_trains_goes_on_with_its_own_random_numbers(tmp_path, monkeypatch):
    one, step = trainer_of(tmp_path)
    monkeypatch.setattr(one, "_train_step", lambda number, finish: one._state(step, {}))  # which seeds torch
    torch.manual_seed(7)
    expected = torch.rand(2, 3)[1]
    torch.manual_seed(7)
    torch.rand(3)
    one.train(1)
    assert torch.equal(torch.rand(3), expected)


def test_a_request_to_save_between_two_steps_ends_nothing(tmp_path, monkeypatch):
    done, (one, _) = [], trainer_of(tmp_path, steps=(STEP, STEP))

    def step(number, finish):
        signal.raise_signal(signal.SIGUSR1)
        done.append(number)

    monkeypatch.setattr(one, "_train_step", step)
    one.train()
    assert done == [1, 2] and signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_the_model_of_a_run_has_the_weights_of_its_best_epoch(tmp_path):
    dice, weights = iter([0.2, 0.7, 0.5, 0.6]), []

    def validate(network, stopped):
        weights.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return Findings(dice={"organ": next(dice)})

    one, _ = trainer_of(tmp_path)
    state, step = fresh_state(), STEP.model_copy(update={"selection": "best dice"})
    run = training_setup(tmp_path / "run", validate=validate, step=step)
    fit(state, run)
    one._save(state, run, number=1, foundations={})
    saved, (_, best, _, last) = load_weights(tmp_path / "run"), weights
    assert saved.keys() == best.keys() and all(torch.equal(saved[name], best[name]) for name in best)
    assert not any(torch.equal(last[name], best[name]) for name in best)


def test_weight_decay_and_the_average_of_the_weights_are_those_of_the_plan(tmp_path):
    one, step = trainer_of(tmp_path, weight_decay=0.02, update=Update(ema=0.9))
    state = one._state(step, {})
    assert [group["weight_decay"] for group in state.optimizer.param_groups] == [0.02]
    assert state.eval_network is state.average is not state.network
    plain, step = trainer_of(tmp_path)
    state = plain._state(step, {})
    assert state.average is None and state.eval_network is state.network


def test_where_torch_cannot_compile_the_flag_is_named_and_other_errors_stay():
    def without_compiler(graph, inputs):
        raise FileNotFoundError("no g++\nlooked for in /usr/bin")

    doubled = torch.compile(lambda x: 2 * x, backend=without_compiler)
    with pytest.raises(UsageError, match="leave --compile out") as caught, compiling():
        doubled(torch.zeros(1))
    assert caught.value.found == "torch cannot compile the network: FileNotFoundError: no g++"
    with pytest.raises(RuntimeError, match="shapes"), compiling():
        torch.zeros(2, 3) @ torch.zeros(2, 3)
