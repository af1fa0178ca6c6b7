"""flarenet_pseudo: words that do not fit, and where the result goes; with trained teachers it runs in
tests/integration."""

import json

import pytest

from flarenet.cli import pseudo
from flarenet.phantom import write_phantom_set
from tests.pseudo.conftest import Teacher


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    from flarenet.cli import plan

    root = tmp_path_factory.mktemp("root")
    write_phantom_set(root / "raw" / "P", cases=5, test_cases=1, seed=0, detail=0.4)
    small = ["configurations.3d.spacing_mm=[10,9,9]", "configurations.2d.spacing_mm=[null,8,8]"]
    assert plan.main(["-d", "P", "--root", str(root), "--workers", "1", "--set", *small]) == 0
    return root


@pytest.mark.parametrize(
    "words, code, said",
    [
        ([], 4, "flarenet_train 3DOrgan --step 1 -d P"),  # the first step with teachers, which are not trained yet
        (["--step", "DualDecoder2D/2"], 2, "a step without teachers"),
        (["--step", "DualDecoder2D/9"], 2, "expected: 1 to 4"),
        (["--step", "DualDecoder2D"], 2, "TRAINER/STEP, as DualDecoder2D/1"),
        (["--step", "1"], 2, "TRAINER/STEP, as DualDecoder2D/1"),
        (["--step", "DualDecoder/1"], 2, "did you mean 'DualDecoder2D'"),
        (["--set", "trainers.DualDecoder2D.steps.0.pseudo.agreement=3"], 4, "agreement"),
    ],
)
def test_words_that_do_not_fit(root, capsys, words, code, said):
    assert pseudo.main(["-d", "P", "--root", str(root), *words]) == code
    assert said in capsys.readouterr().err


def test_the_result_on_test_cases_lies_beside_that_on_held_out_ones(root, monkeypatch):
    from flarenet.pseudo.teachers import Teachers
    from flarenet.trainers.trainer import Trainer

    def teachers(trainer, step):
        asked = {run: Teacher(group) for group, run in step.teachers.items()}
        return Teachers(asked, step, trainer._plan, trainer._workspace)

    monkeypatch.setattr(Trainer, "teachers", teachers)
    monkeypatch.setattr("flarenet.pseudo.sources.read_about", lambda folder: folder)
    words = ["-d", "P", "--root", str(root), "--device", "cpu", "--set", "trainers.DualDecoder2D.steps.0.pseudo=null"]
    for cases in ("held-out", "test"):
        assert pseudo.main([*words, "--cases", cases]) == 0
    found = {path.parent.name.rpartition("-")[0]: path for path in (root / "pseudo" / "P").glob("*/filters.json")}
    assert {what: json.loads(path.read_text())["cases"] for what, path in found.items()} == {
        "effect-DualDecoder2D-1": ["phantom0000", "phantom0001", "phantom0002", "phantom0004"],  # 3 is unlabelled
        "effect-DualDecoder2D-1-test": ["phantom1000000"],
    }
