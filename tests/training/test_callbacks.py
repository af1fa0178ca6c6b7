import pytest

from flarenet.errors import RunError, StorageError
from flarenet.training.callbacks import BatchDone, Ended, EpochDone, Started
from flarenet.training.loop import fit
from tests.training.tiny import STEP, checkpoints, fresh_state, held_out, training_setup


def test_events_come_in_order_and_say_what_happened(tmp_path):
    events = []
    state = fresh_state()
    fit(state, training_setup(tmp_path, events.append, validate=held_out()))
    each = [*[BatchDone] * STEP.batches_per_epoch, EpochDone]
    assert [type(event) for event in events] == [Started, *each * STEP.epochs, Ended]
    assert events[0].history == () and events[0].title == "test"
    assert [(e.epoch, e.index) for e in events if isinstance(e, BatchDone)][:4] == [(1, 0), (1, 1), (1, 2), (2, 0)]
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert [event.record.epoch for event in epochs] == [1, 2, 3, 4]
    losses = [event.loss for event in events if isinstance(event, BatchDone)]
    assert epochs[0].record.losses["loss"] == pytest.approx(sum(losses[:3]) / 3)
    assert epochs[-1].history == tuple(state.history)
    assert events[-1].error is None


def test_a_run_that_goes_on_says_what_was_done_before(tmp_path):
    fit(fresh_state(), training_setup(tmp_path, step=STEP.model_copy(update={"epochs": 2})))
    state, events = fresh_state(), []
    assert checkpoints(tmp_path).load(state, print)
    fit(state, training_setup(tmp_path, events.append))
    assert [record.epoch for record in events[0].history] == [1, 2]
    assert [event.record.epoch for event in events if isinstance(event, EpochDone)] == [3, 4]


def test_what_a_callback_raises_stops_the_run_with_the_state_saved(tmp_path):
    ended = []

    def faulty(event):
        if isinstance(event, EpochDone) and event.record.epoch == 2:
            raise ZeroDivisionError("by zero")

    with pytest.raises(RunError, match="callback faulty on EpochDone") as error:
        fit(fresh_state(), training_setup(tmp_path, faulty, lambda event: ended.append(event)))
    assert "ZeroDivisionError: by zero" in str(error.value)
    assert isinstance(ended[-1], Ended) and ended[-1].error is error.value
    state = fresh_state()
    assert checkpoints(tmp_path).load(state, print) and state.epoch == 2


def test_errors_with_a_meaning_of_their_own_keep_it(tmp_path):
    def full(event):
        raise StorageError("disk", found="no room")

    with pytest.raises(StorageError, match="disk"):
        fit(fresh_state(), training_setup(tmp_path, full))


def test_an_error_at_the_end_hides_neither_the_first_one_nor_the_end_from_others(tmp_path):
    ended = []

    def faulty(event):
        if isinstance(event, Ended):
            raise ValueError("at the end")
        if isinstance(event, BatchDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(fresh_state(), training_setup(tmp_path, faulty, ended.append))
    assert isinstance(ended[-1], Ended)

    def late(event):
        if isinstance(event, Ended):
            raise ValueError("at the end")

    with pytest.raises(RunError, match="callback late on Ended"):
        fit(fresh_state(), training_setup(tmp_path, late, ended.append))
    assert ended[-1] == Ended(None)
