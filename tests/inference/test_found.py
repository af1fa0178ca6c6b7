"""Which models a root has, and which of them answers where none is named."""

import os

import pytest

from flarenet.errors import UsageError
from flarenet.inference.found import models_in, newest_model
from tests.model_files.small import train


def test_the_newest_model_that_segments_is_taken(tmp_path):
    with pytest.raises(UsageError, match="no finished model"):
        newest_model(tmp_path)
    for age, run in enumerate(["A/Restoring/step_1", "A/DualDecoder2D/step_2", "B/3DOrgan/step_1"]):
        folder = tmp_path / "runs" / run
        train(folder, groups=() if "Restoring" in run else ("organ",))
        os.utime(folder / "about.json", (1000 - age, 1000 - age))
    (tmp_path / "runs/A/DualDecoder2D/step_3").mkdir()
    (tmp_path / "runs/A/DualDecoder2D/step_2_backup").mkdir()
    (tmp_path / "runs/A/DualDecoder2D/step_2_backup/about.json").touch()  # a copy that somebody keeps, just made
    assert newest_model(tmp_path) == tmp_path / "runs/A/DualDecoder2D/step_2"
    (tmp_path / "runs/B/3DOrgan/step_1/about.json").write_text("{")  # the newest one now, and no other in its place
    assert newest_model(tmp_path) == tmp_path / "runs/B/3DOrgan/step_1"


def test_a_trainer_stands_for_the_last_step_of_each_finished_fold(tmp_path):
    for run in ("step_9", "step_10", "fold_1/step_10", "fold_2/step_9", "fold_all/step_10", "step_10_backup"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "about.json").touch()
    (tmp_path / "fold_3/step_10").mkdir(parents=True)  # not finished
    assert models_in(tmp_path) == [tmp_path / run for run in ("fold_1/step_10", "step_10")]
    assert models_in(tmp_path / "fold_all") == [tmp_path / "fold_all/step_10"]
    assert models_in(tmp_path / "fold_2") == [tmp_path / "fold_2/step_9"]
    assert models_in(tmp_path / "step_9") == [tmp_path / "step_9"]
    assert models_in(tmp_path / "fold_3") == [tmp_path / "fold_3"]  # and whoever loads it says what is wrong
    (tmp_path / "fold_all/step_11").mkdir()
    (tmp_path / "fold_all/step_11/about.json").touch()
    assert models_in(tmp_path) == [tmp_path / "fold_all/step_11"]
