import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flarenet.cli.plan import main
from flarenet.cli.train import main as train
from flarenet.data.settled import load_settled
from flarenet.data.store import Store
from flarenet.errors import DatasetError
from flarenet.planning.measuring.fingerprint import Fingerprint
from flarenet.planning.plan_file import load_plan
from flarenet.schema import load

PATTERNS = {"full": [1, 2], "liver": [1], "both": [1, 3], "tumor": [3], "bare": []}
SHAPE = (12, 16, 16)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with one raw set of five small cases, one of each pattern; spleen (2) only in "full"."""
    monkeypatch.delenv("FLARENET_ROOT", raising=False)
    raw, random = tmp_path / "raw" / "Tiny", np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    table = {}
    for name, annotated in PATTERNS.items():
        image = random.normal(-900, 20, SHAPE)
        image[2:10, 3:13, 3:13] = random.normal(60, 20, (8, 10, 10))
        drawn = np.zeros(SHAPE, dtype=np.uint8)
        for value in annotated:
            drawn[3:6, 3 * value : 3 * value + 3, 4:7] = value
        table[name] = {"images": [f"imagesTr/{name}_0000.nii.gz"], "annotated": annotated}
        save(raw / "imagesTr" / f"{name}_0000.nii.gz", image.astype(np.int16))
        if annotated:
            table[name]["label"] = f"labelsTr/{name}.nii.gz"
            save(raw / "labelsTr" / f"{name}.nii.gz", drawn)
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "spleen": 2, "tumor": 3},
        "numTraining": len(table),
        "file_ending": ".nii.gz",
        "dataset": table,
    }
    (raw / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def save(path, array_zyx):
    nibabel.save(nibabel.Nifti1Image(array_zyx.transpose(2, 1, 0), np.diag([2.0, 2.0, 3.0, 1.0])), path)


def plan_it(root, *words):
    return main(["-d", "Tiny", "--root", str(root), "--workers", "1", *words])


def test_d01_the_plan_does_not_depend_on_where_or_in_which_order_cases_are_listed(root):
    assert plan_it(root) == 0
    other = root / "elsewhere"
    shutil.copytree(root / "raw", other / "raw")
    path = other / "raw" / "Tiny" / "dataset.json"
    content = json.loads(path.read_text())
    content["dataset"] = dict(reversed(content["dataset"].items()))
    path.write_text(json.dumps(content))
    assert plan_it(other) == 0
    for name in ("fingerprint.json", "plan.json", "splits.json"):
        one, two = (folder / "prepared" / "Tiny" / name for folder in (root, other))
        assert one.read_bytes() == two.read_bytes(), name


def test_a_set_is_measured_planned_and_prepared(root, capsys):
    assert plan_it(root) == 0
    prepared = root / "prepared" / "Tiny"
    found = load(Fingerprint, prepared / "fingerprint.json", DatasetError)
    assert found.patterns == ((1, 2), (1, 3), (1,), (3,), ())
    plan = load_plan(prepared / "plan.json")
    assert (plan.dataset, plan.recipe, plan.fingerprint_hash) == ("Tiny", "auto", found.hash)
    assert set(plan.trainers) == {"3DOrgan", "3DCancer", "DualDecoder2D", "Joint"}
    assert plan.configurations["2d"].spacing_mm == (None, 2.0, 2.0)
    for configuration in ("2d", "3d"):
        assert sorted(Store(prepared / configuration).names()) == sorted(PATTERNS)
    printed = capsys.readouterr().out
    for words in ("all of organ (2)", "nothing (unlabelled)", "3.00 x 2.00 x 2.00", "DualDecoder2D/4", "clip_hu"):
        assert words in printed
    assert f"next: flarenet_train -d Tiny --root {root}, which trains " in printed


def test_the_paper_s_recipe_gives_the_paper_s_steps(root, capsys):
    assert plan_it(root, "--recipe", "paper") == 0
    plan = load_plan(root / "prepared" / "Tiny" / "plan.json")
    subsets = [step.subset.patterns for step in plan.trainers["DualDecoder2D"].steps]
    assert subsets == [((),), ((1, 3),), ((1, 2),), ((3,),)]
    assert plan.trainers["3DOrgan"].steps[-1].subset.patterns == ((1, 2),)
    assert plan.trainers["3DCancer"].steps[-1].subset.patterns == ((1, 3), (3,))
    assert plan.configurations["3d"].clip_hu == (-200, 300)
    assert "1,438,802" in capsys.readouterr().out  # one tumor and background: the paper's cancer model


def test_values_are_set_and_an_earlier_plan_is_kept(root, capsys):
    prepared = root / "prepared" / "Tiny"
    assert plan_it(root) == 0
    first = (prepared / "plan.json").read_text()
    assert plan_it(root) == 0
    assert not (prepared / "plan.previous.json").exists()
    assert plan_it(root, "--set", "trainers.*.steps.*.epochs=2", "trainers.*.steps.*.warmup_epochs=1", "seed=5") == 0
    plan = load_plan(prepared / "plan.json")
    assert plan.seed == 5 and {s.epochs for part in plan.trainers.values() for s in part.steps} == {2}
    assert (prepared / "plan.previous.json").read_text() == first
    assert "plan.previous.json" in capsys.readouterr().out
    second = (prepared / "plan.json").read_text()
    assert plan_it(root) == 0
    assert (prepared / "plan.previous.json").read_text() == first
    assert (prepared / "plan.previous-2.json").read_text() == second
    edited = (prepared / "plan.json").read_bytes() + "größer".encode("cp1252")  # by an editor that knows no UTF-8
    (prepared / "plan.json").write_bytes(edited)
    assert plan_it(root) == 0
    assert (prepared / "plan.previous-3.json").read_bytes() == edited


def test_a_plan_of_another_recipe_or_budget_says_how_the_last_one_was_made(root, capsys):
    assert plan_it(root, "--recipe", "paper", "--without", "unlabelled") == 0
    assert plan_it(root, "--gpu-memory-gb", "24") == 0
    said = capsys.readouterr().out
    again = f"flarenet_plan -d Tiny --root {root} --recipe paper --without unlabelled"
    assert f"made with a different recipe or budget: {again}\n" in said
    assert plan_it(root, "--gpu-memory-gb", "24", "--set", "seed=5") == 0
    assert "different recipe" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--fingerprint"], ["--report"]])
def test_a_set_that_another_run_plans_is_left_alone(root, capsys, monkeypatch, words):
    monkeypatch.setattr("flarenet.lock._PATIENCE_S", 0.05)
    lock = root / "prepared" / "Tiny" / ".lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("4711\nanother-host\n")
    assert plan_it(root, *words) == 6
    assert "process 4711 on another-host" in capsys.readouterr().err
    assert [path for path in (root / "prepared").rglob("*") if path.is_file()] == [lock]


def test_cases_are_dealt_anew_only_where_folds_are_asked_for(root, capsys):
    prepared = root / "prepared" / "Tiny"
    assert plan_it(root, "--set", "folds=2") == 0
    first = (prepared / "splits.json").read_text()
    assert plan_it(root) == 0
    assert (prepared / "splits.json").read_text() == first and load_plan(prepared / "plan.json").folds == 2
    capsys.readouterr()
    assert plan_it(root, "--set", "folds=3") == 0
    assert "splits.previous.json" in capsys.readouterr().out
    assert (prepared / "splits.previous.json").read_text() == first
    assert len(json.loads((prepared / "splits.json").read_text())["folds"]) == 3


def test_folds_that_a_person_wrote_stay_as_they_are_written(root, capsys):
    splits = root / "prepared" / "Tiny" / "splits.json"
    assert plan_it(root, "--set", "folds=1", "--dry-run") == 4
    assert f"list its cases in {splits}" in capsys.readouterr().err
    assert plan_it(root, "--set", "folds=2") == 0
    splits.write_text('{"folds":[["tumor", "gone"]]}')
    assert plan_it(root) == 0
    assert splits.read_text() == '{"folds":[["tumor", "gone"]]}'
    assert load_plan(splits.with_name("plan.json")).folds == 1
    assert not splits.with_name("splits.previous.json").exists()


def test_new_cases_are_dealt_and_the_folds_of_before_are_kept(root, capsys):
    raw, splits = root / "raw" / "Tiny", root / "prepared" / "Tiny" / "splits.json"
    assert plan_it(root) == 0
    splits.write_text(written := '{"folds": [["tumor"], ["both"]]}')
    content = json.loads((raw / "dataset.json").read_text())
    for name in ("twin", "third"):  # full, which trains, is not the only one of its pattern any more
        noisy = np.random.default_rng(len(name)).normal(-900, 20, SHAPE)
        save(raw / "imagesTr" / f"{name}_0000.nii.gz", noisy.astype(np.int16))
        images = [f"imagesTr/{name}_0000.nii.gz"]
        content["dataset"][name] = content["dataset"]["full"] | {"images": images}
    content["numTraining"] = len(content["dataset"])
    (raw / "dataset.json").write_text(json.dumps(content))
    assert plan_it(root) == 0
    folds = json.loads(splits.read_text())["folds"]
    assert [fold[0] for fold in folds] == ["tumor", "both"]
    assert sorted(fold[1] for fold in folds) == ["third", "twin"] and {len(fold) for fold in folds} == {2}
    assert splits.with_name("splits.previous.json").read_text() == written
    assert "splits.previous.json" in capsys.readouterr().out


def test_folds_that_hold_nothing_out_are_told_and_only_the_first_is_trained(root, capsys):
    words = ["3DOrgan", "-d", "Tiny", "--root", str(root), "--device", "cpu", "--fold", "3"]
    assert plan_it(root) == 0
    assert "warning: fold 0, 1, 2, 3, 4 of splits.json holds out no case" in capsys.readouterr().err
    assert train(words) == 4
    assert "what to do: --fold all" in capsys.readouterr().err


def test_cases_that_are_not_prepared_as_the_plan_says_are_not_trained_on(root, capsys):
    words = ["3DOrgan", "-d", "Tiny", "--root", str(root), "--device", "cpu", "--fold", "all"]
    assert plan_it(root) == 0
    assert train([*words, "--set", "configurations.3d.spacing_mm=[4,4,4]"]) == 4
    said = capsys.readouterr().err
    assert "3 prepared with other numbers" in said and "flarenet_plan -d Tiny" in said
    shutil.rmtree(root / "prepared" / "Tiny" / "3d" / "liver")
    assert train(words) == 4
    assert "1 not prepared: liver" in capsys.readouterr().err


def test_a_case_that_could_not_be_prepared_is_no_part_of_the_set(root, monkeypatch, capsys):
    failed = [("liver", DatasetError("its image", found="damage"))]
    monkeypatch.setattr("flarenet.trainers.plan_set.prepare_dataset", lambda *_, **__: failed)
    assert plan_it(root) == 3
    assert "liver" in capsys.readouterr().err
    settled = load_settled(root / "prepared" / "Tiny" / "dataset.json")
    assert [case.name for case in settled.cases] == ["full", "both", "tumor", "bare"]


def test_a_disk_that_cannot_be_written_ends_preparation_and_leaves_no_case_out(root, capsys):
    prepared = root / "prepared" / "Tiny"
    prepared.mkdir(parents=True)
    (prepared / "3d").write_text("in the way of a folder")
    assert plan_it(root) == 5
    assert str(prepared / "3d") in capsys.readouterr().err
    assert [case.name for case in load_settled(prepared / "dataset.json").cases] == list(PATTERNS)
    (prepared / "3d").unlink()
    assert plan_it(root) == 0


def test_too_little_room_is_said_before_it_runs_out(root, monkeypatch, capsys):
    little = shutil.disk_usage(root)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: little)
    assert plan_it(root) == 0
    assert f" MB to prepare, 0 MB free in {root / 'prepared' / 'Tiny'}" in capsys.readouterr().err
    assert plan_it(root) == 0  # nothing is left to prepare
    assert "free in" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("trainers.DualDecoder2D.steps.0.epoch=3", 2, "did you mean 'epochs'"),
        ("trainers.3DOrgam.weight_decay=1", 2, "did you mean '3DOrgan'"),
        ("trainers.*.steps.*.epochs=10", 4, "trainers.3DOrgan.steps.0.warmup_epochs"),
        ("seed=often", 4, "key 'seed'"),
        ("trainers.3DOrgan.network.kind=unett", 2, "did you mean 'unet'"),
        ("trainers.3DOrgan.steps.0.subset.patterns=[[2, 3]]", 4, "which no case has"),
    ],
)
def test_a_change_that_does_not_fit_writes_no_plan(root, capsys, change, code, words):
    assert plan_it(root, "--set", change) == code
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert not (root / "prepared" / "Tiny" / "plan.json").exists()


def test_a_dry_run_shows_plan_disk_and_time_and_writes_nothing(root, capsys):
    before = sorted(root.rglob("*"))
    assert plan_it(root, "--dry-run") == 0
    assert sorted(root.rglob("*")) == before
    printed = capsys.readouterr().out
    for words in ("DualDecoder2D: memory to train", "prepared cases on disk", "time to train on a card", "16 GB"):
        assert words in printed


def test_a_budget_changes_network_and_is_kept_in_the_plan(root, capsys):
    words = ("--size", "m", "--gpu-memory-gb", "24", "--inference-memory-gb", "6", "--inference-seconds", "30")
    assert plan_it(root, *words) == 0
    plan = load_plan(root / "prepared" / "Tiny" / "plan.json")
    assert plan.budget.model_dump(include={"size", "gpu_memory_gb", "inference_memory_gb", "inference_seconds"}) == {
        "size": "m", "gpu_memory_gb": 24, "inference_memory_gb": 6, "inference_seconds": 30
    }  # fmt: skip
    assert plan.trainers["3DOrgan"].network.kind == "residual_unet"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--gpu-memory-gb", "-1"), 2, "gpu_memory_gb"),
        (("--recipe", "paper", "--size", "l"), 2, "--size l"),
        (("--recipe", "paper", "--gpu-memory-gb", "8"), 4, "budget.gpu_memory_gb"),
        (("--inference-memory-gb", "0.5"), 4, "flarenet_plan: the plan: configurations.2d.inference_spacing_mm"),
        (("--set", "configurations.2d.spacing_mm=[null,0.001,0.001]"), 4, "budget.host_memory_gb"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_before_anything_is_written(root, capsys, words, code, said):
    assert plan_it(root, *words) == code
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (root / "prepared" / "Tiny" / "plan.json").exists()


@pytest.mark.parametrize("words, said", [("--set seed", "no '='"), ("--gpu-memory-gb 0", "gpu_memory_gb")])
def test_what_is_misspelt_is_refused_before_any_case_is_measured(root, capsys, words, said):
    assert plan_it(root, *words.split()) == 2
    assert said in capsys.readouterr().err
    assert not (root / "prepared").exists()


def test_mr_is_prepared_by_its_own_percentiles(root):
    path = root / "raw" / "Tiny" / "dataset.json"
    path.write_text(path.read_text().replace('"CT"', '"MR"'))
    assert plan_it(root) == 0
    plan = load_plan(root / "prepared" / "Tiny" / "plan.json")
    assert {(c.normalisation, c.clip_hu) for c in plan.configurations.values()} == {("percentile", None)}


def test_an_unknown_data_set_lists_the_real_ones_and_the_nearest(root, capsys):
    assert main(["-d", "Tny", "--root", str(root)]) == 2
    assert "did you mean 'Tiny'" in capsys.readouterr().err


def test_broken_cases_are_named_and_the_others_go_on(root, capsys):
    raw = root / "raw" / "Tiny"
    whole = (raw / "imagesTr" / "tumor_0000.nii.gz").read_bytes()
    (raw / "imagesTr" / "tumor_0000.nii.gz").write_bytes(whole[: len(whole) // 2])
    save(raw / "labelsTr" / "liver.nii.gz", np.full(SHAPE, 9, dtype=np.uint8))
    save(raw / "labelsTr" / "both.nii.gz", np.zeros((12, 16, 15), dtype=np.uint8))
    (raw / "imagesTr" / "bare_0000.nii.gz").unlink()
    assert plan_it(root) == 3
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for words in ("case tumor:", "case liver:", "9", "case both:", "case bare:", "4 of 5 cases failed"):
        assert words in error
    prepared = root / "prepared" / "Tiny"
    assert list(Store(prepared / "2d").names()) == ["full"]
    assert set(load_plan(prepared / "plan.json").trainers) >= {"3DOrgan"}


def test_a_test_case_that_is_trained_on_is_named(root, capsys):
    path = root / "raw" / "Tiny" / "dataset.json"
    content = json.loads(path.read_text())
    (path.parent / "imagesTs").mkdir()
    whole = (path.parent / "imagesTr" / "liver_0000.nii.gz").read_bytes()
    (path.parent / "imagesTs" / "new_0000.nii.gz").write_bytes(whole)
    content["test"] = {"new": {"images": ["imagesTs/new_0000.nii.gz"]}}
    path.write_text(json.dumps(content))
    assert plan_it(root) == 3
    error = capsys.readouterr().err
    assert "case new:" in error and "case liver" in error and "1 of 6 cases failed" in error


def test_a_plan_of_another_fingerprint_is_not_trained(root, capsys):
    assert plan_it(root) == 0
    prepared = root / "prepared" / "Tiny"
    content = json.loads((prepared / "plan.json").read_text())
    (prepared / "plan.json").write_text(json.dumps(content | {"fingerprint_hash": "0" * 64}))
    assert train(["3DOrgan", "--root", str(root)]) == 4
    error = capsys.readouterr().err
    assert "fingerprint_hash" in error and "flarenet_plan -d Tiny" in error


def test_a_set_without_one_usable_case_is_an_error(root, capsys):
    for image in (root / "raw" / "Tiny" / "imagesTr").iterdir():
        image.write_bytes(b"")
    assert plan_it(root) == 4
    error = capsys.readouterr().err
    assert "5 broken cases" in error and all(name in error for name in PATTERNS)
    assert not any(path.is_file() for path in (root / "prepared").rglob("*"))


def test_a_label_annotated_nowhere_is_said(root, capsys):
    path = root / "raw" / "Tiny" / "dataset.json"
    content = json.loads(path.read_text())
    content["dataset"]["full"]["annotated"] = [1]
    path.write_text(json.dumps(content))
    save(root / "raw" / "Tiny" / "labelsTr" / "full.nii.gz", np.ones(SHAPE, dtype=np.uint8))
    assert plan_it(root) == 0
    assert "spleen annotated in no case" in capsys.readouterr().out


def test_the_fingerprint_alone_is_measured_without_torch(root):
    script = (
        "import sys; from flarenet.cli.plan import main; code = main(sys.argv[1:]); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    words = [sys.executable, "-c", script, "-d", "Tiny", "--root", str(root), "--workers", "1", "--fingerprint"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and "all of organ (2)" in done.stdout
    prepared = root / "prepared" / "Tiny"
    assert sorted(path.name for path in prepared.iterdir()) == ["fingerprint.json", "measured"]


def test_patterns_that_nobody_stated_are_inferred_and_settled(root, capsys):
    path = root / "raw" / "Tiny" / "dataset.json"
    content = json.loads(path.read_text())
    for entry in content["dataset"].values():
        del entry["annotated"]
    path.write_text(json.dumps(content))
    assert plan_it(root) == 0
    assert "it was inferred" in capsys.readouterr().out
    settled = load_settled(root / "prepared" / "Tiny" / "dataset.json")
    assert {case.name: sorted(case.annotated) for case in settled.cases} == PATTERNS
    assert sorted(Store(root / "prepared" / "Tiny" / "2d").names()) == sorted(PATTERNS)


def test_planning_builds_no_network(root):
    script = (
        "import sys\nfrom flarenet.cli.plan import main\n"
        f"assert main(['-d', 'Tiny', '--root', {str(root)!r}, '--workers', '1']) == 0\n"
        "assert 'monai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_numbers_that_make_no_network_are_refused_without_building_one(root, capsys):
    assert plan_it(root, "--network", "unetr", "--set", "trainers.MAE.network.features=[768,3072]") == 4
    error = capsys.readouterr().err
    assert "trainers.MAE.network: features" in error and "8 numbers: hidden, mlp" in error


def test_what_nobody_annotated_is_said_in_one_line_and_hidden_in_what_is_prepared(root, capsys):
    """A quarter of the slices of one case."""
    raw = root / "raw" / "Tiny"
    content = json.loads((raw / "dataset.json").read_text())
    content["labels"]["ignore"] = 7
    (raw / "dataset.json").write_text(json.dumps(content))
    drawn = np.asanyarray(nibabel.load(raw / "labelsTr" / "both.nii.gz").dataobj).transpose(2, 1, 0).copy()
    drawn[9:] = 7
    save(raw / "labelsTr" / "both.nii.gz", drawn)
    said = "note: label ignore: 25.00% of the voxels of 1 cases, on average"
    assert plan_it(root, "--check") == 0
    assert said in capsys.readouterr().out
    assert json.loads((root / "prepared" / "Tiny" / "check.json").read_text())["ignored"] == {"both": 0.25}
    assert plan_it(root) == 0
    assert said in capsys.readouterr().out.splitlines()
    assert load_settled(root / "prepared" / "Tiny" / "dataset.json").ignore == 7
    maps = Store(root / "prepared" / "Tiny" / "3d").read("both").maps
    assert list(maps) == ["organ", "cancer"] and all((np.asarray(each) == 255).any() for each in maps.values())
    assert plan_it(root, "--dry-run") == 0  # what is measured and prepared is found again
