"""predict.sh as a challenge starts it: folders in, folders out, a process for each scan, no network."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flarenet.inference.models.model_file import export_models, install
from tests.model_files.small import train

SOURCES = Path(__file__).resolve().parents[2]
CHALLENGE = SOURCES / "challenge"


@pytest.fixture
def workspace(tmp_path):
    """What the image holds: the script, an installed model, and the two folders."""
    train(tmp_path / "step_2")
    export_models([tmp_path / "step_2"], tmp_path / "model.zip")
    home = tmp_path / "workspace"
    for folder in ("inputs", "outputs"):
        (home / folder).mkdir(parents=True)
    install(tmp_path / "model.zip", home, "challenge")
    return home


def scan(path):
    data = np.random.default_rng(0).integers(-1000, 1000, (40, 36, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-1, -1, 3, 1])), path)


def run(workspace, *words, python=sys.executable):
    """In the workspace, which cannot be told from the image by the script."""
    return subprocess.run(
        ["sh", str(CHALLENGE / "predict.sh"), *map(str, words)],
        cwd=workspace,
        env={**os.environ, "PYTHON": str(python), "FLARENET_ROOT": str(workspace)},
        capture_output=True,
        text=True,
    )


def written(workspace):
    return sorted(path.name for path in (workspace / "outputs").iterdir())


def test_every_scan_is_answered_on_its_grid_and_a_broken_one_does_not_stop_the_others(workspace):
    (workspace / "inputs" / "broken_0000.nii.gz").write_bytes(b"no scan")
    (workspace / "inputs" / "notes.txt").write_text("no scan")
    for name in ("FLARETs_0001_0000.nii.gz", "with space.nii.gz"):
        scan(workspace / "inputs" / name)
    done = run(workspace)
    assert done.returncode == 3 and "1 of 3 scans failed" in done.stderr
    assert written(workspace) == ["FLARETs_0001.nii.gz", "with space.nii.gz"]
    image = nibabel.load(workspace / "inputs" / "with space.nii.gz")
    labels = nibabel.load(workspace / "outputs" / "with space.nii.gz")
    assert labels.shape == image.shape and np.array_equal(labels.affine, image.affine)
    assert labels.get_data_dtype() == np.uint8


@pytest.mark.parametrize(
    ("code", "begun", "said"), [(75, "a", ""), (130, "a", ""), (4, "ab", "predict.sh: 2 of 2 scans failed\n")]
)
def test_one_that_was_ended_ends_all_and_one_that_failed_does_not(workspace, code, begun, said):
    """By a stand-in for Python that ends with `code`."""
    for name in "ab":
        scan(workspace / "inputs" / f"{name}.nii.gz")
    python = workspace / "ended.sh"
    python.write_text(f'#!/bin/sh\necho "$4" >> "{workspace}/begun.txt"\nexit {code}\n')
    python.chmod(0o755)
    done = run(workspace, python=python)
    assert (done.returncode, done.stderr) == (code, said)
    assert (workspace / "begun.txt").read_text().split() == [f"inputs/{name}.nii.gz" for name in begun]


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_to_the_script_ends_the_prediction_and_all(tmp_path, number, code):
    """Sent to the shell alone, as docker does to the first process of a container."""
    (tmp_path / "inputs").mkdir()
    for name in "ab":
        (tmp_path / "inputs" / f"{name}.nii.gz").write_bytes(b"")
    stub = tmp_path / "python.sh"
    stub.write_text(
        f"#!/bin/sh\ntrap 'echo ended >> {tmp_path}/said.txt; exit 75' TERM\necho begun >> {tmp_path}/said.txt\n"
        "while :; do sleep 0.02; done\n"
    )
    stub.chmod(0o755)
    line = ["sh", str(CHALLENGE / "predict.sh")]
    process = subprocess.Popen(line, cwd=tmp_path, env={**os.environ, "PYTHON": str(stub)}, start_new_session=True)
    deadline = time.monotonic() + 20
    while not (tmp_path / "said.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(20) == code
    assert (tmp_path / "said.txt").read_text().split() == ["begun", "ended"]


def test_two_scans_of_one_case_are_refused_before_any_work(tmp_path):
    (tmp_path / "inputs").mkdir()
    for name in ("a", "a_0000"):
        (tmp_path / "inputs" / f"{name}.nii.gz").write_bytes(b"")
    done = run(tmp_path, python="false")
    assert done.returncode == 2 and "inputs/a_0000.nii.gz and inputs/a.nii.gz would have one output" in done.stderr


def test_other_folders_and_words(workspace, tmp_path):
    (tmp_path / "scans").mkdir()
    assert run(workspace, tmp_path / "scans", tmp_path / "out").returncode == 2
    scan(tmp_path / "scans" / "a.nii.gz")
    done = run(workspace, tmp_path / "scans", tmp_path / "out", "-m", "challenge", "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.nii.gz"]


def test_of_what_the_image_leaves_out_no_scan_warns():
    """Python takes the start of a message."""
    (silenced,) = re.findall(r'PYTHONWARNINGS="ignore:([^"]+)"', (CHALLENGE / "Dockerfile").read_text())
    assert f'warnings.warn(f"{silenced}' in (SOURCES / "flarenet" / "networks" / "norm.py").read_text()


def test_what_the_image_copies_is_there_and_it_runs_as_who_can_write_any_outputs():
    lines = (CHALLENGE / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert "model.zip" in copied
    assert all((SOURCES / word).exists() for word in copied - {"model.zip"})
    assert not [line for line in lines if line.startswith("USER ")]
