from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from flarenet.errors import RunError
from flarenet.planning.plan import Augmentation, Step, Subset
from flarenet.training.batches import Batches, Sample
from flarenet.training.callbacks import Findings
from flarenet.training.loop import Course, fit, learning_rate
from flarenet.training.losses import Loss, marginal_loss
from flarenet.training.state import TrainState, load_state, remove_state

STEP = Step(
    subset=Subset(patterns=((1,),)), groups=("organ",), batch_size=2, batches_per_epoch=3, epochs=4, learning_rate=0.01
)


def samples():
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 32767, (3, 12, 12)).astype(np.int16) for _ in range(3)]
    asked = {"organ": np.array([True, True])}
    maps = [{"organ": (image > 16000).astype(np.uint8)} for image in images]
    return [Sample(f"c{i}", image, drawn, asked) for i, (image, drawn) in enumerate(zip(images, maps))]


def objective(network, batch):
    return marginal_loss(network(batch.image), batch.labels["organ"], batch.asked["organ"])


def course(folder, *, objective=objective, validate=None, run_hash="a", step=STEP):
    batches = Batches(samples(), (8, 8), batch_size=2, seed=5, augmentation=Augmentation(gamma=0.2))
    device = torch.device("cpu")
    return Course(step, batches, objective, validate, device, nullcontext, folder, run_hash, "test")


def fresh_state():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    return TrainState(network, torch.optim.AdamW(network.parameters(), lr=0.01))


def without_timing(history):
    return [record.model_dump(exclude={"timing"}) for record in history]


def test_a_broken_run_ends_bit_for_bit_where_an_unbroken_one_does(tmp_path):
    whole = fresh_state()
    fit(whole, course(tmp_path / "whole"))

    calls = []

    def interrupt(network):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return Findings()

    with pytest.raises(KeyboardInterrupt):
        fit(fresh_state(), course(tmp_path / "broken", validate=interrupt))
    again = fresh_state()
    assert load_state(again, tmp_path / "broken", "a")
    assert again.epoch == 2
    fit(again, course(tmp_path / "broken"))
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])
    assert without_timing(whole.history) == without_timing(again.history)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(tmp_path):
    state = fresh_state()
    before = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}

    def broken(network, batch):
        return Loss(network(batch.image).sum() * float("nan"), torch.zeros(()))

    with pytest.raises(RunError, match="finite") as error:
        fit(state, course(tmp_path, objective=broken))
    assert "on cases c" in str(error.value)
    for name, tensor in state.network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_damaged_or_foreign_state_is_refused(tmp_path):
    fit(fresh_state(), course(tmp_path))
    with pytest.raises(RunError, match="another plan"):
        load_state(fresh_state(), tmp_path, "b")
    path = next(tmp_path.glob("state-*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="damaged"):
        load_state(fresh_state(), tmp_path, "a")


def test_no_state_is_not_a_state(tmp_path):
    assert not load_state(fresh_state(), tmp_path, "a")
    fit(fresh_state(), course(tmp_path))
    remove_state(tmp_path)
    assert not load_state(fresh_state(), tmp_path, "a")


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
