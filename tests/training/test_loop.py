import pytest

from flarenet.training.callbacks import Findings
from flarenet.training.loop import fit, learning_rate
from tests.training.tiny import STEP, course, fresh_state


def test_the_best_epoch_is_kept(tmp_path):
    dice = iter([0.2, 0.7, 0.5, 0.6])
    state = fresh_state()
    step = STEP.model_copy(update={"selection": "best dice"})
    fit(state, course(tmp_path, validate=lambda network: Findings(dice={"organ": next(dice)}), step=step))
    assert (state.best_epoch, state.best_score) == (2, 0.7)


@pytest.mark.parametrize(
    ("schedule", "warmup", "epoch", "expected"),
    [
        ("constant", 0, 3, 0.01),
        ("polynomial", 0, 0, 0.01),
        ("polynomial", 0, 2, 0.01 * 0.5**0.9),
        ("cosine", 0, 2, 0.005),
        ("polynomial", 2, 1, 0.005),  # half way up
        ("polynomial", 2, 3, 0.01 * 0.5**0.9),  # half way down
    ],
)
def test_learning_rate(schedule, warmup, epoch, expected):
    step = STEP.model_copy(update={"schedule": schedule, "warmup_epochs": warmup})
    assert learning_rate(step, epoch) == pytest.approx(expected)
