"""docs/add-a-trainer.md, block by block, as a reader would type it; and trainers that are none."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from flarenet.cli import plan, predict, train
from flarenet.inference.models.model import load_model
from flarenet.phantom import write_phantom_set
from tests.trainers.tiny import TINY

pytestmark = pytest.mark.usefixtures("no_pictures", "torch_alone")

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "add-a-trainer.md"
COMMANDS = {"flarenet_train": train.main, "flarenet_predict": predict.main}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder is an empty root, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delenv("FLARENET_ROOT", raising=False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def test_the_document(here, capsys, monkeypatch):
    monkeypatch.setattr("flarenet.trainers.stages.LONGEST_EPOCH", 2)  # batches, or this would take minutes
    write_phantom_set(here / "raw" / "NAME", cases=10, test_cases=1, seed=0, detail=0.5)
    assert plan.main(["-d", "NAME", "--workers", "1", "--set", *TINY, "budget.gpu_memory_gb=0.8"]) == 0
    own, script = blocks("python")
    assert own.startswith("# my_trainers.py")
    (here / "my_trainers.py").write_text(own)
    (commands,) = blocks("sh")
    for command, *words in map(shlex.split, commands.splitlines()):
        assert COMMANDS[command](words) == 0, capsys.readouterr().err
    written = sorted(path.name for path in (here / "predictions").iterdir())
    assert len(written) == 2 and written[1] == "report.json" and written[0].endswith(".nii.gz")
    model = load_model(here / "runs/NAME/MoreDice/step_1")
    (step,) = model.plan.trainer("MoreDice").steps
    assert (step.epochs, step.schedule) == (2, "constant")
    assert "MoreDice" not in (here / "prepared/NAME/plan.json").read_text()

    (here / "script.py").write_text(script)
    capsys.readouterr()
    runpy.run_path("script.py", run_name="__main__")
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["epoch", "1"], ["epoch", "2"]]
    assert load_model(here / "runs/NAME/MoreDice/fold_1/step_1").plan.trainer("MoreDice").steps[0] == step


BASE = "from flarenet.trainers import Trainer\n"


@pytest.mark.parametrize(
    ("source", "typed", "code", "said"),
    [
        ("", "my_missing:Trainer", 2, "No module named 'my_missing'"),
        ("1 / 0", "my_own:Trainer", 4, "ZeroDivisionError"),
        ("", "my_own:Trainer", 2, "a subclass of flarenet.trainers.Trainer"),
        ("class Trainer: name = 'X'", "my_own:Trainer", 2, "a subclass of flarenet.trainers.Trainer"),
        (BASE, "my_own:Trainer", 2, "its own name"),
        (BASE + "class Mine(Trainer): name = 'MAE'", "my_own:Mine", 2, "its own name"),
        (BASE + "class Mine(Trainer): name = 'a/b'", "my_own:Mine", 7, "'a/b'"),
    ],
)
def test_what_is_no_trainer(here, capsys, source, typed, code, said):
    (here / "my_own.py").write_text(source)
    assert train.main([typed, "-d", "NAME"]) == code
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told
