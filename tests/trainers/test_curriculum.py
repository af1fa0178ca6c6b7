"""The whole cascade on a tiny phantom set, by the commands, with networks that learn nothing worth having."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flarenet.cli import train
from flarenet.data.store import Store
from flarenet.errors import RunError
from flarenet.inference.models.about import read_about
from flarenet.inference.models.model import load_model, load_weights
from flarenet.inference.predict import Predictor
from flarenet.planning.plan_file import load_plan
from flarenet.schema import load, save
from flarenet.trainers import TRAINERS
from flarenet.trainers import trainer as segmentation
from flarenet.training.callbacks import EpochDone
from flarenet.training.checkpoints import Checkpoints
from flarenet.training.run_file import RunFile
from flarenet.whole import FAILPOINT, sha256_of
from flarenet.workspace import Workspace
from tests.trainers.tiny import AUTOENCODER, planned
from tests.trainers.together import train_and_finish
from tests.training.together import end, start

EXACT = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def trained(workspace):
    words = ["-d", "P", "--root", str(workspace.root), *EXACT]
    for trainer in ("3DOrgan", "3DCancer", "DualDecoder2D"):
        assert train.main([trainer, *words]) == 0
    assert train.main(["MAE", *words, "--set", *AUTOENCODER]) == 0
    return workspace


def run(capsys, workspace, *words):
    code = train.main([*words, "--root", str(workspace.root)])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(("words", "missing"), [([], "3DOrgan --step 1"), (["--step", "3"], "DualDecoder2D --step 2")])
def test_a_missing_run_is_named_with_the_command_to_type(workspace, capsys, words, missing):
    if (workspace.run("3DOrgan", 1) / "about.json").exists():
        pytest.skip("they are trained already: run this file from its start")
    code, said = run(capsys, workspace, "DualDecoder2D", *words)
    assert code == 4
    assert f"flarenet_train {missing} -d P" in said
    assert not (workspace.runs / "DualDecoder2D").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["DualDecoder"], "did you mean 'DualDecoder2D'"),
        (["nowhere:Mine"], "No module named 'nowhere'"),
        (["3DOrgan", "-d", "Q"], "expected: P"),
        (["3DOrgan", "--step", "9"], "expected: 1, its only one"),
        (["3DOrgan", "--step", "0"], "expected: 1, its only one"),
        (["3DOrgan", "--finish"], "found: no --step"),
        (["3DOrgan", "--set", "trainers.3DOrgan.stps=1"], "did you mean 'steps'"),
    ],
)
def test_names_that_name_nothing(workspace, capsys, words, named):
    code, said = run(capsys, workspace, *words)
    assert code == 2
    assert named in said and "Traceback" not in said


def test_a_step_that_another_run_trains_is_left_alone(workspace, capsys, monkeypatch):
    monkeypatch.setattr("flarenet.lock._PATIENCE_S", 0.05)
    folder = workspace.run("3DOrgan", 1, fold=1)
    folder.mkdir(parents=True)
    (folder / ".lock").write_text("4711\nanother-host\n")
    code, said = run(capsys, workspace, "3DOrgan", "--fold", "1", "--device", "cpu")
    assert code == 6 and "process 4711 on another-host" in said
    assert [path.name for path in folder.iterdir()] == [".lock"]
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize(("step", "learns"), [(3, "decoders.organ."), (4, "decoders.cancer.")])
def test_the_last_steps_change_one_decoder_and_nothing_else(trained, step, learns):
    before = load_weights(trained.run("DualDecoder2D", step - 1))
    after = load_weights(trained.run("DualDecoder2D", step))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith(learns) for name in changed)
    assert any(name.endswith("conv.weight") for name in changed)


def test_finished_steps_are_skipped(trained, capsys):
    files = sorted(trained.runs.rglob("weights.safetensors"))
    assert len(files) == 7
    before = [path.stat().st_mtime_ns for path in files]
    code, said = run(capsys, trained, "DualDecoder2D")
    assert code == 0 and said.count("skipped") == 4 and "warning" not in said
    assert [path.stat().st_mtime_ns for path in files] == before


def test_a_run_tells_what_it_was_made_from(trained):
    runs = ("3DOrgan", "3DCancer", "DualDecoder2D")
    told = {name: load(RunFile, trained.run(name, 1) / "run.json", RunError).sha256 for name in runs}
    for name, sha256 in told.items():
        assert sha256["plan"] == sha256_of(trained.run(name, 1) / "plan.json")
        assert sha256["dataset"] == sha256_of(trained.settled)
    assert len({sha256["cases"] for sha256 in told.values()}) == 3  # each learns from others, or from more of them
    assert told["DualDecoder2D"]["3DOrgan/1"] == sha256_of(trained.run("3DOrgan", 1) / "weights.safetensors")


def test_what_was_trained_by_another_plan_is_named_where_it_is_skipped(trained, capsys):
    code, said = run(capsys, trained, "DualDecoder2D", "--epochs", "3")
    warnings = [line for line in said.splitlines() if "warning" in line]
    assert code == 0 and said.count("skipped") == len(warnings) == 4
    wanted = "DualDecoder2D step 1 was trained by a different plan: step.epochs=2, now step.epochs=3; remove "
    assert wanted + str(trained.run("DualDecoder2D", 1)) in warnings[0]


def test_a_finished_step_whose_teacher_was_trained_again_is_named(trained, capsys):
    folder = trained.run("DualDecoder2D", 1)
    kept = load(RunFile, folder / "run.json", RunError)
    save(kept.model_copy(update={"sha256": {**kept.sha256, "3DOrgan/1": "0" * 64}}), folder / "run.json")
    code, said = run(capsys, trained, "DualDecoder2D")
    save(kept, folder / "run.json")
    assert code == 0 and said.count("skipped") == 4
    [warning] = [line for line in said.splitlines() if "warning" in line]
    assert f"step 1 was trained from an earlier 3DOrgan/1; remove {folder} to train it again" in warning


@pytest.fixture
def without_last(trained, tmp_path):
    """The workspace as it was before the last step; what that left comes back."""
    folder = trained.run("DualDecoder2D", 4)
    folder.rename(tmp_path / "kept")
    yield trained
    shutil.rmtree(folder, ignore_errors=True)
    (tmp_path / "kept").rename(folder)


def test_a_step_that_starts_from_another_network_says_what_to_do(without_last, capsys):
    features = "trainers.DualDecoder2D.network.features=[4,4,8,8,12,4]"
    code, said = run(capsys, without_last, "DualDecoder2D", "--step", "4", "--device", "cpu", "--set", features)
    assert code == 4 and "DualDecoder2D/step_3/weights.safetensors" in said and "the same --set" in said
    assert "warning: DualDecoder2D step 3 was trained by a different plan: trainer.network.features=" in said


def test_a_run_of_another_label_table_is_not_built_on(without_last):
    asked = load_plan(without_last.plan)
    first, second, *others = asked.labels.names[1:]
    names = ("background", second, first, *others)
    other = asked.model_copy(update={"labels": asked.labels.model_copy(update={"names": names})})
    with pytest.raises(RunError) as caught:
        TRAINERS["DualDecoder2D"](other, without_last, device="cpu").train(4)
    assert f"label 1 {first!r}" in caught.value.found and f"label 1 {second!r}" in caught.value.expected
    assert caught.value.remedy.endswith(f"flarenet_train DualDecoder2D --step 3 -d P --root {without_last.root}")


def test_a_run_that_was_broken_off_ends_early_with_a_model(without_last, capsys):
    def stop(event):
        if isinstance(event, EpochDone):
            raise OSError("the disk is full")

    folder = without_last.run("DualDecoder2D", 4)
    words = ["DualDecoder2D", "--step", "4", "--finish", "--device", "cpu"]
    code, said = run(capsys, without_last, *words)
    assert code == 4 and "no state of a finished epoch" in said and not (folder / "about.json").exists()
    with pytest.raises(OSError, match="the disk is full"):
        TRAINERS["DualDecoder2D"](load_plan(without_last.plan), without_last, device="cpu", callbacks=[stop]).train(4)
    other = ("--set", "trainers.DualDecoder2D.steps.3.learning_rate=0.5")
    code, said = run(capsys, without_last, "DualDecoder2D", "--step", "4", "--device", "cpu", *other)
    assert code == 2 and "the state of another run" in said and "step.learning_rate=0.5" in said
    code, said = run(capsys, without_last, *words)
    assert code == 0 and "ends after epoch 1, batch 0" in said
    model, summary = load_model(folder), read_about(folder).summary
    assert model.plan.step("DualDecoder2D", 4).epochs == 2 and (summary["epochs"], summary["kept_epoch"]) == (1, 1)
    assert not list(folder.glob("state*")) and len((folder / "log.jsonl").read_text().splitlines()) == 1
    assert [each.end for each in load(RunFile, folder / "run.json", RunError).processes] == ["OSError", "done"]


def test_pseudo_labels_leave_what_was_drawn(trained):
    drawn = trained.store("2d")
    completed = next((trained.root / "pseudo" / "P").glob("completed-2d-*")) / "maps"
    names = Store(completed).names()
    assert names == Store(drawn).names() and len(names) == 6
    compared = 0
    for name in names:
        by_hand, filled = Store(drawn).read(name), Store(completed).read(name)
        assert filled.record.annotated == tuple(range(1, 15))
        for group in by_hand.maps:
            before, after = np.asarray(by_hand.maps[group]), np.asarray(filled.maps[group])
            kept = before > 0
            assert np.array_equal(after[kept], before[kept])
            compared += int(kept.sum())
    assert compared > 1000


def test_every_run_left_a_line_and_a_point_for_each_epoch(trained):
    for number in (1, 2, 3, 4):
        folder = trained.run("DualDecoder2D", number)
        assert len((folder / "log.jsonl").read_text().splitlines()) == 2
        assert (folder / "progress.png").stat().st_size > 1000
        assert not list(folder.glob("state*"))


def test_torchrun_gives_the_losses_of_one_process(trained, tmp_path):
    other = Workspace(tmp_path / "root", "P")
    shutil.copytree(trained.root, other.root)
    shutil.rmtree(other.root / "pseudo")
    shutil.rmtree(other.run("DualDecoder2D", 1))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["-m", "flarenet.cli.train", "DualDecoder2D", "--step", "1", "--root", str(other.root), *EXACT]
    done = subprocess.run([*torchrun, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cases to train on") == 1  # one process speaks
    folders = [workspace.run("DualDecoder2D", 1) for workspace in (trained, other)]
    one, both = ([json.loads(line) for line in (f / "log.jsonl").read_text().splitlines()] for f in folders)
    assert len(one) == len(both) == 2
    for alone, shared in zip(one, both):
        assert shared["losses"] == pytest.approx(alone["losses"], rel=1e-3)
        assert shared["labels"] == pytest.approx(alone["labels"], abs=1e-3)
    alone, shared = (sorted(path.name for path in folder.iterdir()) for folder in folders)
    assert shared == alone


def files(root):
    return sorted(path.relative_to(root) for path in root.rglob("*"))


def test_two_processes_train_and_finish_of_which_the_first_alone_writes(workspace, tmp_path):
    first, other, shared = (Workspace(tmp_path / name, "P") for name in ("first", "first-second", "shared"))
    for each in (first, other, shared):
        shutil.copytree(workspace.root, each.root, ignore=shutil.ignore_patterns("runs", "pseudo"))
    before = files(other.root)
    for code, said in end(start(first.root, train_and_finish, shared=shared.root)):
        assert code == 0, said
    assert files(other.root) == before
    whole, ended = (each.run("3DOrgan", 1) for each in (first, shared))
    assert read_about(whole).summary["epochs"] == 2
    summary = read_about(ended).summary
    assert (summary["epochs"], summary["batches"]) == (1, 1)
    assert load_weights(ended).keys() == load_weights(whole).keys() and not list(ended.glob("state*"))


def test_sigterm_before_the_first_batch_or_after_the_last_loses_nothing(trained, tmp_path, monkeypatch, capsys):
    """While cases are read, teachers asked, and the model saved: no handler of the loop notes it then."""
    other = Workspace(tmp_path / "root", "P")
    shutil.copytree(trained.root, other.root, ignore=shutil.ignore_patterns("pseudo", "DualDecoder2D"))
    words = ("DualDecoder2D", "--step", "1", *EXACT)
    for place in ((segmentation, "read_samples"), (Predictor, "predict_views"), (segmentation, "save_model")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, lambda *_, **__: signal.raise_signal(signal.SIGTERM))
            code, said = run(capsys, other, *words)
        assert code == 75 and "ended by SIGTERM; the same command resumes from here" in said, place
        assert not list(other.root.rglob(".lock")) and not (other.run("DualDecoder2D", 1) / "about.json").exists()
    assert run(capsys, other, *words)[0] == 0
    whole, ended = (each.run("DualDecoder2D", 1) / "weights.safetensors" for each in (trained, other))
    assert ended.read_bytes() == whole.read_bytes()


def test_a_killed_command_that_is_typed_again_leaves_the_weights_of_an_unbroken_one(trained, tmp_path, capsys):
    """By kill -9 after the first of two epochs, while two loader processes make the batches of the second."""
    other = Workspace(tmp_path / "root", "P")
    shutil.copytree(trained.root, other.root)
    whole, folder = (each.run("DualDecoder2D", 1) for each in (trained, other))
    shutil.rmtree(folder)
    words = ["DualDecoder2D", "--step", "1", *EXACT, "--workers", "2"]
    line = [sys.executable, "-m", "flarenet.cli.train", *words, "--root", str(other.root)]
    at = {FAILPOINT: "state-00001-00000.json:replaced"}
    killed = subprocess.run(line, env={**os.environ, **at}, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (folder / ".lock").exists() and not (folder / "about.json").exists()
    code, said = run(capsys, other, *words)
    assert code == 0 and "resumes after epoch 1, batch 0" in said and "note" not in said
    assert [each.end for each in load(RunFile, folder / "run.json", RunError).processes] == ["killed", "done"]
    assert (folder / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(trained, tmp_path, capsys):
    folder = trained.run("3DCancer", 1)
    first = (folder / "weights.safetensors").read_bytes()
    folder.rename(tmp_path / "kept")
    code, _ = run(capsys, trained, "3DCancer", *EXACT, "--workers", "2")
    assert code == 0
    assert (folder / "weights.safetensors").read_bytes() == first


def test_a_compiled_network_leaves_weights_by_the_same_names(trained, tmp_path, capsys, monkeypatch):
    compile_ = torch.nn.Module.compile
    asked = []

    def traced(network):  # without the minutes of a C++ compiler
        asked.append(network)
        compile_(network, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    folder = trained.run("3DCancer", 1)
    before = load_weights(folder)
    folder.rename(tmp_path / "plain")
    code, _ = run(capsys, trained, "3DCancer", "--device", "cpu", "--compile")
    after = load_weights(folder)
    assert code == 0 and len(asked) == 1
    assert {name: tensor.shape for name, tensor in before.items()} == {name: t.shape for name, t in after.items()}


def test_update_and_precision_reach_the_loop(workspace, monkeypatch):
    """Seen in the last state of a run, which is kept here, and in the sizes of what the network is given."""
    given, judge = set(), segmentation.segmentation_objective

    def noting(network, batch, groups, **words):
        given.add((network.training, len(batch.names)))
        return judge(network, batch, groups, **words)

    monkeypatch.setattr(segmentation, "segmentation_objective", noting)
    monkeypatch.setattr(Checkpoints, "remove", lambda self: None)
    changes = ["update.ema=0.9", "update.accumulate=2", "update.clip_norm=1e-3"]
    changes += ["steps.0.epochs=1", "steps.0.batches_per_epoch=1", "steps.0.selection=last"]  # a CPU is slow in float16
    words = ["3DOrgan", "--fold", "1", "--root", str(workspace.root), "--device", "cpu", "--precision", "fp16"]
    assert train.main([*words, "--set", *(f"trainers.3DOrgan.{change}" for change in changes)]) == 0
    assert given == {(True, 1), (False, 1)}  # of batches of two
    state = workspace.run("3DOrgan", 1, 1) / "state-00001-00000"
    assert json.loads(state.with_suffix(".json").read_text())["record"]["scaler"]["scale"] > 1
    tensors = load_file(state.with_suffix(".safetensors"))
    learned = [name.removeprefix("average.") for name in tensors if name.startswith("average.")]
    assert any(not torch.equal(tensors[f"average.{name}"], tensors[f"network.{name}"]) for name in learned)
    mean = torch.cat([tensor.flatten() for name, tensor in tensors.items() if name.endswith(".exp_avg")])
    assert 0 < mean.norm() <= 1e-3  # of gradients that were cut to this length


def test_without_a_trainer_those_that_planning_advises_are_trained(workspace, capsys):
    small = "trainers.Joint.network.features=[4,4,8,8,8,4]"
    assert run(capsys, workspace, *EXACT, "--epochs", "1", "--set", small)[0] == 0
    assert read_about(workspace.run("Joint", 1)).trainer == "Joint"
    assert len((workspace.run("Joint", 1) / "log.jsonl").read_text().splitlines()) == 1


def test_where_several_trainers_are_advised_step_and_epochs_need_a_name(workspace, capsys, tmp_path):
    without_joint = Workspace(tmp_path, workspace.dataset)
    shutil.copytree(workspace.prepared, without_joint.prepared)
    plan = json.loads(without_joint.plan.read_text())
    del plan["trainers"]["Joint"]
    without_joint.plan.write_text(json.dumps(plan))
    for word in ("--step", "--epochs"):
        code, said = run(capsys, without_joint, word, "1")
        assert code == 2 and f"{word}\n  found: no trainer" in said
