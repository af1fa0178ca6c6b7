import pytest
import torch

from flarenet.training.batches import Batches
from flarenet.training.callbacks import Findings
from flarenet.training.loop import fastest_convolutions, fit, learning_rate, to_device
from flarenet.training.losses import Loss
from tests.training.tiny import STEP, batches, fresh_state, training_setup


def test_the_best_epoch_is_kept(tmp_path):
    dice = iter([0.2, 0.7, 0.5, 0.6])
    state = fresh_state()
    step = STEP.model_copy(update={"selection": "best dice"})
    fit(state, training_setup(tmp_path, validate=lambda *_: Findings(dice={"organ": next(dice)}), step=step))
    assert (state.best_epoch, state.best_score) == (2, 0.7)


@pytest.mark.parametrize("dice", [[0.0, 0.0, 0.0, 0.0], [0.0, None, None, None]])
def test_a_dice_of_0_is_no_best(tmp_path, dice):
    """The last weights are kept where no epoch found anything, or where the last ones rightly find nothing."""
    step, told = STEP.model_copy(update={"selection": "best dice"}), iter(dice)
    state = fresh_state()
    fit(state, training_setup(tmp_path, validate=lambda *_: judged(next(told)), step=step))
    assert state.best is None and state.best_epoch is None


def judged(dice):
    return Findings(dice={} if dice is None else {"cancer": dice})


@pytest.mark.parametrize("judged", [True, False])
def test_of_a_network_that_does_not_segment_the_epoch_of_the_lowest_loss_is_kept(tmp_path, judged):
    """The loss of held-out patches; where nothing is held out that of training, three batches an epoch."""
    losses = [0.9, 0.4, 0.5, 0.6]
    held_out, drawn = iter(losses), iter([loss for loss in (losses[::-1] if judged else losses) for _ in range(3)])

    def objective(network, batch):
        nothing = torch.zeros(())
        return Loss(nothing, next(network.parameters()).sum() * 0 + next(drawn))

    def validate(network, stopped):
        return Findings(losses={"held_out_loss": next(held_out)})

    state, step = fresh_state(), STEP.model_copy(update={"selection": "lowest loss", "groups": ()})
    fit(state, training_setup(tmp_path, objective=objective, validate=validate if judged else None, step=step))
    assert state.best_epoch == 2 and state.best_score == pytest.approx(-0.4)


@pytest.mark.parametrize(("judged", "best"), [(True, (2, -0.4)), (False, (4, -0.2))])
def test_of_a_network_that_segments_the_epoch_of_the_lowest_dice_loss_is_kept(tmp_path, judged, best):
    """That of held-out patches, while the one of training falls to the end, which counts where nothing is held out."""
    held_out, drawn = iter([0.9, 0.4, 0.5, 0.6]), iter([loss for loss in (0.8, 0.6, 0.4, 0.2) for _ in range(3)])

    def objective(network, batch):
        return Loss(torch.tensor(next(drawn)), next(network.parameters()).sum() * 0)

    def validate(network, stopped):
        return Findings(losses={"held_out_dice_loss": next(held_out)})

    state, step = fresh_state(), STEP.model_copy(update={"selection": "lowest loss"})
    fit(state, training_setup(tmp_path, objective=objective, validate=validate if judged else None, step=step))
    assert (state.best_epoch, state.best_score) == (best[0], pytest.approx(best[1]))


def test_every_batch_is_learned_from_at_the_rate_of_its_moment(tmp_path):
    """Three batches of warm-up, the first at the rate of the second instead of none, then nine on the way down."""
    rates, state = [], fresh_state()
    state.optimizer.register_step_post_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    fit(state, training_setup(tmp_path, step=STEP.model_copy(update={"warmup_epochs": 1})))
    falling = [0.01 * (1 - number / 9) ** 0.9 for number in range(9)]
    assert rates == pytest.approx([0.01 / 3, 0.01 / 3, 0.02 / 3, *falling])


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


def test_cudnn_searches_where_it_is_told_to_and_is_then_as_before():
    before = torch.backends.cudnn.benchmark
    for search in (True, False):
        with fastest_convolutions(search):
            assert torch.backends.cudnn.benchmark == search
        assert torch.backends.cudnn.benchmark == before


def test_a_batch_is_fetched_before_the_weights_learn_from_the_one_before_it(tmp_path):
    """Of the same epoch: between two epochs the network is validated. Each is fetched once."""
    done = []

    class Noting(Batches):
        def batch(self, epoch, index):
            done.append((epoch, index))
            return super().batch(epoch, index)

    state, step = fresh_state(), STEP.model_copy(update={"epochs": 2})
    state.optimizer.register_step_post_hook(lambda *_: done.append("step"))
    given = training_setup(tmp_path, step=step)
    given.batches.__class__ = Noting
    fit(state, given)
    assert done == [
        *((0, 0), (0, 1), "step", (0, 2), "step", "step"),
        *((1, 0), (1, 1), "step", (1, 2), "step", "step"),
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_batch_on_a_card_is_the_batch():
    batch = batches().batch(0, 0)
    there = to_device(batch, torch.device("cuda"))
    assert torch.equal(there.image.cpu(), batch.image)
    assert torch.equal(there.labels["organ"].cpu(), batch.labels["organ"]) and there.annotated is batch.annotated
