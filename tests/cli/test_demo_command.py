"""The demo's words and its care for the folder; the way it goes is driven by tests/integration."""

import pytest

from flarenet.cli.demo import QUICK, _commands, main
from flarenet.data.dataset_file import read_dataset
from flarenet.phantom import write_phantom_set
from flarenet.planning.budget import AUTO
from flarenet.planning.measuring.fingerprint import fingerprint
from flarenet.trainers.planner import make_plan


def test_a_folder_with_other_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["-o", str(tmp_path)]) == 2
    assert "empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_demo_of_other_numbers_is_not_mixed_with_this_one(tmp_path, capsys):
    (tmp_path / "demo.json").write_text('{"cases": 24, "seed": 0}')
    assert main(["-o", str(tmp_path), "--seed", "1"]) == 2
    assert "'seed': 0" in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("count", ["4", "-1", "many"])
def test_too_few_cases_are_refused(count, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["-o", str(tmp_path / "new"), f"--cases={count}"])
    assert end.value.code == 2
    assert not (tmp_path / "new").exists()


def test_a_seed_below_zero_is_refused_before_anything_is_written(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["-o", str(tmp_path / "new"), "--seed", "-1"])
    assert end.value.code == 2 and "'-1' is not a whole number from 0 on" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_schedule_fits_the_plan(tmp_path):
    write_phantom_set(tmp_path / "PHANTOM", cases=6, test_cases=0, seed=0, detail=0.4)
    found, failures = fingerprint(read_dataset(tmp_path / "PHANTOM"))
    assert failures == []
    plan = make_plan(found, AUTO, changes=QUICK)
    assert plan.configurations["3d"].patch == (32, 32, 48)
    assert len(plan.trainers["DualDecoder2D"].steps) == 4
    for name in ("3DOrgan", "3DCancer", "DualDecoder2D"):
        assert all(step.epochs <= 40 for step in plan.trainers[name].steps), name


def test_the_commands_go_the_whole_way(tmp_path):
    commands = _commands(tmp_path, "cpu")
    assert [command for command, _ in commands] == [
        "flarenet_plan", *["flarenet_train"] * 3, "flarenet_predict", "flarenet_evaluate"
    ]  # fmt: skip
    assert [words[0] for command, words in commands if command == "flarenet_train"] == [
        "3DOrgan", "3DCancer", "DualDecoder2D"
    ]  # fmt: skip
