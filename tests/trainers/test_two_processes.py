"""flarenet_train under torchrun: one command, and the losses of one process."""

import json
import shutil
import subprocess
import sys

import pytest

from flarenet.cli import train
from flarenet.workspace import Workspace
from tests.trainers.tiny import planned

WORDS = ["--device", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """A workspace in which the 3D models are trained."""
    workspace = planned(tmp_path_factory.mktemp("root"))
    for trainer in ("3DOrgan", "3DCancer"):
        assert train.main([trainer, "--root", str(workspace.root), *WORDS]) == 0
    return workspace


def log(workspace):
    lines = (workspace.run("DualDecoder2D", 1) / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_torchrun_gives_the_losses_of_one_process(teachers, tmp_path):
    other = Workspace(tmp_path / "root", "P")
    shutil.copytree(teachers.root, other.root)
    words = ["DualDecoder2D", "--step", "1", *WORDS]
    assert train.main([*words, "--root", str(teachers.root)]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "flarenet.cli.train", *words, "--root", str(other.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cases to train on") == 1  # one process speaks
    one, both = log(teachers), log(other)
    assert len(one) == len(both) == 2
    for alone, shared in zip(one, both):
        assert shared["losses"] == pytest.approx(alone["losses"], rel=1e-3)
        assert shared["labels"] == pytest.approx(alone["labels"], abs=1e-3)
    folder = other.run("DualDecoder2D", 1)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in teachers.run("DualDecoder2D", 1).iterdir()
    )
