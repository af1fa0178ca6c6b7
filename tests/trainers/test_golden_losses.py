"""The losses of a small training, number by number: what changes in how anything is learned shows here.

Each file also says by which libraries and on which processor they came about: these decide the last digits.
WRITE_GOLDEN=1 pytest tests/trainers/test_golden_losses.py writes them anew; say why they are others.
"""

import json
import os
import platform
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from flarenet.data.places import places_of
from flarenet.planning.plan import Augmentation, NetworkSpec, Step, Subset, Update
from flarenet.trainers.training_setup import make_setup
from flarenet.training.batches import Sample
from flarenet.training.loader import Loader
from flarenet.training.loop import fit
from tests.trainers.test_trainer import trainer_of
from tests.training.tiny import CPU

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ALIKE, ELSEWHERE = 1e-6, 1e-3
"""By how much losses may differ, relative to them: by the libraries and the processor on file, and by others. Others
add in another order, and each update of the weights amplifies that."""

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
FLAT = {
    "network": NetworkSpec(
        kind="dual_decoder", dimensions=2, features=(4, 4, 8, 8, 8, 4), groups=GROUPS, deep_supervision=2
    ),
    # nothing turns: which pixel is the nearest one may be decided by the last digit
    "augmentation": Augmentation(gamma=0.2, foreground=0.5),
    "update": Update(accumulate=2, ema=0.9),
    "steps": (STEP,),
}
DEEP = {
    "network": NetworkSpec(kind="unet", dimensions=3, features=(4, 4, 8, 8, 8, 4), groups=GROUPS),
    "augmentation": Augmentation(gamma=0.2, foreground=0.5),
    "steps": (STEP.model_copy(update={"batch_size": 2, "batches_per_epoch": 3, "epochs": 2, "warmup_epochs": 0}),),
}
TRAININGS = {"losses": (2, FLAT), "losses_3d": (3, DEEP)}
"""Name of the file -> dimensions of the patches, the trainer's part of the plan."""


def sample(number, *answered, slices):
    """Noise with a brighter organ and, within it, a tumor that is brighter still; of some cases one is not drawn."""
    image = np.random.default_rng(number).integers(0, 600, (slices, 40, 40))
    organ, cancer = np.zeros((2, *image.shape), dtype=np.uint8)
    organ[1:, 8 : 24 + number, 10:30], cancer[1 : slices - 1, 12:18, 14:20] = 1, 1
    image[organ > 0] += 600
    image[cancer > 0] += 600
    maps = {group: drawn for group, drawn in (("organ", organ), ("cancer", cancer)) if group in answered}
    annotated = {group: np.array([group in answered] * 2) for group in GROUPS}
    places = {group: places_of(drawn)[0] for group, drawn in maps.items()}
    labelled = tuple(value for value, group in enumerate(GROUPS, start=1) if group in answered)
    return Sample(f"case {number}", image.astype(np.int16), maps, annotated, places, labelled=labelled)


def losses_of(name, folder):
    """The losses of each epoch."""
    dimensions, part = TRAININGS[name]
    one, step = trainer_of(folder, dimensions=dimensions, **part)
    drawn = partial(sample, slices=4 if dimensions == 2 else 34)
    setup = make_setup(
        step,
        [drawn(0, *GROUPS), drawn(1, *GROUPS), drawn(2, "organ"), drawn(3, "cancer")],
        [drawn(4, *GROUPS)],
        plan=one._plan,
        part=one._part,
        loader=Loader(0),
        objective=partial(one.objective, step),
        device=CPU,
        starts_from=None,
        folder=folder / "run",
        title="test",
    )
    state = one._state(step, {})
    fit(state, setup)
    return [record.losses for record in state.history]


def made_by():
    """What decides the last digits: the libraries, and the processor, by which they choose in which order they add."""
    first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
    named = re.findall(r"^(?:vendor_id|cpu family|model|model name)\s*: (.*)$", first, re.MULTILINE)
    processor = " ".join([platform.machine(), *named, torch.backends.cpu.get_cpu_capability()])
    return {"torch": torch.__version__, "numpy": np.__version__, "processor": processor}


@pytest.fixture
def one_thread():
    """Several would add in an order of their own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", TRAININGS)
def test_the_losses_are_those_on_file_and_the_same_each_time(one_thread, tmp_path, name):
    path = GOLDEN / f"{name}.json"
    losses, again = (losses_of(name, tmp_path / each) for each in ("first", "again"))
    assert losses == again
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(json.dumps({**made_by(), "losses": losses}, indent=1) + "\n")
    golden = json.loads(path.read_text())
    assert len(losses) == len(golden["losses"]) == TRAININGS[name][1]["steps"][0].epochs
    alike = made_by().items() <= golden.items()
    for found, wanted in zip(losses, golden["losses"]):
        assert found == pytest.approx(wanted, rel=ALIKE if alike else ELSEWHERE)
