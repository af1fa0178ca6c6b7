"""The transformer systems of the paper, tiny: planned, trained step by step, stopped and resumed, and predicting."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flarenet.cli import plan, train
from flarenet.data.nifti import read_image
from flarenet.errors import RunError
from flarenet.inference.models.model import load_encoder, load_weights
from flarenet.inference.predict import Predictor
from flarenet.networks import build
from flarenet.phantom import write_phantom_set
from flarenet.planning.budget import AUTO, PAPER, Budget, Request
from flarenet.planning.plan_file import load_plan
from flarenet.planning.runs import Run
from flarenet.schema import save
from flarenet.trainers import TRAINERS
from flarenet.trainers.planner import make_plan, with_trainer
from flarenet.training.callbacks import EpochDone
from flarenet.workspace import Workspace
from tests.planning import facts

pytestmark = pytest.mark.usefixtures("no_pictures", "torch_alone")

D_U, D_L1, D_L2, D_L3, D_L4 = (), tuple(range(1, 14)), (1, 2, 3, 4, 13), (1, 2, 3, 4, 13, 14), (14,)

TINY = [
    "configurations.3d.spacing_mm=[10,9,9]",
    "configurations.3d.inference_spacing_mm=[10,9,9]",
    "configurations.3d.patch=[32,64,32]",
    "folds=2",
    "trainers.*.steps.*.batch_size=1",
    "trainers.*.steps.*.batches_per_epoch=2",
    "trainers.*.steps.*.epochs=1",
    "trainers.3DCancer.steps.0.epochs=2",
    "trainers.*.steps.*.warmup_epochs=0",
]
FEATURES = {
    "unetr": [("MAE", "[12,24,4,2,12,24,1,2]"), ("3DOrgan", "[12,24,4,2,4]"), ("3DCancer", "[12,24,4,2,4]")],
    "swin_unetr": [("MAE", "[12]"), ("3DOrgan", "[12]"), ("3DCancer", "[12]")],
}


@pytest.mark.parametrize("network", ["unetr", "swin_unetr"])
def test_the_paper_s_steps_of_a_transformer(network):
    planned = make_plan(facts.flare23(), Request("paper", Budget(gpu_memory_gb=64, network=network)))
    parts = planned.trainers
    organ, cancer, mae = (parts[name].steps for name in ("3DOrgan", "3DCancer", "MAE"))
    assert set(mae[0].subset.patterns) == {D_U, D_L1, D_L2, D_L3, D_L4}
    assert [set(step.subset.patterns) for step in organ] == [{D_L1, D_L2, D_L3}, {D_L1}]
    assert set(cancer[0].subset.patterns) == {D_L3, D_L4} and len(cancer) == 1
    starts = [(None, Run("MAE", 1)), (Run("3DOrgan", 1), None)]
    assert [(step.starts_from, step.encoder_from) for step in organ] == starts
    assert {step.trained for step in (*organ, *cancer)} == {("decoder", "heads")}
    assert planned.configurations["3d"].patch == (96, 96, 96)
    assert parts["DualDecoder2D"].steps[0].teachers == {"organ": Run("3DOrgan", 2), "cancer": Run("3DCancer", 1)}


def test_each_step_of_a_3d_trainer_has_reasons_of_its_own():
    request = Request("paper", Budget(gpu_memory_gb=64, network="unetr"))
    part = make_plan(facts.flare23(), request, changes=["trainers.3DOrgan.steps.0.epochs=70"]).trainers["3DOrgan"]
    assert [step.epochs for step in part.steps] == [70, 250]
    assert [part.why[f"steps.{number}.epochs"] for number in (0, 1)] == ["set by hand", "Table 2 of the paper"]
    every, best = (part.why[f"steps.{number}.subset"] for number in (0, 1))
    assert "every case in which any label" in every and "the most labels" in best
    assert "epochs" not in part.why and "subset" not in part.why


def test_without_unlabelled_cases_the_second_step_is_the_first_and_random():
    whole, less = (
        make_plan(facts.flare23(), replace(PAPER, without=left_out)).trainers["DualDecoder2D"]
        for left_out in (None, "unlabelled")
    )
    assert [step.subset.patterns for step in less.steps] == [(D_L3,), (D_L1,), (D_L4,)]
    assert [step.starts_from for step in less.steps] == [None, Run("DualDecoder2D", 1), Run("DualDecoder2D", 2)]
    unlike = {"starts_from"}
    assert [step.model_dump(exclude=unlike) for step in less.steps] == [
        step.model_dump(exclude=unlike) for step in whole.steps[1:]
    ]
    first = make_plan(facts.flare23(), replace(AUTO, without="unlabelled")).trainers["DualDecoder2D"].steps[0]
    assert D_U not in first.subset.patterns and first.teachers


def test_a_trainer_that_gets_its_part_later_leaves_out_what_the_plan_does(tmp_path):
    found, workspace, name = facts.flare_mini(), Workspace(tmp_path, "FLAREmini"), "DualDecoder2D"
    save(found, workspace.fingerprint)
    whole = make_plan(found, replace(AUTO, without="unlabelled"))
    assert whole.without == "unlabelled"
    others = {trainer: part for trainer, part in whole.trainers.items() if trainer != name}
    later = with_trainer(whole.model_copy(update={"trainers": others}), TRAINERS[name], workspace)
    assert later.trainers[name] == whole.trainers[name]
    assert all(() not in step.subset.patterns for step in later.trainers[name].steps)


@pytest.fixture(scope="module", params=["unetr", "swin_unetr"])
def workspace(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    write_phantom_set(root / "raw" / "P", cases=5, test_cases=1, seed=0, detail=0.5)
    changes = [*TINY, *(f"trainers.{name}.network.features={value}" for name, value in FEATURES[request.param])]
    words = ["-d", "P", "--root", str(root), "--workers", "1", "--network", request.param]
    assert plan.main([*words, "--without", "unlabelled", "--set", *changes]) == 0
    return Workspace(root, "P")


def run(workspace, *words):
    return train.main([*words, "-d", "P", "--root", str(workspace.root), "--device", "cpu"])


@pytest.fixture(scope="module")
def trained(workspace):
    assert run(workspace, "3DCancer") == 4  # MAE is not there yet
    for trainer in ("MAE", "3DOrgan", "3DCancer"):
        assert run(workspace, trainer) == 0
    return workspace


def encoder_of(workspace, trainer, step):
    weights = load_weights(workspace.run(trainer, step))
    return {name: tensor for name, tensor in weights.items() if name.startswith("encoder.")}


def test_the_encoder_is_the_pre_trained_one_and_never_changes(trained):
    expected = encoder_of(trained, "MAE", 1)
    steps = len(load_plan(trained.plan).trainers["3DOrgan"].steps)
    assert len(expected) > 10 and steps == 2
    for trainer, step in (("3DOrgan", 1), ("3DOrgan", 2), ("3DCancer", 1)):
        found = encoder_of(trained, trainer, step)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    first, second = (load_weights(trained.run("3DOrgan", step)) for step in (1, 2))
    changed = {name.split(".")[0] for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"decoder", "heads"}


def test_a_stopped_run_ends_with_the_weights_of_an_unbroken_one(trained, tmp_path):
    def stop(event):
        if isinstance(event, EpochDone):
            raise OSError("the disk is full")

    folder = trained.run("3DCancer", 1)
    unbroken = (folder / "weights.safetensors").read_bytes()
    folder.rename(tmp_path / "unbroken")
    planned = load_plan(trained.plan)
    with pytest.raises(OSError, match="the disk is full"):
        TRAINERS["3DCancer"](planned, trained, device="cpu", callbacks=(stop,)).train()
    assert not (folder / "about.json").exists()
    assert run(trained, "3DCancer") == 0
    assert (folder / "weights.safetensors").read_bytes() == unbroken


def test_it_predicts_on_the_scan_s_own_grid(trained):
    scan = next((trained.raw / "imagesTs").iterdir())
    for trainer, step, values in (("3DOrgan", 2, range(14)), ("3DCancer", 1, (0, 14))):
        predicted = Predictor(trained.run(trainer, step), device="cpu").predict(scan)
        assert predicted.labels.shape == read_image(scan).data.shape
        assert set(np.unique(predicted.labels)) <= set(values)


def test_an_encoder_of_another_size_is_refused(trained):
    part = load_plan(trained.plan).trainers["MAE"].network
    features = (24, *part.features[1:]) if part.kind == "mae_vit" else (24,)
    other = build(part.model_copy(update={"features": features}), {}, (32, 64, 32))
    with pytest.raises(RunError, match="tensor"):
        load_encoder(other, trained.run("MAE", 1))
    with pytest.raises(RunError, match="a network with an encoder"):
        load_encoder(torch.nn.Linear(1, 1), trained.run("MAE", 1))
