"""flarenet_ablate from a list to its tables: trained, killed, gone on with, shared and failed, on a tiny set."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flarenet.cli.ablate import main
from flarenet.errors import DatasetError, RunError
from flarenet.lock import LOCK
from flarenet.whole import FAILPOINT
from tests.trainers import tiny

pytestmark = pytest.mark.usefixtures("no_pictures")

SCHEDULE = (
    *tiny.GRIDS,
    "trainers.Joint.network.features=[4,4,8,8,8,4]",
    "trainers.*.steps.*.batch_size=2",
    "trainers.*.steps.*.batches_per_epoch=2",
    "trainers.*.steps.*.warmup_epochs=0",
)
RATE = "trainers.Joint.steps.0.learning_rate"
VARIANTS = [
    {"name": "slow", "score": ["Joint"], "set": [f"{RATE}=0.001"]},
    {"name": "fast", "score": ["Joint"], "set": [f"{RATE}=0.002"]},
    {"name": "by probability", "score": ["Joint"], "set": [f"{RATE}=0.001", "fusion.rule=probability"]},
    {"name": "broken", "score": ["Joint"], "set": [f"{RATE}=1e30"]},
]


def words(workspace, listed, *more):
    here = ["-d", workspace.dataset, "--root", str(workspace.root), "--device", "cpu", "--epochs", "2"]
    return [str(listed), *here, *more, "--set", *SCHEDULE]


def write(folder, variants):
    path = folder / "mine.json"
    path.write_text(json.dumps({"variants": variants}))
    return path


def runs(workspace):
    """Finished run -> when its weights were written, in nanoseconds."""
    folders = (workspace.ablations / "runs").iterdir()
    return {f.name: (f / "weights.safetensors").stat().st_mtime_ns for f in folders if (f / "about.json").is_file()}


@pytest.fixture(scope="module")
def ablated(tiny_set, tmp_path_factory):
    """(workspace, list, runs that a first command left when it was killed); a second went on to the end."""
    listed = write(tmp_path_factory.mktemp("list"), VARIANTS)
    line = [sys.executable, "-m", "flarenet.cli.ablate", *words(tiny_set, listed)]
    killed = subprocess.run(
        line, cwd=Path(__file__).parents[2], env={**os.environ, FAILPOINT: "about.json:replaced"}, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    left = runs(tiny_set)
    assert main(words(tiny_set, listed)) == 3  # one variant is broken
    return tiny_set, listed, left


def found(workspace):
    return json.loads((workspace.ablations / "mine" / "ablation.json").read_text())


def test_a_killed_ablation_goes_on_with_what_was_finished(ablated):
    workspace, _, left = ablated
    assert len(left) == 1 and left.items() <= runs(workspace).items()


def test_a_variant_that_fails_is_named_and_the_others_are_done(ablated):
    variants = found(ablated[0])["variants"]
    assert list(variants) == ["slow", "fast", "by probability", "broken"]
    assert "loss nan" in variants["broken"]["failed"]["seed 0"] and variants["broken"]["dsc"]["all labels"]["n"] == 0
    for name in ("slow", "fast", "by probability"):
        assert variants[name]["failed"] == {} and variants[name]["dsc"]["all labels"]["n"] == 1
        assert 0 <= variants[name]["nsd"]["all labels"]["mean"] <= 1


def test_variants_that_differ_in_prediction_share_a_run_but_not_predictions(ablated):
    workspace, _, _ = ablated
    assert len(runs(workspace)) == 2
    folders = {name: list((workspace.ablations / "mine" / name).iterdir()) for name in ("slow", "by probability")}
    assert all(len(inside) == 1 for inside in folders.values())
    predicted = {name: inside[0] / "phantom1000000.nii.gz" for name, inside in folders.items()}
    assert all(path.is_file() for path in predicted.values())


def test_cases_prepared_by_the_plan_are_used_and_nothing_is_made_twice(ablated, capsys):
    workspace, listed, _ = ablated
    assert not (workspace.ablations / "prepared").exists()
    before = {path: path.stat().st_mtime_ns for path in workspace.ablations.rglob("*.nii.gz")}, runs(workspace)
    assert main(words(workspace, listed, "-o", str(workspace.ablations / "mine"))) == 3
    assert ({path: path.stat().st_mtime_ns for path in before[0]}, runs(workspace)) == before
    said = capsys.readouterr()
    assert "(exists already)" in said.err and "4 trials, 3 runs" in said.err and "all labels" in said.out


def test_one_head_is_prepared_apart_and_scored_by_the_sets_own_labels(tiny_set, tmp_path):
    variants = [{"name": "joint", "score": ["Joint"], "heads": "joint"}]
    out = tmp_path / "out"
    assert main(words(tiny_set, write(tmp_path, variants), "-o", str(out), "--held-out", "--seeds", "0", "1")) == 0
    made = json.loads((out / "ablation.json").read_text())
    assert made["seeds"] == [0, 1] and len(made["cases"]) >= 1
    assert {"organ (mean)", "cancer (mean)", "liver"} <= set(made["variants"]["joint"]["dsc"])
    (store,) = (tiny_set.ablations / "prepared").iterdir()
    assert store.name.startswith("2d-")
    shutil.rmtree(store.parent)


def test_a_run_that_lacks_a_case_of_its_step_fails_until_the_case_is_prepared(tiny_set, tmp_path, monkeypatch, capsys):
    """phantom0002 tells of lesions only, so 3DOrgan does not miss it. Nothing is trained here."""
    variants = [{"name": "organs", "score": ["3DOrgan"]}, {"name": "lesions", "score": ["3DCancer"]}]
    line = words(tiny_set, write(tmp_path, variants), "-o", str(tmp_path / "out"))
    scan, model = tiny_set.raw / "imagesTr" / "phantom0002_0000.nii.gz", tiny_set.ablations / "model"
    broken, trained = [("phantom0002", DatasetError(scan, found="half a file"))], []
    lock = tiny_set.prepared / LOCK

    def prepare(*_, pool, verify):
        assert lock.exists()
        return broken

    def train(training):
        assert not lock.exists()
        trained.append(str(training.run.run))
        raise RunError(model, found="the end of this test")

    def reasons():
        assert main(line) == 3
        text = (tmp_path / "out" / "ablation.json").read_text()
        assert str(tiny_set.root) not in text
        made = json.loads(text)["variants"]
        return [made[name]["failed"]["seed 0"] for name in ("organs", "lesions")]

    monkeypatch.setattr("flarenet.choice.trials.prepare_dataset", prepare)
    monkeypatch.setattr("flarenet.choice.trials.train_run", train)
    organs, lesions = reasons()
    ended = f"{model.relative_to(tiny_set.root)}\n  found: the end of this test"
    assert trained == ["3DOrgan/1"] and organs == ended and str(model) in capsys.readouterr().err
    assert "3DCancer-step_1" in lesions and "half a file" in lesions
    assert "phantom0002: phantom0002_0000.nii.gz" in lesions
    broken.clear()
    assert reasons() == [ended] * 2 and trained == ["3DOrgan/1", "3DOrgan/1", "3DCancer/1"]


def test_results_that_another_run_writes_are_left_alone(tiny_set, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("flarenet.lock._PATIENCE_S", 0.05)
    monkeypatch.setattr("flarenet.choice.trials.train_run", lambda training: pytest.fail("trained"))
    out = tmp_path / "out"
    out.mkdir()
    (out / LOCK).write_text("4711\nanother-host\n")
    assert main(words(tiny_set, write(tmp_path, VARIANTS[:1]), "-o", str(out))) == 6
    assert "process 4711 on another-host" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [LOCK]


def test_over_a_cluster_the_same_runs_have_the_same_weights(ablated):
    distributed = pytest.importorskip("distributed", reason="needs the extra `cluster`")
    workspace, listed, _ = ablated
    here = workspace.ablations.rename(workspace.ablations.with_name("here"))
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        assert main(words(workspace, listed, "--scheduler", cluster.scheduler_address)) == 3
    one, two = (
        {path.parent.name: path.read_bytes() for path in folder.glob("runs/*/weights.safetensors")}
        for folder in (here, workspace.ablations)
    )
    assert len(two) == 2 and two.items() <= one.items()  # other tests left more here
    saved = [json.loads((folder / "mine" / "ablation.json").read_text()) for folder in (here, workspace.ablations)]
    for results in saved:
        results["variants"].pop("broken")  # its reason names a file
    assert saved[0] == saved[1]


@pytest.mark.parametrize(
    "more, code, said",
    [
        (["-i", "images"], 2, "one of them"),
        (["--fold", "9"], 2, "fold 9"),
    ],
)
def test_words_that_do_not_fit(tiny_set, tmp_path, capsys, more, code, said):
    assert main(words(tiny_set, write(tmp_path, VARIANTS[:1]), *more)) == code
    assert said in capsys.readouterr().err


def test_cases_that_the_models_learn_from_are_refused(tiny_set, tmp_path, capsys):
    raw = tiny_set.raw
    words_ = words(tiny_set, write(tmp_path, VARIANTS[:1]), "-i", str(raw / "imagesTr"), "-g", str(raw / "labelsTr"))
    assert main(words_) == 2
    assert "learn" in capsys.readouterr().err


def test_shipped_lists_are_shown(capsys):
    assert main(["--list"]) == 0
    said = capsys.readouterr().out
    for words_ in ("paper:", "heads:", "filters:", "without unlabelled", "two networks"):
        assert words_ in said
