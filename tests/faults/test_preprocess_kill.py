"""Preparation that is killed and started again leaves the store of an unbroken run, byte for byte."""

import sys

import pytest

from benchmarks.preparation.kill import NAME, trial, unbroken
from flarenet.phantom import write_phantom_set

PREPARE = f"""
import sys
from pathlib import Path
from flarenet.data.dataset_file import read_dataset
from flarenet.planning.plan import Configuration, Plan
from flarenet.preparation.dataset import prepare_dataset
from flarenet.workspace import Workspace

workspace = Workspace(Path(sys.argv[1]), {NAME!r})
dataset = read_dataset(workspace.raw)
spacing = dict(spacing_mm=(None, 1.5, 1.5), inference_spacing_mm=(None, 1.5, 1.5))
numbers = {{
    name: Configuration(patch=patch, clip_hu=(-160.0, 240.0), **spacing)
    for name, patch in (("2d", (64, 64)), ("3d", (32, 32, 32)))
}}
plan = Plan(
    recipe="auto",
    dataset=dataset.name,
    labels=dataset.labels,
    fingerprint_hash="",
    configurations=numbers,
    trainers={{}},
)
assert prepare_dataset(dataset, plan, workspace) == []
"""


@pytest.fixture(scope="module")
def unhindered(tmp_path_factory):
    raw = tmp_path_factory.mktemp("raw") / NAME
    write_phantom_set(raw, cases=6, test_cases=0, seed=0, detail=0.8)
    line = [sys.executable, "-c", PREPARE]
    return line, raw, unbroken(line, raw, tmp_path_factory.mktemp("unbroken"))


@pytest.mark.parametrize("share", [0.03, 0.4, 0.8])
def test_killed_and_run_again(unhindered, tmp_path, share):
    line, raw, wanted = unhindered
    assert sum(name.endswith("record.json") for name in wanted.content) == 12
    ready, fault = trial(line, raw, tmp_path, after_s=share * wanted.seconds, wanted=wanted)
    assert fault == ""
    assert ready <= 12
