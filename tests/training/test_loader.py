"""Loader processes: the same batches in the same order whatever their number, never far ahead, small to send."""

import multiprocessing
import os
import signal
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch

from flarenet.data.store import Store
from flarenet.planning.plan import Augmentation
from flarenet.preparation.prepare import FULL
from flarenet.training.batches import Batches, Sample
from flarenet.training.loader import Loader, PrefetchedBatches, default_workers
from flarenet.volume import Grid

EPOCHS, PER_EPOCH = 2, 5
GRID = Grid((6, 40, 36), np.diag([2.0, 1.0, 1.0, 1.0]))


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Four stored cases with a cube of label 1 each."""
    store = Store(tmp_path_factory.mktemp("store"))
    found = []
    for number in range(4):
        image = np.random.default_rng(number).integers(0, FULL, GRID.shape, dtype=np.int16)
        organ = np.zeros(GRID.shape, dtype=np.uint8)
        organ[2:5, 10:20, 10 + number : 20 + number] = 1
        store.write(
            f"case_{number}", annotated=[1], key="k", grid=GRID, original=GRID, image=image, maps={"organ": organ}
        )
        case = store.read(f"case_{number}")
        found.append(Sample(case.record.name, case.image, case.maps, {"organ": np.ones(2, dtype=bool)}, case.places))
    return found


def source(samples, *, patch=(32, 32), seed=0):
    settings = Augmentation(probability=0.8, rotation_deg=20, zoom=0.2, gamma=0.3)
    return Batches(samples, patch, batch_size=3, seed=seed, augmentation=settings, foreground=0.5, neighbours=1)


def same(a, b):
    groups = a.labels.keys() == b.labels.keys() == a.annotated.keys() == b.annotated.keys()
    labels = all(
        torch.equal(a.labels[g], b.labels[g]) and torch.equal(a.annotated[g], b.annotated[g]) for g in a.labels
    )
    return a.names == b.names and torch.equal(a.image, b.image) and groups and labels


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_any_number_of_workers_gives_the_same_batches(samples, workers):
    """Two sources in turn, as training and validation are; each epoch of the first, then all of the second."""
    train, fixed = source(samples), source(samples, patch=(2, 24, 24), seed=1)
    with Loader(workers) as loader:
        training = loader.prefetch(train, epochs=EPOCHS, batches_per_epoch=PER_EPOCH)
        held_out = loader.prefetch(fixed, epochs=1, batches_per_epoch=3)
        for epoch in range(EPOCHS):
            for index in range(PER_EPOCH):
                assert same(training.batch(epoch, index), train.batch(epoch, index))
            for index in range(3):
                assert same(held_out.batch(0, index), fixed.batch(0, index))


def test_a_jump_gives_the_batch_that_is_asked_for(samples):
    train = source(samples)
    with Loader(1) as loader:
        training = loader.prefetch(train, epochs=EPOCHS, batches_per_epoch=PER_EPOCH)
        for key in ((0, 3), (1, 4), (0, 0), (0, 1), (0, 3)):
            assert same(training.batch(*key), train.batch(*key))


def test_a_signal_for_the_parent_ends_no_process(samples):
    """As where a scheduler sends it to all processes of a job."""
    train, others = source(samples), multiprocessing.active_children()
    with Loader(1) as loader:
        training = loader.prefetch(train, epochs=1, batches_per_epoch=PER_EPOCH)
        assert same(training.batch(0, 0), train.batch(0, 0))
        (process,) = (child for child in multiprocessing.active_children() if child not in others)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(process.pid, number)
        for index in range(1, PER_EPOCH):
            assert same(training.batch(0, index), train.batch(0, index))


class Noting:
    """Stands for a loader, and notes what is made."""

    reach = 4

    def __init__(self):
        self.asked = []

    def ask(self, key):
        self.asked.append(key[1:])

    def take(self, key):
        return key[1:]


def test_what_is_made_ahead_is_bounded_and_ends_with_the_run():
    loader = Noting()
    ahead = PrefetchedBatches(loader, 0, None, EPOCHS, PER_EPOCH)
    everything = [(epoch, index) for epoch in range(EPOCHS) for index in range(PER_EPOCH)]
    for turn, key in enumerate(everything):
        assert ahead.batch(*key) == key
        assert loader.asked == everything[: turn + 1 + loader.reach]


def test_what_goes_to_a_process_is_small(samples):
    """As it would be for whole CT scans: nothing of a case but paths and flags is sent."""
    sent = ForkingPickler.dumps([source(samples)])
    assert len(sent) < 1000 * len(samples)


def test_a_processor_trains_alone():
    assert default_workers(torch.device("cpu")) == 0


@pytest.mark.parametrize(("granted", "trained", "expected"), [(16, 1, 12), (4, 1, 3), (2, 1, 1), (1, 1, 0), (2, 4, 0)])
def test_a_gpu_gets_the_processors_that_are_granted_less_one_for_each_training(monkeypatch, granted, trained, expected):
    monkeypatch.setattr("flarenet.training.loader.processors", lambda: granted)
    monkeypatch.setattr("flarenet.training.loader.processes_here", lambda: trained)
    assert default_workers(torch.device("cuda")) == expected
