"""Where things lie, and what is said where they do not."""

from __future__ import annotations

import os

import pytest

from flarenet.errors import DatasetError, UsageError
from flarenet.workspace import Workspace, find_root, models_in, newest_model, only_planned, open_workspace


def test_paths(tmp_path):
    work = Workspace(tmp_path, "A")
    paths = [work.raw, work.plan, work.fingerprint, work.settled, work.store("3d"), work.run("MAE", 1)]
    paths.append(work.pseudo("X", 2 * "0123456789ab"))
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "raw/A",
        "prepared/A/plan.json",
        "prepared/A/fingerprint.json",
        "prepared/A/dataset.json",
        "prepared/A/3d",
        "runs/A/MAE/step_1",
        "pseudo/A/X-0123456789ab",
    ]


def test_root_is_the_flag_then_the_variable_then_here(tmp_path, monkeypatch):
    for name in ("flag", "variable", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("FLARENET_ROOT", raising=False)
    assert find_root() == tmp_path / "here"
    monkeypatch.setenv("FLARENET_ROOT", str(tmp_path / "variable"))
    assert find_root() == tmp_path / "variable"
    assert find_root(str(tmp_path / "flag")) == tmp_path / "flag"
    with pytest.raises(UsageError, match="no such folder"):
        find_root(str(tmp_path / "none"))


def test_an_unknown_set_lists_the_real_ones(tmp_path):
    (tmp_path / "raw" / "FLAREmini").mkdir(parents=True)
    assert open_workspace(tmp_path, "FLAREmini").raw == tmp_path / "raw" / "FLAREmini"
    with pytest.raises(UsageError) as caught:
        open_workspace(tmp_path, "flaremin")
    assert caught.value.expected == "FLAREmini"
    assert caught.value.remedy == "did you mean 'FLAREmini'?"


def test_the_only_planned_set_is_taken(tmp_path):
    (tmp_path / "prepared" / "unplanned").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no planned data set") as caught:
        only_planned(tmp_path)
    assert "--root or FLARENET_ROOT" in caught.value.remedy
    for name in ("A", "B"):
        (tmp_path / "prepared" / name).mkdir()
        (tmp_path / "prepared" / name / "plan.json").touch()
        if name == "A":
            assert only_planned(tmp_path).dataset == "A"
    with pytest.raises(UsageError, match="A, B"):
        only_planned(tmp_path)


def test_the_newest_model_that_segments_is_taken(tmp_path):
    with pytest.raises(UsageError, match="no finished model"):
        newest_model(tmp_path)
    for age, run in enumerate(["A/MAE/step_1", "A/DualDecoder2D/step_2", "B/3DOrgan/step_1"]):
        folder = tmp_path / "runs" / run
        folder.mkdir(parents=True)
        (folder / "about.json").touch()
        os.utime(folder / "about.json", (1000 - age, 1000 - age))
    (tmp_path / "runs/A/DualDecoder2D/step_3").mkdir()
    (tmp_path / "runs/A/DualDecoder2D/step_2_backup").mkdir()
    (tmp_path / "runs/A/DualDecoder2D/step_2_backup/about.json").touch()  # a copy that somebody keeps, just made
    assert newest_model(tmp_path) == tmp_path / "runs/A/DualDecoder2D/step_2"


def test_a_trainer_stands_for_the_last_step_of_each_finished_fold(tmp_path):
    for run in ("step_9", "step_10", "fold_1/step_10", "fold_2/step_9", "fold_all/step_10", "step_10_backup"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "about.json").touch()
    (tmp_path / "fold_3/step_10").mkdir(parents=True)  # not finished
    assert models_in(tmp_path) == [tmp_path / run for run in ("fold_1/step_10", "fold_all/step_10", "step_10")]
    assert models_in(tmp_path / "fold_2") == [tmp_path / "fold_2/step_9"]
    assert models_in(tmp_path / "step_9") == [tmp_path / "step_9"]
    assert models_in(tmp_path / "fold_3") == [tmp_path / "fold_3"]  # and whoever loads it says what is wrong
