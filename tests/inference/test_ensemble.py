"""Ensembles: the mean of probabilities, group by group, of models that need not see the scan alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flarenet.data.labels import LabelSet
from flarenet.errors import PlanError, RunError
from flarenet.inference.models.model import Model
from flarenet.inference.predict import Predictor
from flarenet.planning.fusion import Fusion
from flarenet.planning.plan import Configuration, NetworkSpec, Plan, ScanSize, TrainerPlan
from flarenet.volume import Grid, Volume
from tests.training.tiny import STEP

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})
WIDE, NARROW = (-1000.0, 0.0), (-500.0, 0.0)


class Constant(torch.nn.Module):
    """Gives each group its label with one probability everywhere."""

    def __init__(self, chances):
        super().__init__()
        self.chances = chances

    def forward(self, image, groups=None):
        yes = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
        return {group: torch.full_like(image, chance).logit() * yes for group, chance in self.chances.items()}


class LowHalf(torch.nn.Module):
    """Gives an organ 0.9 in the low half of what it sees, 0.3 in the other: over a mirrored look as well, 0.6."""

    def forward(self, image, groups=None):
        chance = torch.full_like(image, 0.9)
        chance[..., image.shape[-1] // 2 :] = 0.3
        return {"organ": chance.logit() * torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)}


def model(chances, *, pixel_mm=1.0, window=WIDE, labels=LABELS):
    spacing = (None, pixel_mm, pixel_mm)
    configuration = Configuration(spacing_mm=spacing, inference_spacing_mm=spacing, patch=(16, 16), clip_hu=window)
    network = NetworkSpec(kind="unet", dimensions=2, features=(2,) * 6, groups=tuple(chances))
    plan = Plan(
        recipe="auto",
        dataset="Toy",
        labels=labels,
        fingerprint_hash="0",
        configurations={"2d": configuration},
        trainers={"Toy": TrainerPlan(configuration="2d", network=network, steps=(STEP,))},
    )
    return Model(plan, "Toy", 1, "toy", "0", Constant(chances))


@pytest.fixture
def scan():
    """Air around a box at -700 HU, in which a smaller one is at -100 HU: the windows see boxes of two sizes."""
    data = np.full((6, 20, 22), -1000, dtype=np.int16)
    data[1:5, 2:18, 2:18] = -700
    data[2:4, 5:12, 6:15] = -100
    return Volume(data, Grid(data.shape, np.diag([1.0, -1.0, 2.0, 1.0])))


def predict(scan, *models):
    return Predictor(*models, device="cpu", precision="fp32").predict(scan).labels


def test_the_mean_of_probabilities_decides_not_the_count_of_votes(scan):
    # 0.45 + 0.45 + 0.9 is 0.6 on average: two of three models say no
    assert predict(scan, *(model({"organ": p}) for p in (0.45, 0.45, 0.9))).any()
    assert not predict(scan, *(model({"organ": p}) for p in (0.6, 0.6, 0.1))).any()


def test_models_of_different_spacing_and_window_meet_on_the_scan_s_grid(scan):
    # the second model looks at the inner box only: outside it the mean is 0.7 / 2, inside 1.6 / 2
    labels = predict(scan, model({"organ": 0.7}), model({"organ": 0.9}, pixel_mm=1.7, window=NARROW))
    expected = np.zeros(scan.data.shape, dtype=np.uint8)
    expected[2:4, 5:12, 6:15] = 1
    np.testing.assert_array_equal(labels, expected)


def test_each_group_is_answered_by_those_that_know_it(scan):
    labels = predict(scan, model({"organ": 0.9}), model({"cancer": 0.8}, window=NARROW))
    assert set(np.unique(labels[2:4, 5:12, 6:15])) == {2} and labels[1, 2, 2] == 1


def test_one_model_is_an_ensemble_of_itself(scan):
    one = model({"organ": 0.7, "cancer": 0.4})
    np.testing.assert_array_equal(predict(scan, one, one), Predictor(one, device="cpu").predict(scan).labels)


@pytest.mark.parametrize("flips", [False, True])
def test_every_model_sees_a_scan_mirrored_where_the_first_one_does(flips):
    data = np.full((4, 16, 16), -700, dtype=np.int16)
    data[0, 0, 0] = 0
    one = model({"organ": 0.5})
    first, second = (
        replace(one, network=LowHalf(), plan=one.plan.model_copy(update={"fusion": Fusion(flips=each)}))
        for each in (flips, not flips)
    )
    labels = predict(Volume(data, Grid(data.shape, np.eye(4)[:, [2, 1, 0, 3]])), first, second)
    assert labels[..., :8].all() and (labels[..., 8:] == flips).all()


def test_a_rule_may_be_set_whatever_memory_the_models_were_planned_for(scan):
    large = ScanSize(shape=(2000, 512, 512), spacing_mm=(1.0, 1.0, 1.0))  # more than 4 GB with the rule
    one = model({"organ": 0.7, "cancer": 0.4})
    one = replace(one, plan=one.plan.model_copy(update={"scans": {"large": large}}))
    predictor = Predictor(one, device="cpu", precision="fp32", changes=['fusion.largest=["liver"]'])
    assert predictor.model.plan.fusion.largest == ("liver",) and predictor.predict(scan).labels.any()
    with pytest.raises(PlanError, match="fusion.largest"):
        Predictor(one, device="cpu", changes=['fusion.largest=["lung"]'])


def test_models_of_other_labels_do_not_go_together():
    other = LabelSet(names=("background", "spleen", "tumor"), groups=LABELS.groups)
    with pytest.raises(RunError, match="other labels"):
        Predictor(model({"organ": 0.7}), model({"organ": 0.7}, labels=other), device="cpu")


def test_every_engine_is_named_once(scan):
    one = model({"organ": 0.9})
    both = Predictor(one, one, device="cpu", precision="fp32", engine="torch")
    assert both.engine_names == "torch fp32"
    both.members = both.members[:1] + Predictor(one, device="cpu", precision="bf16", engine="torch").members
    assert both.engine_names == both.predict(scan).engine == "torch fp32 + torch bf16"


def test_an_open_engine_runs_one_model():
    one = model({"organ": 0.9})
    (member,) = Predictor(one, device="cpu", precision="fp32", engine="torch").members
    assert Predictor(one, engine=member.engine).members[0].engine is member.engine
    with pytest.raises(ValueError, match="one model"):
        Predictor(one, one, engine=member.engine)
