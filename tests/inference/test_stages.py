"""Stages beside each other: everything once and in order, one error for all, and no thread left behind."""

import itertools
import threading
import time

import pytest

from flarenet.inference.stages import Stages


def named(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_items_pass_all_stages_in_order():
    with Stages() as stages:
        first = stages.ahead("first", range(100), most=3)
        second = stages.ahead("second", (2 * item for item in first), most=2)
        assert list(second) == list(range(0, 200, 2))
    assert set(stages.seconds) == {"first", "second"} and not named("first") and not named("second")


@pytest.mark.parametrize("fails", ["first", "second"])
def test_an_error_of_any_stage_is_raised_where_the_items_are_taken(fails):
    def passed(name, items):
        for item in items:
            if name == fails and item == 5:
                raise MemoryError(name)
            yield item

    taken = []
    with pytest.raises(MemoryError, match=fails), Stages() as stages:
        first = stages.ahead("first", passed("first", itertools.count()))
        for item in stages.ahead("second", passed("second", first)):
            taken.append(item)
    assert taken == [0, 1, 2, 3, 4]
    assert not named("first") and not named("second")


def test_an_error_at_the_end_stops_the_stages_before():
    with pytest.raises(KeyError), Stages() as stages:
        first = stages.ahead("first", itertools.count(), most=1)
        for _ in stages.ahead("second", first, most=1):
            raise KeyError
    assert not named("first") and not named("second")


def test_no_stage_runs_further_ahead_than_it_may():
    made = []
    with Stages() as stages:
        items = stages.ahead("first", (made.append(n) or n for n in itertools.count()), most=2)
        assert next(items) == 0
        time.sleep(0.3)
        assert len(made) <= 4  # one taken, two that wait, one in hand


def test_what_goes_wrong_after_the_end_is_nobodys_error(monkeypatch):
    unheard, left = [], threading.Event()
    monkeypatch.setattr(threading, "excepthook", unheard.append)

    def source():
        yield 0
        left.wait(10)
        time.sleep(0.2)  # the block has ended by then
        raise ValueError("too late")

    with Stages() as stages:
        assert next(stages.ahead("source", source())) == 0
        left.set()
    assert not unheard
