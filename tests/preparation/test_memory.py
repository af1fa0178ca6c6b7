"""Preparing a whole data set: no case is begun that does not fit in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flarenet.data.dataset_file import read_dataset
from flarenet.data.store import Store
from flarenet.errors import StorageError
from flarenet.phantom import write_phantom_set
from flarenet.planning.plan import Configuration, Plan
from flarenet.preparation.dataset import prepare_dataset
from flarenet.workspace import open_workspace

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tmp_path):
    write_phantom_set(tmp_path / "raw" / "Set", cases=2, test_cases=0, seed=0, detail=0.3)
    return open_workspace(tmp_path, "Set")


def plan_at(dataset, spacing_mm):
    configuration = Configuration(
        spacing_mm=spacing_mm, inference_spacing_mm=spacing_mm, patch=(8, 8, 8), clip_hu=(-160, 240)
    )
    return Plan(
        recipe="auto",
        dataset=dataset.name,
        labels=dataset.labels,
        fingerprint_hash="0",
        configurations={"3d": configuration},
        trainers={},
    )


def test_a_spacing_that_no_memory_can_hold_is_refused_at_once(workspace):
    """A trunk of 0.2 x 0.25 x 0.34 m at 0.01 mm: 10^13 voxels."""
    dataset = read_dataset(workspace.raw)
    failures = prepare_dataset(dataset, plan_at(dataset, (0.01, 0.01, 0.01)), workspace)
    assert [name for name, _ in failures] == [case.name for case in dataset.cases]
    for _, error in failures:
        assert isinstance(error, StorageError)
        assert error.found.endswith("MB of memory") and float(error.expected.split()[1]) > 50_000_000
    assert list(Store(workspace.store("3d")).names()) == []


MEASURE = """
import re, sys
from pathlib import Path
from flarenet.data.dataset_file import read_dataset
from flarenet.preparation.dataset import Work, need_mb, prepare_case
from flarenet.planning.plan import Configuration
from flarenet.workspace import open_workspace
workspace = open_workspace(Path(sys.argv[1]), "Set")
dataset, fine = read_dataset(workspace.raw), (float(sys.argv[2]),) * 3
window = {"clip_hu": (-160, 240)} if sys.argv[3] == "window" else {"clip_hu": None, "normalisation": "percentile"}
configuration = Configuration(spacing_mm=fine, inference_spacing_mm=fine, patch=(8, 8, 8), **window)
labels = dataset.labels
if sys.argv[4:]:
    labels = labels.model_copy(update={"groups": {f"group_{value}": (value,) for value in labels.values}})
work = Work(dataset.cases[0], labels, {"3d": configuration}, workspace)
prepare_case(work)
status = Path("/proc/self/status").read_text()  # ru_maxrss would count what the parent held when it started us
print(need_mb(work), int(re.search(r"VmHWM:\\s+(\\d+) kB", status).group(1)) / 1024)
"""


@pytest.mark.parametrize("spacing_mm", [8.0, 1.0])
def test_the_estimate_is_above_the_peak_and_not_far_from_it(workspace, spacing_mm):
    estimate_mb, peak_mb = measured_mb(workspace.root, spacing_mm, "window")
    assert peak_mb <= estimate_mb <= 2.5 * peak_mb


def test_each_group_has_a_map_in_memory(workspace):
    """Fourteen groups of one label."""
    estimate_mb, peak_mb = measured_mb(workspace.root, 1.0, "window", "a group for each label")
    assert peak_mb <= estimate_mb <= 2.5 * peak_mb


def test_an_image_of_float32_with_percentiles_of_its_own_takes_more(tmp_path):
    """16 million voxels: 64 MB, of which a copy is ranked."""
    raw, shape = tmp_path / "raw" / "Set", (256, 256, 256)
    signal = np.random.default_rng(0).random(shape, dtype=np.float32)
    for folder, data in (("imagesTr", signal), ("labelsTr", (signal > 0.9).astype(np.uint8))):
        (raw / folder).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), raw / folder / f"a{'_0000' * (folder == 'imagesTr')}.nii")
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii"}
    (raw / "dataset.json").write_text(json.dumps(content | {"numTraining": 1}))
    estimate_mb, peak_mb = measured_mb(tmp_path, 8.0, "percentile")
    assert peak_mb <= estimate_mb <= 2.5 * peak_mb


def measured_mb(root, spacing_mm, kind, *more):
    """(estimate, peak) of a process that prepares the first case of the set below `root`."""
    words = [sys.executable, "-c", MEASURE, root, str(spacing_mm), kind, *more]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return map(float, done.stdout.split())
