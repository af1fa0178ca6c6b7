"""The whole way by the commands of the built wheel, in processes of their own, on a small phantom set."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flarenet.phantom import write_phantom_set
from flarenet.phantom.anatomy import LABELS
from tests.no_network import sitecustomize as no_network

ROOT = Path(__file__).resolve().parents[2]

TINY = (
    "folds=2",
    "configurations.3d.spacing_mm=[10.0,8.0,8.0]",
    "configurations.3d.inference_spacing_mm=[10.0,8.0,8.0]",
    "configurations.3d.patch=[16,32,48]",
    "configurations.2d.patch=[32,48]",
    "trainers.3DOrgan.network.features=[4,4,8,8,8,4]",
    "trainers.3DCancer.network.features=[4,4,8,8,8,4]",
    "trainers.DualDecoder2D.network.features=[4,4,8,8,8,4]",
    "trainers.*.steps.*.batch_size=2",
    "trainers.*.steps.*.batches_per_epoch=2",
    "trainers.*.steps.*.warmup_epochs=0",
    "trainers.*.steps.*.epochs=1",
)
OVERRIDES = [word for change in TINY for word in ("--set", change)]
AUTOENCODER = [*OVERRIDES, "--set", "trainers.MAE.network.features=[24,48,1,2,24,48,1,2]"]
"""MAE is not in a plan of U-Nets, so that it is changed where it is trained."""


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """call(command, *words, code=0) -> its output; the commands come from the wheel, in a new environment."""
    folder = tmp_path_factory.mktemp("installed")
    # the sources must not be found in place of the wheel, nor their egg-info by pip, which then installs nothing
    quiet = {name: value for name, value in os.environ.items() if name != "FLARENET_ROOT"}
    quiet["PYTHONPATH"] = no_network.FOLDER
    environment = _install_wheel(folder, quiet)

    def run(command, *words, code=0):
        line = [str(environment / "bin" / command), *map(str, words)]
        done = subprocess.run(line, cwd=folder, env={**quiet, "COLUMNS": "200"}, capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{' '.join(line)}\nexit code {done.returncode}, expected {code}\n{said}"
        assert "Traceback" not in said
        return said

    return run


def _install_wheel(folder, variables):
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "flarenet", source / "flarenet", ignore=shutil.ignore_patterns("__pycache__"))
    python = [sys.executable, "-m"]
    _quietly([*python, "build", "--wheel", "--no-isolation", "--outdir", folder, source], variables)
    environment = folder / "environment"
    _quietly([*python, "venv", "--without-pip", environment], variables)
    [wheel] = folder.glob("flarenet-*-py3-none-any.whl")  # nothing is built where it is installed
    _quietly([*python, "pip", "--python", environment, "install", "--no-deps", "--no-index", wheel], variables)
    [packages] = environment.glob("lib/python*/site-packages")
    # the libraries are those the tests run with; nothing is downloaded
    (packages / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return environment


def _quietly(line, variables):
    done = subprocess.run(list(map(str, line)), env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def planned(call, tmp_path_factory):
    """A root with a planned and prepared set of six cases, two of them held out."""
    root = tmp_path_factory.mktemp("root")
    write_phantom_set(root / "raw" / "PHANTOM", cases=6, test_cases=2, seed=0, detail=0.5)
    said = call("flarenet_plan", "-d", "PHANTOM", "--root", root, *OVERRIDES)
    for trainer in ("3DOrgan", "3DCancer", "DualDecoder2D"):
        assert trainer in said
    return root


@pytest.fixture(scope="module")
def trained(call, planned):
    for trainer, *changes in (["3DOrgan"], ["3DCancer"], ["MAE", *AUTOENCODER], ["DualDecoder2D"]):
        call("flarenet_train", trainer, "-d", "PHANTOM", "--root", planned, "--device", "cpu", *changes)
    return planned


@pytest.fixture(scope="module")
def predicted(call, trained):
    images = trained / "raw" / "PHANTOM" / "imagesTs"
    call("flarenet_predict", "-i", images, "-o", trained / "predictions", "--root", trained, "--device", "cpu")
    return trained


def test_the_commands_are_those_of_the_wheel(call):
    where = call("python", "-c", "import flarenet; print(flarenet.__file__)")
    assert "site-packages" in where and str(ROOT) not in where
    assert Path(where.strip()).with_name("py.typed").is_file()


def test_every_step_leaves_a_finished_model(trained):
    finished = {path.parent.relative_to(trained / "runs" / "PHANTOM") for path in trained.glob("runs/*/*/*/about.json")}
    steps = ["3DOrgan/step_1", "3DCancer/step_1", "MAE/step_1", *(f"DualDecoder2D/step_{n}" for n in (1, 2, 3, 4))]
    assert finished == {Path(step) for step in steps}


def test_the_effect_of_each_filter_is_shown(call, trained):
    said = call("flarenet_pseudo", "-d", "PHANTOM", "--root", trained, "--device", "cpu", "-o", trained / "filters")
    assert "liver" in said and "agreement" in said
    effects = json.loads((trained / "filters" / "filters.json").read_text())
    assert effects["step"] == "DualDecoder2D/1" and effects["cases"] and (trained / "filters" / "filters.csv").is_file()


def test_predictions_lie_on_the_grids_of_the_scans(predicted):
    images = sorted((predicted / "raw" / "PHANTOM" / "imagesTs").glob("*.nii.gz"))
    assert len(images) == 2
    assert sorted(path.name for path in (predicted / "predictions").iterdir()) == [
        *(path.name.replace("_0000", "") for path in images),
        "report.json",
    ]
    for path in images:
        scan, labels = nibabel.load(path), nibabel.load(predicted / "predictions" / path.name.replace("_0000", ""))
        assert labels.shape == scan.shape
        assert np.array_equal(labels.affine, scan.affine)
        assert labels.get_data_dtype() == np.uint8
        assert np.asarray(labels.dataobj).max() <= 14


def test_scores_are_written(call, predicted):
    raw, out = predicted / "raw" / "PHANTOM", predicted / "scores"
    words = ["-p", predicted / "predictions", "-g", raw / "labelsTs", "-d", "PHANTOM", "-o", out, "--root", predicted]
    said = call("flarenet_evaluate", *words, "--images", raw / "imagesTs")
    assert "liver" in said and "tumor" in said
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["mode"] == "plain"
    assert {f"{case}.nii.gz" for case in metrics["cases"]} == {path.name for path in (raw / "labelsTs").iterdir()}
    assert set(metrics["classes"]) == set(LABELS.names[1:])
    assert all(score["n"] == 2 and 0 <= score["dsc"] <= 1 for score in metrics["classes"].values())
    assert set(metrics["groups"]) >= {"organ", "cancer"}
    assert list(out.glob("*.csv")) and list(out.rglob("*.png"))
    assert (out / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")


def test_the_truth_scores_one(call, planned):
    truth = planned / "raw" / "PHANTOM" / "labelsTs"
    words = ["-p", truth, "-g", truth, "-d", "PHANTOM", "-o", planned / "perfect", "--root", planned]
    call("flarenet_evaluate", *words)
    classes = json.loads((planned / "perfect" / "metrics.json").read_text())["classes"]
    assert {(score["dsc"], score["nsd"]) for score in classes.values()} == {(1.0, 1.0)}


def test_broken_images_are_named_and_the_others_are_done(call, trained, tmp_path):
    [good, other] = sorted((trained / "raw" / "PHANTOM" / "imagesTs").glob("*.nii.gz"))
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    shutil.copy(good, images / "good_0000.nii.gz")
    whole = other.read_bytes()
    (images / "cut_0000.nii.gz").write_bytes(whole[: len(whole) // 2])
    (images / "text_0000.nii.gz").write_bytes(gzip.compress(b"no image at all"))
    said = call("flarenet_predict", "-i", images, "-o", out, "--root", trained, "--device", "cpu", code=3)
    assert "cut_0000.nii.gz" in said and "text_0000.nii.gz" in said
    assert sorted(path.name for path in out.iterdir()) == ["good.nii.gz", "report.json"]
    cases = json.loads((out / "report.json").read_text())["cases"]
    assert {name: case["error"] is None for name, case in cases.items()} == {"cut": False, "good": True, "text": False}


def test_an_unknown_name_is_answered_with_the_real_one(call, planned):
    assert "did you mean 'PHANTOM'" in call("flarenet_plan", "-d", "PHANTON", "--root", planned, code=2)
