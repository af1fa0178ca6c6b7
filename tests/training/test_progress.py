import io

from rich.console import Console

from flarenet.training.loop import fit
from flarenet.training.progress import Display
from tests.training.tiny import STEP, fresh_state, held_out, training_setup


def said(folder, **how):
    out = io.StringIO()
    fit(fresh_state(), training_setup(folder, Display(Console(file=out, width=160, **how)), validate=held_out()))
    return out.getvalue()


def test_no_terminal_gets_a_plain_line_an_epoch(tmp_path):
    lines = said(tmp_path).splitlines()
    assert len(lines) == STEP.epochs
    assert lines[0].startswith("test epoch 1/4  loss ") and "\x1b" not in lines[0]
    for words in ("dice loss ", "held out dice loss ", "Dice organ ", " samples/s", " left"):
        assert words in lines[0]
    assert lines[-1].endswith("0:00:00 left")


def test_a_terminal_gets_a_bar_for_the_step_and_the_lines_above_it(tmp_path):
    shown = said(tmp_path, force_terminal=True)
    assert "100%" in shown and shown.count("held out dice loss") == STEP.epochs
