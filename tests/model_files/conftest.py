"""A root with a trained model of two folds, and its model file."""

import pytest

from flarenet.inference.models.found import models_in
from flarenet.inference.models.model_file import export_models
from tests.model_files.small import train


@pytest.fixture
def root(tmp_path):
    trainer = tmp_path / "root" / "runs" / "Toy" / "Toy2D"
    train(trainer / "step_2")
    train(trainer / "fold_1" / "step_2", seed=1)
    (trainer / "step_2" / "log.jsonl").write_text("{}\n")  # of the training; not passed on
    return tmp_path / "root"


@pytest.fixture
def model_file(root, tmp_path):
    file = tmp_path / "toy.zip"
    export_models(models_in(root / "runs" / "Toy" / "Toy2D"), file)
    return file
