"""Signals are noted while a run trains, and do what they always do afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from flarenet.training import signals
from flarenet.training.signals import Requests, noted, save_requests_harmless


def test_nothing_is_requested_without_a_signal():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with noted() as requests:
        assert requests == Requests(stop=False, save=False)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before


def test_an_interrupt_waits_for_the_end(capsys):
    reached = False
    with pytest.raises(KeyboardInterrupt), noted() as requests:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached = True
        requests.check()
        assert requests.stop and not requests.save
    assert reached


def test_a_request_to_save_ends_nothing():
    with noted() as requests:
        signal.raise_signal(signal.SIGUSR1)
        requests.check()
        requests.check()
        assert requests == Requests(stop=False, save=True)


def test_a_request_to_save_where_there_is_nothing_to_save_ends_nothing():
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    with save_requests_harmless():
        signal.raise_signal(signal.SIGUSR1)
        with save_requests_harmless(), noted() as requests:
            signal.raise_signal(signal.SIGUSR1)
        assert requests.wanted
        signal.raise_signal(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_program_hears_the_requests_that_no_run_notes():
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        with save_requests_harmless():
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]


def test_what_comes_during_a_check_is_found_at_the_next(monkeypatch):
    """The others are waited for within a check, which takes as long as the slowest."""
    came = [signal.SIGUSR1, signal.SIGTERM]

    def waiting(*numbers):
        while came:
            signal.raise_signal(came.pop())
        return list(numbers)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    monkeypatch.setattr(signals, "highest", waiting)
    try:
        with noted() as requests:
            requests.check()
            assert not requests.stop and not requests.save
            requests.check()
            assert requests.stop and requests.save and requests.ending == signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_after_the_last_check_is_not_lost():
    with pytest.raises(KeyboardInterrupt), noted() as requests:
        requests.check()
        signal.raise_signal(signal.SIGINT)


def test_an_error_of_the_run_comes_before_the_signal():
    with pytest.raises(ZeroDivisionError), noted():
        signal.raise_signal(signal.SIGINT)
        1 / 0  # noqa: B018


def test_a_thread_sets_no_handlers():
    found = []

    def work():
        with noted() as requests:
            found.append((requests, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(Requests(), signal.getsignal(signal.SIGTERM))]


def test_a_forked_child_ends_by_sigterm_as_ever():
    with noted():
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        ended = (0, 0)
        while not ended[0]:  # a signal that comes while Python sets up the child is lost
            os.kill(child, signal.SIGTERM)
            time.sleep(0.05)
            ended = os.waitpid(child, os.WNOHANG)
        assert os.waitstatus_to_exitcode(ended[1]) in (128 + signal.SIGTERM, -signal.SIGTERM)


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what it starts in the background
    try:
        with noted() as requests:
            signal.raise_signal(signal.SIGINT)
            requests.check()
        assert not requests.stop and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
