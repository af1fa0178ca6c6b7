"""flarenet_evaluate: killed and started again, killed processes, predictions that are no good."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flarenet.cli.evaluate import main
from flarenet.data.labels import LabelSet
from flarenet.evaluation.pairs import Pair, evaluate
from flarenet.evaluation.rules import OFFICIAL, PLAIN
from flarenet.whole import FAILPOINT
from tests.full_disk import longest_file

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})
NAMES = ("a", "b", "c", "d")
KILLED = -9


@pytest.fixture
def root(tmp_path):
    """A set Tiny of four test cases, each with a prediction that is a little off."""
    raw, drawn = tmp_path / "raw" / "Tiny", np.zeros((9, 10, 11), dtype=np.uint8)
    drawn[2:6, 2:8, 2:8], drawn[3:5, 3:6, 3:6] = 1, 2
    for number, name in enumerate(NAMES):
        _save(raw / "labelsTs" / f"{name}.nii.gz", drawn)
        _save(tmp_path / "predicted" / f"{name}.nii.gz", np.roll(drawn, number, axis=0))
    labels = {name: value for value, name in enumerate(LABELS.names)}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    content["dataset"] = {"other": {"images": ["imagesTr/other_0000.nii.gz"], "annotated": []}}
    (raw / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), np.diag([2.0, 2.0, 3.0, 1.0])), path)


def _words(root: Path, out: str) -> list[str]:
    truth = root / "raw" / "Tiny" / "labelsTs"
    places = ["-p", root / "predicted", "-g", truth, "-o", root / out, "--root", root, "-d", "Tiny"]
    return [*map(str, places), "--workers", "1"]


def _killed(root: Path, out: str, kill: str, *words: str) -> subprocess.CompletedProcess:
    run = "import sys; from flarenet.cli.evaluate import main; sys.exit(main())"
    command = [sys.executable, "-c", run, *_words(root, out), *words]
    return subprocess.run(command, env={**os.environ, FAILPOINT: kill}, capture_output=True, text=True, timeout=60)


def _tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("cases/[!.]*")}


@pytest.mark.parametrize(
    "kill, done", [("b.json:half", ["a.json"]), ("c.json:replaced", ["a.json", "b.json", "c.json"])]
)
def test_killed_and_run_again(root, kill, done):
    assert main(_words(root, "unbroken")) == 0
    assert _killed(root, "broken", kill).returncode == KILLED
    before = _written(root / "broken")
    assert sorted(before) == done and _tables(root / "broken").keys() <= {".lock"}
    assert main(_words(root, "broken")) == 0
    after = _written(root / "broken")
    assert {name: after[name] for name in before} == before  # nothing is scored twice
    assert _tables(root / "broken") == _tables(root / "unbroken")
    left = {path.name for path in (root / "broken" / "cases").iterdir()}
    assert left == set(after) == {f"{name}.json" for name in NAMES}  # no temporary file either


@pytest.mark.filterwarnings("ignore:.*scores are not kept")
@pytest.mark.parametrize("size", [100, 1000])
def test_a_full_disk_and_run_again(root, capsys, size):
    """100 bytes hold no scores of a case, 1000 hold those and the tables, but no metrics.json of four."""
    assert main(_words(root, "unbroken")) == 0
    capsys.readouterr()
    with longest_file(size):
        code = main(_words(root, "full"))
    assert code == 5 and "bytes free" in capsys.readouterr().err
    tables, cases = (0, 0) if size == 100 else (2, 4)
    whole = _tables(root / "unbroken")
    assert len(_tables(root / "full")) == tables and _tables(root / "full").items() <= whole.items()
    assert len(_written(root / "full")) == cases and not list((root / "full").rglob(".*"))
    assert main(_words(root, "full")) == 0
    assert _tables(root / "full") == whole


def test_a_killed_process_costs_its_own_case_only(root):
    run = _killed(root, "out", "b.json:half", "--workers", "2")
    assert run.returncode == 3, run.stderr
    metrics = json.loads((root / "out" / "metrics.json").read_text())
    assert list(metrics["cases"]) == list(NAMES) and list(metrics["failed"]) == ["b"]
    assert "process died" in metrics["failed"]["b"]
    assert metrics["cases"]["b"]["liver"]["dsc"] == 0.0 and metrics["classes"]["liver"]["n"] == 4
    assert metrics["cases"]["a"]["liver"]["dsc"] == 1.0
    assert main(_words(root, "out")) == 0


def test_what_is_kept_counts_for_the_same_files_and_settings_only(root):
    truth, predicted, keep = root / "raw" / "Tiny" / "labelsTs", root / "predicted", root / "keep"
    pairs = [Pair(n, truth / f"{n}.nii.gz", predicted / f"{n}.nii.gz", frozenset({1, 2})) for n in NAMES]

    def rewritten(labels=LABELS, rules=PLAIN) -> set[str]:
        before = {path.stem: path.stat().st_ino for path in keep.glob("*.json")}
        evaluate(pairs, labels, rules=rules, keep=keep)
        return {path.stem for path in keep.glob("*.json") if path.stat().st_ino != before.get(path.stem)}

    assert rewritten() == set(NAMES)
    assert rewritten() == set()
    _save(predicted / "b.nii.gz", np.zeros((9, 10, 11), dtype=np.uint8))
    assert rewritten() == {"b"}
    (keep / "c.json").write_text('{"key": "of another version"}')
    assert rewritten() == {"c"}
    assert rewritten(rules=OFFICIAL) == set(NAMES)
    assert rewritten(LABELS.model_copy(update={"tolerance_mm": {"liver": 3.0}})) == set(NAMES)


def test_every_truth_is_scored_or_named(root, capsys):
    predicted = root / "predicted"
    (predicted / "a.nii.gz").unlink()
    (predicted / "b.nii.gz").write_bytes((predicted / "b.nii.gz").read_bytes()[:-30])
    _save(predicted / "c.nii.gz", np.zeros((9, 10, 12), dtype=np.uint8))
    _save(predicted / "extra.nii.gz", np.zeros((9, 10, 11), dtype=np.uint8))
    assert main(_words(root, "out")) == 3
    assert "3 of 4 cases" in capsys.readouterr().err
    metrics = json.loads((root / "out" / "metrics.json").read_text())
    assert metrics["expected"] == 4 == metrics["scored"] + len(metrics["failed"])
    words = {"a": "no prediction", "b": "damaged gzip", "c": "shape"}
    assert all(word in metrics["failed"][name] for name, word in words.items())
    assert metrics["classes"]["liver"]["n"] == 4
    assert metrics["classes"]["liver"]["dsc"] == metrics["cases"]["d"]["liver"]["dsc"] / 4
    assert sum(count["missed"] for count in metrics["lesion_counts"]["tumor"].values()) >= 3
    assert any("extra (1)" in note for note in metrics["notes"])
