"""Folds through the commands: who is held out, where runs lie, and that nothing held out is learned from."""

import json
import shutil

import pytest
import torch

from flarenet.cli import train
from flarenet.errors import RunError
from flarenet.inference.models.about import read_about
from flarenet.inference.models.found import models_in
from flarenet.inference.models.model import load_model, load_weights
from flarenet.planning.planned import load_planned
from flarenet.planning.runs import Run
from flarenet.planning.split import Splits, load_splits
from flarenet.schema import save
from flarenet.trainers import Trainer3DOrgan
from flarenet.training.loader import Loader
from tests.trainers.tiny import planned

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("root"), cases=10)


def run(workspace, *words):
    return train.main([*words, "--root", str(workspace.root), "--device", "cpu", "--epochs", "1"])


@pytest.fixture(scope="module")
def trained(workspace):
    for fold in ("0", "1", "all"):
        assert run(workspace, "3DOrgan", "--fold", fold) == 0
    return workspace


def test_what_a_fold_holds_out_is_not_seen(trained):
    splits = load_splits(trained.splits)
    seen = {fold: set(read_about(trained.run("3DOrgan", 1, fold)).seen) for fold in (0, 1, "all")}
    for fold in (0, 1):
        assert seen[fold] == seen["all"] - splits.held_out(fold) < seen["all"]


def test_fold_0_is_the_default_and_has_no_folder_of_its_own(trained, capsys):
    assert run(trained, "3DOrgan") == 0
    assert "finished before" in capsys.readouterr().err
    folders = sorted(p.parent.relative_to(trained.runs).as_posix() for p in trained.runs.rglob("about.json"))
    assert folders == ["3DOrgan/fold_1/step_1", "3DOrgan/fold_all/step_1", "3DOrgan/step_1"]


def test_epochs_is_a_flag_and_part_of_the_plan_that_is_kept(trained):
    part = load_model(trained.run("3DOrgan", 1)).plan.trainer("3DOrgan")
    assert [step.epochs for step in part.steps] == [1]


def test_a_fold_needs_the_teachers_of_the_same_fold(trained, capsys):
    assert run(trained, "3DCancer", "--fold", "0") == 0
    assert run(trained, "DualDecoder2D", "--fold", "1", "--step", "1") == 4
    assert f"flarenet_train 3DCancer --step 1 -d P --root {trained.root} --fold 1" in capsys.readouterr().err


def test_a_teacher_that_knows_the_held_out_cases_is_refused(trained, capsys):
    kept = trained.splits.read_text()
    folds = json.loads(kept)["folds"]
    trained.splits.write_text(json.dumps({"folds": folds[::-1]}))
    try:
        assert run(trained, "DualDecoder2D", "--step", "1") == 4
    finally:
        trained.splits.write_text(kept)
    assert "learned from cases that are held out here" in capsys.readouterr().err


def test_a_step_holds_out_what_its_fold_names_when_it_begins(trained):
    """Cases may be added, and dealt to folds, after the trainer is made and while an earlier step trains."""
    plan, kept = load_planned(trained), trained.splits.read_text()
    one, (first, second) = Trainer3DOrgan(plan, trained, device="cpu"), load_splits(trained.splits).folds
    save(Splits(folds=(second, first)), trained.splits)
    try:
        with Loader(0) as loader:
            setup = one._setup(plan.step("3DOrgan", 1), 1, loader=loader, foundations={})
        with pytest.raises(RunError, match="learned from cases that are held out here"):
            one._foundations([Run("3DOrgan", 1)])
    finally:
        trained.splits.write_text(kept)
    learned = {sample.name for sample in setup.batches.samples}
    assert learned.isdisjoint(second) and not learned.isdisjoint(first)


def test_names_that_no_case_has_are_told_and_a_fold_of_no_other_is_refused(trained, capsys):
    kept = trained.splits.read_text()
    first, second = json.loads(kept)["folds"]
    try:
        trained.splits.write_text(json.dumps({"folds": [first, ["nobody"]]}))
        assert run(trained, "3DCancer", "--fold", "1", "--step", "1") == 4
        assert "none of the data set's, but nobody" in capsys.readouterr().err
        trained.splits.write_text(json.dumps({"folds": [first, ["nobody", *second]]}))
        assert run(trained, "3DCancer", "--fold", "1", "--step", "1") == 0
        assert "no cases of the data set: nobody" in capsys.readouterr().err
    finally:
        trained.splits.write_text(kept)


def test_the_steps_of_a_run_hand_on_what_they_have_seen(trained):
    assert run(trained, "DualDecoder2D", "--step", "1") == 0
    assert run(trained, "DualDecoder2D", "--step", "2") == 0
    first, second = (read_about(trained.run("DualDecoder2D", step)).seen for step in (1, 2))
    assert set(read_about(trained.run("3DOrgan", 1)).seen) <= set(first) <= set(second)
    assert not set(second) & load_splits(trained.splits).held_out(0)


def test_a_further_step_trains_a_finished_network_for_more_epochs(trained, capsys):
    """Added by hand as docs/resume.md says; it learns so little that the weights stay near those it starts from."""
    kept = trained.plan.read_text()
    plan, first = json.loads(kept), trained.run("3DOrgan", 1, 1)
    [step] = plan["trainers"]["3DOrgan"]["steps"]
    plan["trainers"]["3DOrgan"]["steps"].append({**step, "starts_from": "3DOrgan/1", "learning_rate": 1e-6})
    trained.plan.write_text(json.dumps(plan))
    further = trained.run("3DOrgan", 2, 1)
    try:
        assert run(trained, "3DOrgan", "--fold", "1") == 0
        before, after = load_weights(first), load_weights(further)
        assert models_in(further.parent) == [further]  # by which its trainer is said to predict
    finally:
        trained.plan.write_text(kept)
        shutil.rmtree(further, ignore_errors=True)
    said = capsys.readouterr().err
    assert said.count("skipped") == 1 and "warning" not in said
    assert before.keys() == after.keys() and not all(torch.equal(before[name], after[name]) for name in before)
    # an update of AdamW moves no weight by more than about the learning rate, and there were two
    assert all(torch.allclose(before[name], after[name], rtol=0, atol=1e-5) for name in before)


def test_a_fold_that_is_not_there(workspace, capsys):
    assert run(workspace, "3DOrgan", "--fold", "5") == 2
    assert "fold 5" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--fold", "one"], ["--epochs", "0"]])
def test_words_that_are_no_numbers_of_theirs(workspace, capsys, words):
    with pytest.raises(SystemExit, match="2"):
        run(workspace, "3DOrgan", *words)
    assert repr(words[1]) in capsys.readouterr().err
