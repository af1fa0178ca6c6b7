"""Preparation that is killed and started again leaves the store of an unbroken run, byte for byte."""

import sys

import pytest

from benchmarks.preparation.kill import NAME, trial, unbroken
from flarenet.phantom import write_phantom_set

PREPARE = f"""
import sys
from pathlib import Path
from flarenet.data.cases import Pool
from flarenet.data.dataset_file import read_dataset
from flarenet.planning.plan import Configuration, Plan
from flarenet.preparation.dataset import prepare_dataset
from flarenet.workspace import Workspace

workers, root = int(sys.argv[1]), Path(sys.argv[2])
workspace = Workspace(root, {NAME!r})
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
assert prepare_dataset(dataset, plan, workspace, pool=Pool(workers)) == []
"""
RECORDS = 12  # two configurations of six cases


@pytest.fixture(scope="module")
def unhindered(tmp_path_factory):
    raw = tmp_path_factory.mktemp("raw") / NAME
    write_phantom_set(raw, cases=6, test_cases=0, seed=0, detail=0.8)
    return raw, unbroken(line_of(workers=1), raw, tmp_path_factory.mktemp("unbroken"))


def line_of(workers):
    return [sys.executable, "-c", PREPARE, str(workers)]


@pytest.mark.parametrize(("records", "workers"), [(0, 1), (4, 1), (8, 1), (4, 2)])
def test_killed_and_run_again(unhindered, tmp_path, records, workers):
    """In the middle of the next record, by the time that one takes."""
    raw, wanted = unhindered
    assert sum(name.endswith("record.json") for name in wanted.content) == RECORDS
    after_s = wanted.seconds / RECORDS / 2
    tried = trial(line_of(workers), raw, tmp_path, after_s=after_s, wanted=wanted, records=records)
    assert tried.hit and records <= tried.ready < RECORDS
    assert tried.fault == ""
