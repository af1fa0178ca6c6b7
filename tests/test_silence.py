"""Warnings that are not shown: which ones, and what is left of it afterwards, with several threads too."""

import threading
import warnings

import pytest

from flarenet.silence import silent


@pytest.mark.parametrize(
    "categories, message, shown",
    [
        ((), "", []),
        ((DeprecationWarning,), "", ["a name", "a size"]),
        ((UserWarning, DeprecationWarning), "", []),
        ((UserWarning,), "a size", ["a name", "an old way"]),
    ],
)
def test_what_is_silent_is_not_shown_and_all_is_shown_afterwards(categories, message, shown):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with silent(*categories, message=message):
            warnings.warn("a name", stacklevel=1)
            warnings.warn("a size", stacklevel=1)
            warnings.warn("an old way", DeprecationWarning, stacklevel=1)
        warnings.warn("the end", stacklevel=1)
    assert [str(one.message) for one in seen] == [*shown, "the end"]


def test_a_thread_that_ends_first_lets_no_warning_of_another_one_through():
    """The second thread would begin before the first one ends, and warn after that."""
    second_began, first_ended = threading.Event(), threading.Event()

    def second():
        with silent():
            second_began.set()
            first_ended.wait(10)
            warnings.warn("a patient's name", stacklevel=1)

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        thread = threading.Thread(target=second)
        with silent():
            thread.start()
            second_began.wait(0.1)
        first_ended.set()
        thread.join()
        warnings.warn("the end", stacklevel=1)
    assert [str(one.message) for one in seen] == ["the end"]
