"""Many scans through one predictor: in order, overlapped, bounded."""

import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from flarenet.errors import DatasetError, StorageError
from flarenet.inference.many import predict_many, predict_pairs
from flarenet.inference.predict import Predictor
from flarenet.inference.prefetch import prefetch, prefetch_files
from flarenet.volume import Grid, Volume
from tests.inference.test_predict import AIR_HU, BODY_HU, model_folder, write_scan

SOURCES = Path(__file__).resolve().parents[2]
AFFINE = np.eye(4)[[2, 1, 0, 3]]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(model_folder(tmp_path_factory.mktemp("model")), device="cpu", precision="fp32")


def scan(number, shape=(4, 20, 22)):
    body = np.random.default_rng(number).random(shape) > 0.5
    return Volume(np.where(body, BODY_HU, AIR_HU).astype(np.int16), Grid(shape, AFFINE))


def test_results_come_in_order_and_are_those_of_one_by_one(predictor):
    scans = [scan(number) for number in range(5)]
    results = list(predict_many(predictor, iter(scans)))
    assert [image for image, _ in results] == scans
    for image, result in results:
        np.testing.assert_array_equal(result.labels, predictor.predict(image).labels)
        assert result.labels.any() and result.grid is image.grid


def test_a_scan_that_fails_is_given_with_its_error_and_the_others_go_on(predictor, tmp_path):
    for name in "abc":
        write_scan(tmp_path / f"{name}.nii.gz", np.arange(64).reshape(4, 4, 4) > 30, np.eye(4))
    (tmp_path / "b.nii.gz").write_bytes(b"this is no image")
    results = dict(predict_many(predictor, sorted(tmp_path.iterdir())))
    assert [path.name for path in results] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    assert isinstance(results[tmp_path / "b.nii.gz"], DatasetError) and "b.nii.gz" in str(
        results[tmp_path / "b.nii.gz"]
    )
    assert results[tmp_path / "c.nii.gz"].labels.any()
    assert results[tmp_path / "b.nii.gz"].__traceback__ is None  # through which it would hold the scan


def test_d04_a_scan_gets_the_same_file_alone_and_among_others_in_any_order(predictor, tmp_path):
    images = [tmp_path / f"{name}.nii.gz" for name in "abc"]
    for number, image in enumerate(images):
        write_scan(image, np.random.default_rng(number).random((9, 10, 5 + number)) > 0.5, np.eye(4))
    written = set()
    for number, order in enumerate((images, images[::-1], *([image] for image in images))):
        outputs = {image: tmp_path / f"out_{number}" / image.name for image in order}
        done, failed = predict_pairs(predictor, outputs, progress=lambda image, result: None)
        assert done == list(outputs.values()) and not failed
        written |= {(file.name, file.read_bytes()) for file in done}
    assert sorted(name for name, _ in written) == [image.name for image in images]


def test_the_next_item_is_worked_on_while_one_is_used():
    second_is_done = threading.Event()

    def work(item):
        if item == 2:
            second_is_done.set()
        return -item

    results = prefetch(work, [1, 2, 3])
    first, future = next(results)
    assert (first, future.result()) == (1, -1)
    assert second_is_done.wait(10)  # though nobody has asked for it
    assert [(item, future.result()) for item, future in results] == [(2, -2), (3, -3)]


def test_the_first_item_is_worked_on_before_it_is_asked_for():
    begun = threading.Event()
    results = prefetch(lambda item: begun.set(), [1, 2])
    assert begun.wait(10)
    assert [(item, future.result()) for item, future in results] == [(1, None), (2, None)]


@pytest.mark.parametrize("items", [[], [1]])
@pytest.mark.parametrize("each", [prefetch, prefetch_files])
def test_few_items_come_through(items, each):
    assert [(item, future.result()) for item, future in each(str, items)] == [(item, str(item)) for item in items]


def test_f12_a_read_that_never_ends_fails_in_time_and_the_next_is_read():
    ended = threading.Event()

    def read(item):
        if item == 2:
            ended.wait(60)
        if item == 3:
            raise TimeoutError("no answer")  # of the disk
        return -item

    results = dict(prefetch_files(read, [1, 2, 3, 4], timeout_s=1))
    ended.set()
    assert results[1].result() == -1 and results[4].result() == -4
    with pytest.raises(StorageError, match="^2\n  found: not read after 1 s"):
        results[2].result()
    with pytest.raises(TimeoutError, match="no answer"):
        results[3].result()


def test_f12_neither_who_stops_early_nor_the_end_of_the_process_waits_for_a_read_that_never_ends():
    script = (
        "import threading\nfrom flarenet.inference import prefetch\nprefetch.CLOSING_S = 0.1\n"
        "given, kept = (prefetch.prefetch_files(lambda item: threading.Event().wait(), [1, 2]) for _ in range(2))\n"
        "next(given), next(kept)\ngiven.close()\nprint('closed')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=SOURCES, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")


def test_l05_a_slow_taker_meets_few_scans_in_memory(predictor):
    alive = weakref.WeakSet()
    most = 0

    def scans():
        for number in range(12):
            made = scan(number)
            alive.add(made)
            yield made
            del made

    for image, result in predict_many(predictor, scans()):
        # the taker is slow: whatever can be done ahead of it is done
        deadline = threading.Event()
        deadline.wait(0.05)
        most = max(most, len(alive))
        del image, result
    assert 2 <= most <= 4  # the one in use, the one predicted, two read or about to be


def test_who_stops_early_leaves_no_thread(predictor):
    before = threading.active_count()
    results = predict_many(predictor, (scan(number) for number in range(9)))
    next(results)
    results.close()
    assert threading.active_count() == before
