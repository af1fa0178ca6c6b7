"""map_cases on a dask cluster of processes gives what it gives here; what dies or sticks is named, the rest is done."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from flarenet.data.cases import CaseFault, Pool, map_cases
from flarenet.errors import StorageError, UsageError

distributed = pytest.importorskip("distributed", reason="needs the extra `cluster`")
from flarenet.data.cluster import Cluster  # noqa: E402 - it imports distributed


@dataclass(frozen=True)
class Item:
    name: str
    number: int
    folder: Path


@pytest.fixture(scope="module")
def scheduler():
    import dask

    # a case whose worker died is given to one other worker
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit="1GB"
        ) as cluster:
            yield cluster.scheduler_address


@pytest.fixture
def items(tmp_path):
    return [Item(f"case{n}", n, tmp_path) for n in range(6)]


def write_or_fail(item: Item) -> str:
    if item.number == 1:
        raise OSError(28, "No space left on device")
    content = hashlib.sha256(item.name.encode()).digest() * 1000
    (item.folder / item.name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def die_at_two(item: Item) -> int:
    if item.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item.number


def die_at_first(item: Item) -> int:
    seen = item.folder / item.name
    if item.number == 2 and not seen.exists():
        seen.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item.number


def stuck_at_two(item: Item) -> int:
    time.sleep(60 if item.number == 2 else 0)
    return item.number


def divide(item: Item) -> float:
    return 1 / item.number


def files_of(items):
    return {path.name: path.read_bytes() for path in items[0].folder.iterdir()}


def test_the_same_results_files_and_failures_as_on_one_machine(scheduler, items):
    here, failed_here = map_cases(write_or_fail, items, describe="here")
    files = files_of(items)
    for name in files:
        (items[0].folder / name).unlink()
    there, failed_there = map_cases(write_or_fail, items, pool=Pool(scheduler=scheduler), describe="there")
    assert there == here and files_of(items) == files
    assert [(item, str(error)) for item, error in failed_there] == [(item, str(error)) for item, error in failed_here]


def test_a_case_whose_worker_died_is_done_by_another(scheduler, items):
    done, failed = map_cases(die_at_first, items, pool=Pool(scheduler=scheduler), describe="die once")
    assert (done, failed) == ([0, 1, 2, 3, 4, 5], [])


def test_a_case_that_kills_every_worker_is_named_and_the_rest_is_done(scheduler, items):
    done, failed = map_cases(die_at_two, items, pool=Pool(scheduler=scheduler), describe="die")
    assert done == [0, 1, 3, 4, 5]
    [(item, error)] = failed
    assert item.number == 2 and isinstance(error, StorageError) and "its process died" in error.found


def test_a_stuck_case_is_given_up_and_its_worker_started_anew(scheduler, items):
    began = time.monotonic()
    done, failed = map_cases(stuck_at_two, items, pool=Pool(scheduler=scheduler, timeout_s=1), describe="stuck")
    assert time.monotonic() - began < 15
    assert done == [0, 1, 3, 4, 5]
    [(item, error)] = failed
    assert item.number == 2 and "within its time" in error.found


def test_cases_do_not_wait_for_workers_that_stay_away(monkeypatch, items):
    monkeypatch.setattr("flarenet.data.cluster.ABSENT_S", 1.0)
    here = {"protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}  # or it opens a port on every interface
    with distributed.LocalCluster(n_workers=1, processes=False, **here) as cluster:
        with Cluster(cluster.scheduler_address) as place:
            cluster.scale(0)
            waiting = place.submit(str, items[0])
            assert "no worker any more" in str(waiting.exception(timeout=30))


def test_a_fault_names_its_case(scheduler, items):
    with pytest.raises(CaseFault, match="case0: ZeroDivisionError"):
        map_cases(divide, items, pool=Pool(scheduler=scheduler), describe="divide")


def test_a_case_larger_than_a_worker_is_refused(scheduler, items):
    done, failed = map_cases(
        write_or_fail, items[2:], pool=Pool(scheduler=scheduler), describe="large", need_mb=lambda i: 250 * i.number
    )
    assert len(done) == 2  # 500 and 750 MB; a worker has 10^9 bytes
    assert [(item.number, error.found) for item, error in failed] == [(4, "954 MB of memory"), (5, "954 MB of memory")]


def test_no_scheduler_is_an_error_of_the_environment(monkeypatch, items):
    monkeypatch.setattr("flarenet.data.cluster.ANSWER_S", 0.5)
    with pytest.raises(StorageError, match="tcp://127.0.0.1:9"):
        map_cases(divide, items, pool=Pool(scheduler="tcp://127.0.0.1:9"), describe="nobody")


def test_without_the_extra_it_is_said_how_to_install_it(monkeypatch, items):
    monkeypatch.setitem(sys.modules, "flarenet.data.cluster", None)
    with pytest.raises(UsageError, match="flarenet\\[cluster\\]"):
        map_cases(divide, items, pool=Pool(scheduler="tcp://127.0.0.1:9"), describe="nobody")
