import json
import re

import pytest

from flarenet.training.callbacks import EpochDone
from flarenet.training.curve import Curve, Log
from flarenet.training.loop import fit
from tests.training.tiny import STEP, checkpoints, fresh_state, held_out, training_setup


def lines(folder):
    return (folder / "log.jsonl").read_text().splitlines()


def untimed(folder):
    return [re.sub(r'"timing":\{[^}]*\}', "", line) for line in lines(folder)]


def test_a_line_an_epoch_with_all_that_was_found(tmp_path):
    fit(fresh_state(), training_setup(tmp_path, Log(), validate=held_out()))
    first = json.loads(lines(tmp_path)[0])
    assert len(lines(tmp_path)) == STEP.epochs
    assert list(first) == ["epoch", "learning_rate", "losses", "dice", "labels", "timing"]
    assert (first["epoch"], first["learning_rate"]) == (1, 0.01)
    assert set(first["losses"]) == {"loss", "dice_loss", "held_out_dice_loss"}
    assert first["dice"].keys() == {"organ"} and first["labels"].keys() == {"bright"}
    assert first["timing"].keys() == {"seconds", "samples_per_s"}


@pytest.mark.parametrize("written", [False, True])
def test_a_run_killed_before_or_after_its_log_was_written_ends_with_that_of_an_unbroken_one(tmp_path, written):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(fresh_state(), training_setup(whole, Log(), validate=held_out()))

    def kill(event):
        if isinstance(event, EpochDone) and event.record.epoch == 2:
            raise KeyboardInterrupt

    callbacks = (Log(), kill) if written else (kill, Log())
    with pytest.raises(KeyboardInterrupt):
        fit(fresh_state(), training_setup(broken, *callbacks, validate=held_out()))
    assert len(lines(broken)) == 1 + written
    state = fresh_state()
    assert checkpoints(broken).load(state, print)
    fit(state, training_setup(broken, Log(), validate=held_out()))
    assert untimed(broken) == untimed(whole) and len(untimed(whole)) == STEP.epochs


def test_a_picture_is_there_after_the_first_epoch(tmp_path):
    seen = []
    setup = training_setup(tmp_path, Curve(), lambda e: seen.append((tmp_path / "progress.png").is_file()))
    fit(fresh_state(), setup)
    assert seen == [False] * (1 + STEP.batches_per_epoch) + [True] * (len(seen) - 1 - STEP.batches_per_epoch)
    assert (tmp_path / "progress.png").read_bytes().startswith(b"\x89PNG")
