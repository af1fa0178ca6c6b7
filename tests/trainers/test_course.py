import pytest

from flarenet.trainers.course import held_out_batches
from tests.training.tiny import STEP


@pytest.mark.parametrize(
    ("selection", "batches_per_epoch", "cases", "expected"),
    [
        ("lowest loss", 50, 10, 10),  # a fifth of the batches
        ("best dice", 50, 10, 20),  # 40 patches, four of each case, in batches of 2
        ("best dice", 50, 200, 50),  # 100 patches are enough
        ("best dice", 500, 200, 100),  # a fifth is more
        ("last", 2, 10, 1),
    ],
)
def test_the_best_dice_is_chosen_by_enough_held_out_patches(selection, batches_per_epoch, cases, expected):
    step = STEP.model_copy(update={"selection": selection, "batches_per_epoch": batches_per_epoch})
    assert step.batch_size == 2 and held_out_batches(step, cases) == expected
