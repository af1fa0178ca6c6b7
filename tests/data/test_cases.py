"""map_cases: order, failures of single cases, memory, and faults of the program."""

from __future__ import annotations

from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from flarenet.data import cases
from flarenet.data.cases import CaseFault, Pool, map_cases
from flarenet.errors import DatasetError, NoRoom, StorageError


@dataclass(frozen=True)
class Item:
    name: str
    number: int


ITEMS = [Item(f"case{n}", n) for n in range(5)]


def square_or_fail(item: Item) -> int:
    """Fails for 1 as a bad file does, for 3 as a full disk does, for 4 as too large a scan does."""
    if item.number == 1:
        raise DatasetError("one.nii.gz", found="noise", expected="an image", remedy="look at it")
    if item.number == 3:
        raise OSError(28, "No space left on device")
    if item.number == 4:
        raise MemoryError
    return item.number**2


def divide(item: Item) -> float:
    return 1 / item.number


@pytest.mark.parametrize("pool", [Pool(0), Pool(1), Pool(2), Pool(1, timeout_s=60)])
def test_failures_are_reported_and_the_others_go_on_in_order(pool):
    results, failures = map_cases(square_or_fail, ITEMS, pool=pool, describe="square")
    assert results == [0, 4]
    assert [item.name for item, _ in failures] == ["case1", "case3", "case4"]
    bad_file, full_disk, large = (error for _, error in failures)
    assert isinstance(bad_file, DatasetError)
    assert bad_file.__traceback__ is None  # through which it would hold what the work held
    assert (bad_file.thing, bad_file.found, bad_file.remedy) == ("one.nii.gz", "noise", "look at it")
    assert isinstance(full_disk, StorageError)
    assert "case3" in full_disk.thing and "No space left" in full_disk.found
    assert isinstance(large, StorageError) and large.found == "not enough memory"
    assert ("fewer workers" in large.remedy) == (pool.workers > 1) and "more memory" in large.remedy


def test_a_case_for_which_memory_ran_out_is_told_with_what_it_was_thought_to_need():
    needs = {1: 0.0, 4: 12.4}
    _, failures = map_cases(
        square_or_fail, [ITEMS[1], ITEMS[4]], describe="square", need_mb=lambda item: needs[item.number]
    )
    _, (_, large) = failures
    assert (large.found, large.expected) == ("not enough memory", "about 12 MB for this case")
    assert large.remedy == "a machine with more memory"


def store(item: Item) -> None:
    """Finds the disk full at the second item."""
    assert item.number < 2
    if item.number == 1:
        raise NoRoom("where cases are stored", found="No space left on device", expected="room")


@pytest.mark.parametrize("pool", [Pool(), Pool(1, timeout_s=60)])
def test_a_full_disk_ends_the_work_at_once(pool):
    with pytest.raises(NoRoom, match="where cases are stored") as raised:
        map_cases(store, ITEMS, pool=pool, describe="store")
    assert (raised.value.found, raised.value.exit_code) == ("No space left on device", 5)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_of_the_program_is_not_hidden(workers):
    with pytest.raises(CaseFault, match="case0: ZeroDivisionError: division by zero") as raised:
        map_cases(divide, ITEMS, pool=Pool(workers), describe="divide")
    assert "return 1 / item.number" in str(raised.value.__cause__)  # the traceback of the other process


def test_no_item_gives_no_result_and_no_bar(capsys):
    assert map_cases(divide, [], pool=Pool(4), describe="nothing") == ([], [])
    assert capsys.readouterr().err == ""


def test_progress_goes_to_stderr(capfd):
    map_cases(square_or_fail, ITEMS[:1], describe="squares")
    out, err = capfd.readouterr()
    assert out == ""
    assert "squares" in err and "1/1" in err and "left" in err


class Recorder(AbstractContextManager):
    """Workers of which the call that began last ends when somebody waits; notes what ran side by side."""

    def __init__(self, slots: int, memory_mb: float) -> None:
        self.slots, self.memory_mb, self.largest_mb = slots, memory_mb, memory_mb
        self.running: dict[Future, tuple] = {}
        self.seen: list[list[int]] = []

    def __exit__(self, *_: object) -> None:
        assert not self.running

    def submit(self, call, item):
        future = Future()
        self.running[future] = call, item
        return future

    def wait(self, futures, return_when):
        assert set(futures) == set(self.running)
        self.seen.append(sorted(item.number for _, item in self.running.values()))
        future, (call, item) = self.running.popitem()
        future.set_result(call(item))
        return wait(futures, return_when=return_when)


def identity(item: Item) -> int:
    return item.number


def test_no_more_run_at_once_than_fit_in_memory_and_the_largest_start_first(monkeypatch):
    workers = Recorder(slots=3, memory_mb=100)
    monkeypatch.setattr(cases, "_workers", lambda pool, count: workers)
    monkeypatch.setattr(cases, "wait", workers.wait)
    items = [Item(str(mb), mb) for mb in (10, 30, 95, 60, 101, 40)]
    results, failures = map_cases(identity, items, pool=Pool(3), describe="sizes", need_mb=lambda item: item.number)
    assert results == [10, 30, 95, 60, 40]
    # 95 leaves no room; 60 and 40 fill it; when 40, begun last, is done, 30 fits beside 60, and 10 beside both
    assert workers.seen == [[95], [40, 60], [10, 30, 60], [30, 60], [60]]
    [(refused, error)] = failures
    assert refused.number == 101 and isinstance(error, StorageError)
    assert error.found == "100 MB of memory" and error.expected == "about 101 MB for this case"
    assert error.remedy == "a machine with more memory"
