"""map_cases: order, failures of single cases, and the death of a process."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest

from flarenet.data.cases import map_cases
from flarenet.errors import DatasetError, StorageError


@dataclass(frozen=True)
class Item:
    name: str
    number: int


ITEMS = [Item(f"case{n}", n) for n in range(5)]


def square_or_fail(item: Item) -> int:
    """Fails for 1 as a bad file does, for 3 as a full disk does."""
    if item.number == 1:
        raise DatasetError("one.nii.gz", found="noise", expected="an image", remedy="look at it")
    if item.number == 3:
        raise OSError(28, "No space left on device")
    return item.number**2


def die_at_two(item: Item) -> int:
    if item.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item.number


def divide(item: Item) -> float:
    return 1 / item.number


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_failures_are_reported_and_the_others_go_on_in_order(workers):
    results, failures = map_cases(square_or_fail, ITEMS, workers=workers, describe="square")
    assert results == [0, 4, 16]
    assert [item.name for item, _ in failures] == ["case1", "case3"]
    first, second = (error for _, error in failures)
    assert isinstance(first, DatasetError)
    assert (first.thing, first.found, first.remedy) == ("one.nii.gz", "noise", "look at it")
    assert isinstance(second, StorageError)
    assert "case3" in second.thing and "No space left" in second.found


def test_a_killed_process_loses_its_own_case_only():
    results, failures = map_cases(die_at_two, ITEMS, workers=2, describe="die")
    assert results == [0, 1, 3, 4]
    assert [item.name for item, _ in failures] == ["case2"]
    assert "exit code -9" in failures[0][1].found
    assert "memory" in failures[0][1].remedy


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_of_the_program_is_not_hidden(workers):
    with pytest.raises(ZeroDivisionError):
        map_cases(divide, ITEMS, workers=workers, describe="divide")


def test_no_item_gives_no_result():
    assert map_cases(divide, [], workers=4, describe="nothing") == ([], [])


def test_progress_goes_to_stderr(capfd):
    map_cases(square_or_fail, ITEMS[:1], workers=1, describe="squares")
    out, err = capfd.readouterr()
    assert out == ""
    assert "squares" in err and "1/1" in err
