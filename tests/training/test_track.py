import sys

import pytest

from flarenet.errors import UsageError
from flarenet.training.callbacks import EpochDone
from flarenet.training.loop import fit
from flarenet.training.track import TensorBoard
from tests.training.tiny import LABELS, STEP, fresh_state, held_out, training_setup


def scalars(folder):
    """{name: [(epoch, value)]} and the epochs with a picture, as TensorBoard shows them."""
    loaded = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    seen = loaded.EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    seen.Reload()
    tags = seen.Tags()
    found = {tag: [(event.step, event.value) for event in seen.Scalars(tag)] for tag in tags["scalars"]}
    return found, [event.step for tag in tags["images"] for event in seen.Images(tag)]


def test_tensorboard_shows_what_the_log_holds(tmp_path):
    pytest.importorskip("tensorboard")
    state = fresh_state()
    fit(state, training_setup(tmp_path, TensorBoard(LABELS), validate=held_out()))
    found, pictures = scalars(tmp_path)
    wanted = {"learning rate", "loss/loss", "Dice of groups/organ", "Dice of labels/bright", "timing/samples_per_s"}
    assert wanted <= set(found)
    losses = [(record.epoch, pytest.approx(record.losses["loss"], rel=1e-6)) for record in state.history]
    assert found["loss/loss"] == losses
    assert pictures == list(range(1, STEP.epochs + 1))


def test_epochs_of_a_broken_run_are_there_once(tmp_path):
    pytest.importorskip("tensorboard")

    def stop(event):
        if isinstance(event, EpochDone) and event.record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(fresh_state(), training_setup(tmp_path, TensorBoard(LABELS), stop))
    state, again = fresh_state(), training_setup(tmp_path, TensorBoard(LABELS))
    assert again.checkpoints.load(state, print)
    fit(state, again)
    found, _ = scalars(tmp_path)
    assert [epoch for epoch, _ in found["loss/loss"]] == [1, 2, 3, 4]


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match="flarenet\\[track\\]"):
        TensorBoard(LABELS)
