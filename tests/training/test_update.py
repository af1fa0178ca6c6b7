"""One update of the weights: what stops it, what limits it, what it leaves beside the weights."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from flarenet.errors import RunError
from flarenet.inference.engines.engine import autocast
from flarenet.planning.plan import Step, Subset, Update
from flarenet.training.batches import Batches, Sample
from flarenet.training.callbacks import Findings
from flarenet.training.ema import average_of, update_average
from flarenet.training.loop import TrainingSetup, fit
from flarenet.training.losses import Loss, marginal_loss
from flarenet.training.state import TrainState
from flarenet.training.update import make_scaler, update_weights
from tests.training import tiny
from tests.training.tiny import checkpoints

CPU = torch.device("cpu")
STEP = Step(
    subset=Subset(patterns=((1,),)), groups=("organ",), batch_size=4, batches_per_epoch=3, epochs=3, learning_rate=0.01
)


def batches():
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 2047, (3, 12, 12)).astype(np.int16) for _ in range(4)]
    annotated = {"organ": np.array([True, True])}
    made = [
        Sample(f"c{i}", image, {"organ": (image > 1000).astype(np.uint8)}, annotated) for i, image in enumerate(images)
    ]
    return Batches(made, (8, 8), batch_size=4, seed=5, augmentation=None)


def judge(network, batch):
    return marginal_loss(network(batch.image), batch.labels["organ"], batch.annotated["organ"])


def judge_in(precision):
    def objective(network, batch):
        with autocast(CPU, precision):
            return judge(network, batch)

    return objective


def fresh(scaler=None, average=False):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    state = TrainState(network, torch.optim.AdamW(network.parameters(), lr=0.01))
    state.scaler = scaler or state.scaler
    state.average = average_of(network) if average else None
    return state


def training_setup(folder, *, objective=judge, update=None, drawn=None, validate=None):
    drawn = drawn or batches()
    kept, update = checkpoints(folder), update or Update()
    return TrainingSetup(STEP, drawn, objective, validate, CPU, folder, kept, "test", update=update)


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


class Poisoned(Batches):
    """Batches of which one, the second of the second epoch, holds a number that is none."""

    def batch(self, epoch, index):
        made = super().batch(epoch, index)
        if (epoch, index) == (1, 1):
            made.image[2, 0, 3, 3] = math.nan
        return made


def poison(kind):
    """An objective whose loss, or only the gradient of it, is not finite in the fifth of all batches."""
    seen = []

    def objective(network, batch):
        seen.append(batch)
        loss = judge(network, batch)
        if len(seen) != 5:
            return loss
        first = next(network.parameters()).sum()
        term = first * math.inf if kind == "loss" else (first * 0).sqrt()  # the root's slope at 0 is infinite
        return Loss(loss.dice, loss.cross_entropy + term)

    return objective


@pytest.mark.parametrize("where", ["input", "loss", "gradient"])
def test_what_is_not_finite_stops_the_run_before_the_weights_change(tmp_path, where):
    drawn = batches()
    if where == "input":
        drawn.__class__ = Poisoned
    state, snapshots = fresh(), []
    state.optimizer.register_step_post_hook(lambda *_: snapshots.append(weights(state.network)))
    with pytest.raises(RunError, match="test, epoch 2, batch 2") as error:
        fit(state, training_setup(tmp_path, drawn=drawn, objective=judge if where == "input" else poison(where)))
    said = str(error.value)
    assert all(f"c{number}" in said for number in range(4))
    assert ("gradient" in said) == (where == "gradient") and ("inf" in said or "nan" in said)
    assert len(snapshots) == 4 and same(weights(state.network), snapshots[-1])
    kept = fresh()
    assert checkpoints(tmp_path).load(kept, print) and kept.epoch == 1
    assert same(weights(kept.network), snapshots[2])
    files = list(tmp_path.glob("*.safetensors"))
    assert files and all(torch.isfinite(tensor).all() for path in files for tensor in load_file(path).values())


@pytest.mark.parametrize(
    ("precision", "factor", "remedy"),
    [("fp32", math.inf, "look at"), ("fp16", 1e6, "the same command with --precision fp32")],
)
def test_a_validation_that_is_not_finite_stops_the_run_and_the_state_before_it_is_kept(
    tmp_path, precision, factor, remedy
):
    """The second of two held-out batches in the second epoch: of 1e6, float16 makes infinity."""
    seen, judge_one = [], judge_in(precision)

    def too_bright(network, batch):
        seen.append(batch)
        return judge_one(network, replace(batch, image=batch.image * factor) if len(seen) == 4 else batch)

    run = training_setup(tmp_path, objective=judge_one, validate=tiny.held_out(objective=too_bright))
    with pytest.raises(RunError, match="test, validation after epoch 2") as error:
        fit(fresh(make_scaler(CPU, precision)), run)
    cases = ", ".join(sorted(set(tiny.batches(seed=6).names(0, 1))))
    assert error.value.found == f"held_out_dice_loss nan; cases of this batch: {cases}"
    assert error.value.remedy.startswith(remedy)
    kept = fresh()
    assert checkpoints(tmp_path).load(kept, print) and (kept.epoch, kept.index) == (1, 0)
    assert all(torch.isfinite(tensor).all() for tensor in weights(kept.network).values())


def test_a_gradient_is_cut_to_its_longest_length():
    state = fresh()
    state.optimizer = torch.optim.SGD(state.network.parameters(), lr=1.0)
    before = weights(state.network)

    def steep(network, batch):
        return Loss(torch.zeros(()), 1000 * sum(p.sum() for p in network.parameters()))

    update_weights(state, batches().batch(0, 0), objective=steep, update=Update(clip_norm=0.5), where="here")
    moved = torch.cat([(before[name] - tensor).flatten() for name, tensor in state.network.state_dict().items()])
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-4)


def test_a_loss_that_teaches_nothing_is_an_error():
    state = fresh()
    with pytest.raises(RunError, match="here"):
        update_weights(
            state,
            batches().batch(0, 0),
            objective=lambda network, batch: Loss(torch.zeros(()), torch.ones(())),
            update=Update(),
            where="here",
        )


def test_only_float16_is_scaled():
    assert make_scaler(CPU, "fp16").is_enabled()
    assert not make_scaler(CPU, "bf16").is_enabled() and not make_scaler(CPU, "fp32").is_enabled()


def test_float16_makes_the_scale_smaller_until_the_gradient_fits():
    state = fresh(torch.amp.GradScaler("cpu", init_scale=2.0))
    before, batch = weights(state.network), batches().batch(0, 0)

    def too_steep(network, batch):
        first = next(network.parameters())
        return Loss(torch.zeros(()), ((first - first.detach()) * 3e38).sum())

    update_weights(state, batch, objective=too_steep, update=Update(), where="here")
    assert state.scaler.get_scale() == 1.0 and same(before, weights(state.network))
    with pytest.raises(RunError, match="gradient of length"):
        update_weights(state, batch, objective=too_steep, update=Update(), where="here")
    assert same(before, weights(state.network))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_what_float32_does(tmp_path, precision):
    losses = []
    for word in ("fp32", precision):
        state = fresh(make_scaler(CPU, word))
        fit(state, training_setup(tmp_path / word, objective=judge_in(word)))
        losses.append([record.losses["loss"] for record in state.history])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


def test_a_run_in_float16_goes_on_with_its_scale(tmp_path):
    state = fresh(torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2))
    fit(state, training_setup(tmp_path))
    again = fresh(torch.amp.GradScaler("cpu"))
    assert checkpoints(tmp_path).load(again, print)
    assert again.scaler.state_dict() == state.scaler.state_dict()
    assert again.scaler.get_scale() == 8.0 * 2**4  # nine batches: the scale grew after each second one
    update_weights(again, batches().batch(3, 0), objective=judge, update=Update(), where="here")
    assert again.scaler.get_scale() == 8.0 * 2**5


@pytest.mark.parametrize(("first", "then"), [("fp16", "fp32"), ("fp32", "fp16"), ("bf16", "fp16"), ("fp16", "bf16")])
def test_a_run_goes_on_in_another_precision(tmp_path, first, then):
    """With the weights, and from float16 without its scale, which the other does not use."""
    state = fresh(make_scaler(CPU, first))
    fit(state, training_setup(tmp_path, objective=judge_in(first)))
    again = fresh(make_scaler(CPU, then))
    assert checkpoints(tmp_path).load(again, print) and again.epoch == 3
    assert same(weights(again.network), weights(state.network))
    assert again.scaler.state_dict() == make_scaler(CPU, then).state_dict()
    before, longer = weights(again.network), STEP.model_copy(update={"epochs": 4})
    fit(again, replace(training_setup(tmp_path, objective=judge_in(then)), step=longer))
    assert len(again.history) == 4 and not same(weights(again.network), before)
    assert again.history[3].losses["loss"] == pytest.approx(state.history[2].losses["loss"], rel=0.2)


def test_the_average_is_the_sum_written_out():
    network, decay = nn.Linear(1, 1, bias=False), 0.5
    network.weight.data.fill_(1.0)
    average = average_of(network)
    for updates, value in enumerate((2.0, 4.0)):
        network.weight.data.fill_(value)
        update_average(average, network, decay=decay, updates=updates)
    first = 0.1 * 1.0 + 0.9 * 2.0  # (1 + 0) / (10 + 0) of the past
    assert average.weight.item() == pytest.approx(2 / 11 * first + 9 / 11 * 4.0)
    update_average(average, network, decay=decay, updates=1000)
    assert average.weight.item() == pytest.approx(0.5 * (2 / 11 * first + 9 / 11 * 4.0) + 2.0)


def test_the_average_is_judged_and_kept_and_what_is_frozen_stays(tmp_path):
    state = fresh()
    state.network[0].requires_grad_(False)
    state.optimizer = torch.optim.AdamW(state.network[2].parameters(), lr=0.01)
    state.average = average_of(state.network)
    frozen, judged = weights(state.network[0]), []

    def validate(network, stopped):
        judged.append(network)
        return Findings()

    fit(state, training_setup(tmp_path, update=Update(ema=0.9), validate=validate))
    assert judged == [state.average] * 3 and state.eval_network is state.average
    assert same(frozen, weights(state.average[0])) and same(frozen, weights(state.network[0]))
    assert not torch.equal(state.average[2].weight, state.network[2].weight)
    again = fresh(average=True)
    assert checkpoints(tmp_path).load(again, print)
    assert same(weights(again.average), weights(state.average))
