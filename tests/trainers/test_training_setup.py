"""From samples to batches, their validation and their checkpoints: what a step and its trainer ask for is passed on."""

from collections import Counter

import numpy as np
import pytest
import torch

from flarenet.data.labels import LabelSet
from flarenet.data.places import places_of
from flarenet.errors import UsageError
from flarenet.planning.plan import Augmentation
from flarenet.preparation.prepare import FULL
from flarenet.trainers.training_setup import held_out_batches, make_setup
from flarenet.training.batches import Sample
from flarenet.training.loader import Loader
from flarenet.training.losses import Loss
from tests.inference.test_predict import plan_for
from tests.training.tiny import CPU, STEP, fresh_state

LABELS = LabelSet(names=("background", "a", "b", "c"), groups={"organ": (1, 2, 3)})
NOISE = Augmentation(probability=1.0, noise_sd=0.05, scale=0.0, shift=0.0, foreground=1.0)


def sample(name, *, answers, holds):
    """A grey case of two slices; one voxel of each label that it holds, 16 pixels from the next."""
    organ = np.zeros((2, 64, 64), dtype=np.uint8)
    for label in holds:
        organ[1, 16 * label, 16 * label] = label
    annotated = {"organ": np.array([True, *(label in answers for label in (1, 2, 3))])}
    grey = np.full(organ.shape, FULL // 2, dtype=np.int16)
    return Sample(name, grey, {"organ": organ}, annotated, {"organ": places_of(organ)[0]}, key=name, labelled=answers)


MANY, ONE = sample("many", answers=(1, 2, 3), holds=(1,)), sample("one", answers=(1,), holds=(1,))


def setup_of(folder, train, held_out=(), *, objective=None, **changes):
    """The setup for such cases in patches of 8 x 8, four in a batch."""
    plan = plan_for(("organ",), 2, (8, 8)).model_copy(update={"labels": LABELS})
    return make_setup(
        STEP.model_copy(update={"batch_size": 4, **changes}),
        train,
        held_out,
        plan=plan,
        part=plan.trainers["Threshold"].model_copy(update={"augmentation": NOISE}),
        loader=Loader(0),
        objective=objective,
        device=CPU,
        starts_from=None,
        folder=folder,
        title="test",
    )


def test_cases_are_drawn_by_what_they_answer_about_their_labels_and_get_noise(tmp_path):
    setup = setup_of(tmp_path, [MANY, ONE], balance=1.0)
    for index in range(5):
        batch = setup.batches.batch(0, index)
        assert Counter(batch.names) == {"many": 3, "one": 1}
        assert batch.labels["organ"].flatten(1).any(dim=1).all()
        assert (batch.image.flatten(1).std(dim=1) > 0.03).all()


def test_what_is_held_out_is_judged_about_its_labels_and_as_it_is(tmp_path):
    seen = []

    def objective(network, batch):
        seen.append(batch)
        return Loss(torch.zeros(()), torch.zeros(()))

    setup_of(tmp_path, [MANY], [ONE], objective=objective).validate(torch.nn.Identity())
    assert seen
    for batch in seen:
        assert set(batch.names) == {"one"} and batch.labels["organ"].flatten(1).any(dim=1).all()
        torch.testing.assert_close(batch.image, torch.full((4, 1, 8, 8), (FULL // 2) / FULL))


def test_a_rare_label_its_case_and_patches_about_it_are_drawn_more_often(tmp_path):
    """One of 16 cases holds label 2, so both are drawn sqrt(16) times: the case 4 of 19 times, about it 4 of 5."""
    rare, common = sample("rare", answers=(1, 2), holds=(1, 2)), sample("common", answers=(1, 2), holds=(1,))
    setup = setup_of(tmp_path, [rare, *[common] * 15], rare=1.0)
    batches = [setup.batches.batch(0, index) for index in range(40)]
    assert sum(batch.names.count("rare") for batch in batches) == pytest.approx(160 * 4 / 19, abs=2)
    about = sum(int((batch.labels["organ"] == 2).flatten(1).any(dim=1).sum()) for batch in batches)
    assert about == pytest.approx(160 * 4 / 19 * 4 / 5, abs=5)


def test_a_state_is_gone_on_from_by_the_same_step_of_the_same_cases(tmp_path):
    setup_of(tmp_path, [MANY]).checkpoints.save(fresh_state())
    assert setup_of(tmp_path, [MANY]).checkpoints.load(fresh_state(), pytest.fail)
    for setup, was in (
        (setup_of(tmp_path, [MANY], learning_rate=0.02), "step.learning_rate=0.01"),
        (setup_of(tmp_path, [ONE]), 'train.many="many", train.one=null'),
    ):
        with pytest.raises(UsageError) as caught:
            setup.checkpoints.load(fresh_state(), pytest.fail)
        assert caught.value.found == was


@pytest.mark.parametrize(
    ("selection", "batches_per_epoch", "cases", "expected"),
    [
        ("lowest loss", 50, 10, 10),  # a fifth of the batches
        ("best dice", 50, 10, 20),  # 40 patches, four of each case, in batches of 2
        ("best dice", 50, 200, 50),  # 100 patches are enough
        ("best dice", 500, 200, 100),  # a fifth is more
        ("last", 2, 10, 20),
        ("last", 500, 10, 100),
    ],
)
def test_enough_held_out_patches_are_scored(selection, batches_per_epoch, cases, expected):
    step = STEP.model_copy(update={"selection": selection, "batches_per_epoch": batches_per_epoch})
    assert step.batch_size == 2 and held_out_batches(step, cases) == expected
