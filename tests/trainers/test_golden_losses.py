"""The losses of a small training, number by number: what changes in how anything is learned shows here.

WRITE_GOLDEN=1 pytest tests/trainers/test_golden_losses.py writes them anew; say why they are others.
"""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from flarenet.data.places import places_of
from flarenet.planning.plan import Augmentation, NetworkSpec, Step, Subset, Update
from flarenet.trainers.course import make_course
from flarenet.training.batches import Sample
from flarenet.training.loader import Loader
from flarenet.training.loop import fit
from tests.trainers.test_trainer import trainer_of
from tests.training.tiny import CPU

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "losses.json"
PROCESSORS = 1e-3
"""By how much the losses of two processors, or of two versions of torch, may differ, relative to them."""

GROUPS = ("organ", "cancer")
STEP = Step(
    subset=Subset(patterns=((1,), (2,), (1, 2))),
    groups=GROUPS,
    batch_size=4,
    batches_per_epoch=5,
    balance=0.5,
    exclusion=0.1,
    epochs=4,
    learning_rate=3e-3,
    warmup_epochs=1,
)
PART = {
    "network": NetworkSpec(
        kind="dual_decoder", dimensions=2, features=(4, 4, 8, 8, 8, 4), groups=GROUPS, deep_supervision=2
    ),
    # nothing turns: which pixel is the nearest one may be decided by the last digit
    "augmentation": Augmentation(gamma=0.2, foreground=0.5),
    "update": Update(accumulate=2, ema=0.9),
    "steps": (STEP,),
}


def sample(number, *answered):
    """Noise with a brighter organ and, within it, a tumor that is brighter still; of some cases one is not drawn."""
    image = np.random.default_rng(number).integers(0, 600, (4, 40, 40))
    organ, cancer = np.zeros((2, *image.shape), dtype=np.uint8)
    organ[1:, 8 : 24 + number, 10:30], cancer[1:3, 12:18, 14:20] = 1, 1
    image[organ > 0] += 600
    image[cancer > 0] += 600
    maps = {group: drawn for group, drawn in (("organ", organ), ("cancer", cancer)) if group in answered}
    asked = {group: np.array([group in answered] * 2) for group in GROUPS}
    places = {group: places_of(drawn)[0] for group, drawn in maps.items()}
    return Sample(f"case {number}", image.astype(np.int16), maps, asked, places)


def test_the_losses_are_those_on_file(tmp_path):
    one, step = trainer_of(tmp_path, **PART)
    course = make_course(
        step,
        [sample(0, *GROUPS), sample(1, *GROUPS), sample(2, "organ"), sample(3, "cancer")],
        [sample(4, *GROUPS)],
        plan=one._plan,
        part=one._part,
        loader=Loader(0),
        objective=partial(one.objective, step),
        device=CPU,
        starts_from=None,
        folder=tmp_path / "run",
        title="test",
    )
    state = one._state(step, {})
    fit(state, course)
    losses = [record.losses for record in state.history]
    if os.environ.get("WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(losses, indent=1) + "\n")
    expected = json.loads(GOLDEN.read_text())
    assert len(losses) == len(expected) == step.epochs
    for found, wanted in zip(losses, expected):
        assert found == pytest.approx(wanted, rel=PROCESSORS)
