"""flarenet_compare on model folders of random weights: who is compared, on which cases, and who is best."""

import json
import os
import shlex
import shutil
from types import SimpleNamespace

import pytest
import torch

from flarenet.choice.candidates import find_candidates, unseen
from flarenet.choice.scores import scans_as_read, score
from flarenet.cli import compare
from flarenet.data.nifti import read_labels, write_labels
from flarenet.data.settled import load_settled
from flarenet.errors import RunError
from flarenet.inference.models.model import save_model
from flarenet.lock import locked
from flarenet.networks import build
from flarenet.planning.plan_file import load_plan, override
from flarenet.planning.split import load_splits
from flarenet.schema import save
from flarenet.trainers import TrainerMAE
from flarenet.trainers.planner import with_trainer
from flarenet.workspace import Workspace
from tests.trainers import tiny

pytestmark = pytest.mark.usefixtures("torch_alone")


def finish(workspace, trainer, step, fold, *, seen=None, seed=0, made=None):
    """A finished run of random weights, which has seen all that its fold does not hold out, or as `seen` says."""
    made = made or load_plan(workspace.plan)
    torch.manual_seed(seed)
    part = made.trainer(trainer)
    network = build(part.network, made.labels.outputs, made.configuration_of(trainer).patch)
    if seen is None:
        names = {case.name for case in load_settled(workspace.settled).cases}
        seen = names - load_splits(workspace.splits).held_out(fold)
    folder = workspace.run(trainer, step, fold)
    save_model(folder, network, plan=made, trainer=trainer, step=step, seen=seen, summary={})
    return folder


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    return tiny.planned(tmp_path_factory.mktemp("root"))


@pytest.fixture
def workspace(planned):
    yield planned
    for folder in (planned.runs, planned.compare):
        shutil.rmtree(folder, ignore_errors=True)


def run(workspace, capsys, *words):
    code = compare.main(["--root", str(workspace.root), "--device", "cpu", *words])
    said = capsys.readouterr()
    return code, said.out + said.err


def rows(workspace):
    return {row["name"]: row for row in json.loads((workspace.compare / "compare.json").read_text())["rows"]}


def test_without_a_run_the_command_that_makes_one_is_named(workspace, capsys):
    code, said = run(workspace, capsys)
    assert code == 4 and "flarenet_train -d P" in said and " --fold 0" in said
    with_mae = with_trainer(load_plan(workspace.plan), TrainerMAE, workspace, changes=tiny.AUTOENCODER)
    finish(workspace, "MAE", 1, 0, made=with_mae)  # does not segment
    finish(workspace, "3DOrgan", 1, "all")  # holds nothing out
    assert run(workspace, capsys)[0] == 4


def test_a_comparison_beside_another_one_is_refused(workspace, capsys):
    with locked(workspace.compare):
        code, said = run(workspace, capsys)
    assert code == 6 and f"in use by process {os.getpid()}" in said


def test_steps_trainers_and_ensembles_on_the_same_cases_and_the_best_by_name(workspace, capsys):
    for trainer, step in (("3DOrgan", 1), ("3DCancer", 1), ("DualDecoder2D", 1), ("DualDecoder2D", 2)):
        finish(workspace, trainer, step, 0)
    finish(workspace, "3DOrgan", 1, 1)  # the others have no fold 1: not compared on it
    copy_the_truth(workspace, "DualDecoder2D/1", 0)
    code, said = run(workspace, capsys)
    assert code == 0, said
    found = json.loads((workspace.compare / "compare.json").read_text())
    held_out = load_splits(workspace.splits).held_out(0)
    assert set(found["cases"]) == {"0"} and set(found["cases"]["0"]) == held_out
    assert "held out by fold 0; DSC, NSD" in said and "scoring 3DOrgan/1, fold 0 " in said
    assert found["best"] == "DualDecoder2D/1" and "best: DualDecoder2D/1" in said
    assert f"-m {workspace.run('DualDecoder2D', 1)}" in said
    made = rows(workspace)
    assert made["DualDecoder2D/1"]["mean"] == {"dsc": 1.0, "nsd": 1.0}
    # of each trainer its best step goes into the ensembles: two by two, then all
    best = ("3DCancer/1", "3DOrgan/1", "DualDecoder2D/1")
    pairs = [f"{a} + {b}" for a, b in ((best[0], best[1]), (best[0], best[2]), (best[1], best[2]))]
    assert set(made) == {*best, "DualDecoder2D/2", *pairs, " + ".join(best)}
    # a model of one group has no mean over all; two that answer a group each have
    assert made["3DOrgan/1"]["mean"]["dsc"] is None and set(made["3DOrgan/1"]["groups"]) == {"organ"}
    assert made["3DCancer/1 + 3DOrgan/1"]["mean"]["dsc"] is not None
    assert len(made["3DCancer/1 + 3DOrgan/1"]["models"]) == 2


def copy_the_truth(workspace, name, fold):
    """As if a candidate had predicted exactly what was drawn."""
    labels, splits = load_plan(workspace.plan).labels, load_splits(workspace.splits)
    candidate = next(one for one in find_candidates(workspace, [fold], labels)[0] if one.name == name)
    cases = [case for case in load_settled(workspace.settled).cases if case.name in splits.held_out(fold)]
    scans = scans_as_read(cases)
    score(candidate, fold, [], scans=scans, workspace=workspace, labels=labels, device="cpu")
    (folder,) = (workspace.compare / name.replace("/", "-")).iterdir()
    for case in cases:
        shutil.copy(case.label, folder / f"{case.name}.nii.gz")
        save(scans[case.name], folder / "scans" / f"{case.name}.json")


def add_a_piece_of_liver(workspace):
    """In a corner of each of the only candidate's predictions."""
    for path in (workspace.compare / "DualDecoder2D-1").glob("*/*.nii.gz"):
        drawn = read_labels(path, load_plan(workspace.plan).labels)
        drawn.data[0, :2, :6] = 1
        write_labels(path, drawn.data, like=drawn.grid)


def test_a_label_that_is_better_in_one_part_is_named_with_the_rule_to_type(workspace, capsys):
    """Predicted exactly as drawn, but for a piece of liver in a corner of each case."""
    folder = finish(workspace, "DualDecoder2D", 1, 0)
    copy_the_truth(workspace, "DualDecoder2D/1", 0)
    add_a_piece_of_liver(workspace)
    code, said = run(workspace, capsys)
    assert code == 0, said
    found = json.loads((workspace.compare / "compare.json").read_text())
    assert found["parts"]["liver"]["after"] == found["shares"]["liver"]["after"] == 1
    assert (found["keep"], found["least_share"]) == ([], {"liver": 0.1})  # which removes no more than it must
    assert found["parts"]["spleen"] == {"before": 1, "after": 1, "better": 0, "worse": 0}
    assert f"-m {folder} --set 'fusion.least_share={{\"liver\": 0.1}}'" in said.replace("\n", "")


def test_the_command_to_type_names_folders_as_a_shell_takes_them(capsys):
    row = SimpleNamespace(models=("/my runs/step_2", "/runs/step_2"))
    compare.print_best(
        SimpleNamespace(best="DualDecoder2D/2", rows=[row], keep=(), least_share={}, parts={}, shares={})
    )
    assert shlex.split(capsys.readouterr().out)[-3:] == ["-m", "/my runs/step_2", "/runs/step_2"]


def test_the_rule_to_type_keeps_what_the_model_s_own_plan_has(workspace, capsys):
    """Its plan has a rule for the spleen already, which is therefore no gain, but must not be lost."""
    own = override(load_plan(workspace.plan), ['fusion.least_share={"spleen": 0.2}'])
    finish(workspace, "DualDecoder2D", 1, 0, made=own)
    copy_the_truth(workspace, "DualDecoder2D/1", 0)
    code, said = run(workspace, capsys)
    assert code == 0 and "fusion." not in said  # nothing is new
    add_a_piece_of_liver(workspace)
    said = run(workspace, capsys)[1].replace("\n", "")
    assert """--set 'fusion.least_share={"spleen": 0.2, "liver": 0.1}'""" in said
    assert "  liver  " in said and "  spleen  " not in said


def test_predictions_are_made_once_and_again_for_other_weights_or_another_plan(workspace, capsys):
    finish(workspace, "DualDecoder2D", 1, 0)
    assert run(workspace, capsys)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in workspace.compare.rglob("*.nii.gz")}
    assert len(before) == len(load_splits(workspace.splits).held_out(0))
    assert run(workspace, capsys)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in workspace.compare.rglob("*.nii.gz")} == before
    other = override(load_plan(workspace.plan), ["fusion.rule=probability"])  # the weights of the first
    for times, again in ((2, {"seed": 1}), (3, {"made": other})):
        finish(workspace, "DualDecoder2D", 1, 0, **again)
        assert run(workspace, capsys)[0] == 0
        assert len(list(workspace.compare.rglob("*.nii.gz"))) == times * len(before)


def test_a_case_that_any_of_the_models_has_seen_is_no_test_of_them(workspace):
    held_out = sorted(load_splits(workspace.splits).held_out(0))
    finish(workspace, "DualDecoder2D", 1, 0)
    finish(workspace, "DualDecoder2D", 2, 0, seen=held_out[:1])
    dataset = load_settled(workspace.settled)
    candidates, _ = find_candidates(workspace, [0], dataset.labels)
    found = unseen(candidates, 0, load_splits(workspace.splits), dataset.cases)
    assert sorted(case.name for case in found) == held_out[1:]


def test_where_no_case_is_left_that_is_said(workspace, capsys):
    names = [case.name for case in load_settled(workspace.settled).cases]
    finish(workspace, "DualDecoder2D", 1, 0)
    finish(workspace, "DualDecoder2D", 2, 0, seen=names)
    code, said = run(workspace, capsys)
    assert code == 4 and "none of these has seen: DualDecoder2D/1, DualDecoder2D/2" in said
    assert not list(workspace.compare.rglob("*.nii.gz"))


def test_runs_without_a_fold_in_common(workspace, capsys):
    finish(workspace, "3DOrgan", 1, 0)
    finish(workspace, "DualDecoder2D", 1, 1)
    code, said = run(workspace, capsys)
    assert code == 4 and "3DOrgan/1 of 0; DualDecoder2D/1 of 1" in said
    assert run(workspace, capsys, "--fold", "1")[0] == 0
    assert set(rows(workspace)) == {"DualDecoder2D/1"}
    with pytest.raises(RunError, match="--fold 0"):
        find_candidates(Workspace(workspace.root, "Q"), [0, 1], load_plan(workspace.plan).labels)


def test_runs_of_another_label_table_are_left_out_and_named(workspace, capsys):
    """Planned when the first two labels stood the other way round."""
    now = load_plan(workspace.plan)
    first, second, *others = now.labels.names[1:]
    names = ("background", second, first, *others)
    before = now.model_copy(update={"labels": now.labels.model_copy(update={"names": names})})
    old = finish(workspace, "3DOrgan", 1, 0, made=before)
    code, said = run(workspace, capsys)
    assert code == 4 and "but 1 of another label table" in said
    finish(workspace, "3DCancer", 1, 0)
    code, said = run(workspace, capsys)
    assert code == 0 and set(rows(workspace)) == {"3DCancer/1"}
    assert f"left out: {old}: label 1 {second!r}, where the data set has label 1 {first!r}" in said


def test_a_mean_of_zero_is_better_than_none(workspace, capsys):
    """No scan can be read, so each answer scores 0; 3DOrgan, the first by name, answers one of the groups alone."""
    for trainer in ("3DOrgan", "DualDecoder2D"):
        finish(workspace, trainer, 1, 0)
    held_out = load_splits(workspace.splits).held_out(0)
    kept = {c.image: c.image.read_bytes() for c in load_settled(workspace.settled).cases if c.name in held_out}
    for image, content in kept.items():
        image.write_bytes(content[:1000])
    code, said = run(workspace, capsys)
    for image, content in kept.items():
        image.write_bytes(content)
    assert code == 3 and "none is best" not in said
    assert {name: row["mean"]["dsc"] for name, row in rows(workspace).items()} == {
        "3DOrgan/1 + DualDecoder2D/1": 0,
        "DualDecoder2D/1": 0,
        "3DOrgan/1": None,
    }
    assert list(rows(workspace))[-1] == "3DOrgan/1" and "best: 3DOrgan/1 + DualDecoder2D/1" in said


def test_a_case_that_cannot_be_read_scores_zero_and_is_named(workspace, capsys, tmp_path):
    finish(workspace, "DualDecoder2D", 1, 0)
    name = sorted(load_splits(workspace.splits).held_out(0))[0]
    image = next(case.image for case in load_settled(workspace.settled).cases if case.name == name)
    kept = image.read_bytes()
    image.write_bytes(kept[:1000])
    code, said = run(workspace, capsys)
    image.write_bytes(kept)
    assert code == 3 and name in said
    assert run(workspace, capsys)[0] == 0
