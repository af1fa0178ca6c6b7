"""Training for long: what is taken is given back. FLARENET_FULL=1 runs all of it."""

import os

import numpy as np
import psutil

from flarenet.training.callbacks import EpochDone
from flarenet.training.curve import Log
from flarenet.training.loop import fit
from tests.training.tiny import STEP, fresh_state, held_out, training_setup

FULL = os.environ.get("FLARENET_FULL") == "1"
EPOCHS, BATCHES = (200, 100) if FULL else (20, 10)
WARM = 10  # epochs
MOST_KB_PER_BATCH = 1
MOST_STATES = 2


def test_l04_many_batches(tmp_path):
    """No more than two states lie on the disk and, in full, RSS grows by at most 1 kB a batch."""
    process, rss_kb, states = psutil.Process(), [], []

    def watch(event):
        if isinstance(event, EpochDone):
            rss_kb.append(process.memory_info().rss / 1024)
            states.append(len(list(tmp_path.glob("state-*"))))

    step = STEP.model_copy(update={"epochs": EPOCHS, "batches_per_epoch": BATCHES})
    state = fresh_state()
    fit(state, training_setup(tmp_path, Log(), watch, validate=held_out(), step=step))
    slope_kb, _ = np.polyfit(np.arange(WARM, EPOCHS) * BATCHES, rss_kb[WARM:], 1)
    print(f"{EPOCHS * BATCHES} batches: {slope_kb:.3f} kB a batch, {rss_kb[-1] / 1024:.0f} MB at the end")
    assert state.epoch == EPOCHS and len((tmp_path / "log.jsonl").read_text().splitlines()) == EPOCHS
    if FULL:  # in fewer batches the heap has not come to rest
        assert slope_kb <= MOST_KB_PER_BATCH
    assert max(states) <= 2 * MOST_STATES  # a state is a pair of files
