import pytest

from flarenet.errors import RunError, UsageError
from flarenet.reporting.training import read_runs, training_section
from flarenet.training.state import EpochRecord


def _log(folder, *losses, dice=None):
    folder.mkdir(parents=True)
    records = [
        EpochRecord(
            epoch=number,
            learning_rate=0.01,
            losses={"loss": loss},
            dice={} if dice is None else {"organ": dice},
            timing={"seconds": 1800.0, "samples_per_s": 4.0 * number},
        )
        for number, loss in enumerate(losses, start=1)
    ]
    (folder / "log.jsonl").write_text("".join(f"{record.model_dump_json()}\n" for record in records))


def test_steps_of_a_fold_follow_each_other(tmp_path):
    _log(tmp_path / "A" / "step_1", 1.0, 0.5, dice=0.6)
    _log(tmp_path / "A" / "step_2", 0.4)
    _log(tmp_path / "A" / "fold_1" / "step_1", 0.9)
    _log(tmp_path / "B", 2.0, 1.5)
    runs = read_runs([("A", tmp_path / "A"), ("B", tmp_path / "B")])
    assert [(run.name, run.title) for run in runs] == [
        *(("A", "fold_1/step_1"), ("A", "step_1"), ("A", "step_2"), ("B", ""))
    ]
    loss, dice, table = training_section(runs).parts
    assert [line.get_xydata().tolist() for line in loss.figure.axes[0].lines] == [
        [[1, 0.9]],
        [[1, 1.0], [2, 0.5]],
        [[3, 0.4]],
        [[1, 2.0], [2, 1.5]],
    ]
    assert [line.get_xydata().tolist() for line in dice.figure.axes[0].lines] == [[[1, 0.6], [2, 0.6]]]
    rows = [[cell.text for cell in row] for row in table.rows]
    assert rows[1] == ["A", "step_1", "2", "1.00", "6.0", "0.5000", "0.6000"]
    assert rows[3] == ["B", "-", "2", "1.00", "6.0", "1.5000", "-"]


def test_the_tenth_step_follows_the_second_and_not_the_first(tmp_path):
    for step, losses in ((10, [0.1]), (2, [0.2, 0.2, 0.2]), (1, [0.3, 0.3])):
        _log(tmp_path / f"step_{step}", *losses)
    runs = read_runs([("A", tmp_path)])
    assert [run.title for run in runs] == ["step_1", "step_2", "step_10"]
    loss, _ = training_section(runs).parts
    assert [line.get_xdata().tolist() for line in loss.figure.axes[0].lines] == [[1, 2], [3, 4, 5], [6]]


def test_what_is_no_log_is_refused(tmp_path):
    _log(tmp_path / "A", 1.0)
    with (tmp_path / "A" / "log.jsonl").open("a") as log:
        log.write('{"epoch": "two"}\n')
    with pytest.raises(RunError, match="line 2"):
        read_runs([("A", tmp_path / "A")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no log.jsonl"):
        read_runs([("E", tmp_path / "empty")])
