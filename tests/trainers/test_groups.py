"""The curriculum of any set of groups: a decoder for each, and one step for each in which nothing else changes."""

import json

import pytest
import torch
from torch import nn

from flarenet.cli import plan, train
from flarenet.inference.models.model import load_weights
from flarenet.networks import blocks
from flarenet.phantom import write_phantom_set
from flarenet.planning.budget import AUTO, PAPER, RECIPES, Budget, Request
from flarenet.planning.runs import Run
from flarenet.trainers.planner import make_plan
from flarenet.workspace import Workspace
from tests.planning import facts
from tests.trainers.tiny import GRIDS

pytestmark = pytest.mark.usefixtures("no_pictures")

LARGE = {recipe: Request(recipe, Budget(gpu_memory_gb=80.0, inference_memory_gb=6.0)) for recipe in RECIPES}
GROUPS = {"organ": [1, 2, 3, 4, 5, 6, 7, 8, 9, 13], "gut": [10, 11, 12], "cancer": [14]}
TINY = [
    *GRIDS,
    "trainers.*.steps.*.batch_size=2",
    "trainers.*.steps.*.batches_per_epoch=2",
    "trainers.*.steps.*.epochs=1",
    "trainers.*.steps.*.warmup_epochs=0",
    "trainers.*.steps.*.selection=last",
    "trainers.*.steps.*.exclusion=0.1",
    "trainers.3DOrgan.network.features=[4,4,8,8,8,4]",
    "trainers.3DCancer.network.features=[4,4,8,8,8,4]",
    "trainers.DualDecoder2D.network.features=[4,4,8,8,8,4]",
    "trainers.DualDecoder2D.network.deep_supervision=3",
    "trainers.Joint.network.features=[4,4,8,8,8,4]",
]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A set of six cases whose labels are in three groups, planned."""
    root = tmp_path_factory.mktemp("root")
    write_phantom_set(root / "raw" / "P", cases=6, test_cases=0, seed=0, detail=0.5)
    description = root / "raw" / "P" / "dataset.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"groups": GROUPS}))
    assert plan.main(["-d", "P", "--root", str(root), "--workers", "1", "--set", *TINY]) == 0
    return Workspace(root, "P")


def run(workspace, trainer, *changes):
    words = [trainer, "-d", "P", "--root", str(workspace.root), "--device", "cpu", "--fold", "all"]
    assert train.main([*words, *(["--set", *changes] if changes else [])]) == 0


def changes_of_step(workspace, step):
    """The names of the tensors, buffers included, that differ between the weights of a step and of the one before."""
    before, after = (load_weights(workspace.run("DualDecoder2D", number, "all")) for number in (step - 1, step))
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_three_groups_are_trained_by_three_decoders_one_after_the_other(three):
    for trainer in ("3DOrgan", "3DCancer", "DualDecoder2D", "Joint"):
        run(three, trainer)
    weights = load_weights(three.run("DualDecoder2D", 5, "all"))
    assert {name.split(".")[1] for name in weights if name.startswith("decoders.")} == set(GROUPS)
    for step, group in enumerate(GROUPS, start=3):
        changed = changes_of_step(three, step)
        assert changed and all(name.startswith(f"decoders.{group}.") for name in changed)
    assert not three.run("DualDecoder2D", 6, "all").exists() and not three.run("Joint", 2, "all").exists()


def test_the_statistics_of_frozen_norms_rest_too(three, monkeypatch):
    """With batch norms in the place of instance norms, whose running statistics are buffers of the network."""
    monkeypatch.setattr(blocks, "InstanceNorm", nn.BatchNorm2d)
    runs = three.run("DualDecoder2D", 1, "all").parent
    if runs.exists():
        runs.rename(runs.with_name("instance_norm"))
    run(three, "DualDecoder2D", "trainers.DualDecoder2D.steps.*.teachers={}")
    for step, group in enumerate(GROUPS, start=3):
        changed = changes_of_step(three, step)
        assert all(name.startswith(f"decoders.{group}.") for name in changed)
        assert any(name.endswith("running_mean") for name in changed)


def three_groups():
    """FLARE23's cohorts with the hollow organs in a group of their own."""
    labels = facts.ABDOMEN.model_copy(update={"groups": {name: tuple(values) for name, values in GROUPS.items()}})
    return facts.data_set(
        "Three", labels, facts.FLARE23_COHORTS, facts.FLARE23_SCANS, foreground_hu=(-969, 90, 277), hu=(-1024, 1500)
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_curriculum_of_k_groups_has_two_steps_and_one_for_each(recipe):
    made = make_plan(three_groups(), LARGE[recipe])
    part = made.trainers["DualDecoder2D"]
    assert part.network.groups == tuple(GROUPS)
    assert [step.trained for step in part.steps] == [(), (), *((f"decoders.{group}",) for group in GROUPS)]
    assert [step.groups for step in part.steps] == [tuple(GROUPS)] * 2 + [(group,) for group in GROUPS]
    assert [step.starts_from for step in part.steps] == [None, *(Run("DualDecoder2D", n) for n in range(1, 5))]
    runs = {"organ": Run("3DOrgan", 1), "gut": Run("3DCancer", 1), "cancer": Run("3DCancer", 1)}
    assert part.steps[0].teachers == runs
    assert all(not step.teachers for step in part.steps[2:])
    assert made.trainers["3DCancer"].network.groups == ("gut", "cancer")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_group_that_nobody_looked_for_has_no_step_of_its_own(recipe):
    cohorts = {tuple(range(1, 14)): 20, (): 10}
    found = facts.data_set(
        "Organs", facts.ABDOMEN, cohorts, facts.FLARE23_SCANS, foreground_hu=(-969, 90, 277), hu=(-1024, 1500)
    )
    made = make_plan(found, LARGE[recipe])
    part = made.trainers["DualDecoder2D"]
    assert [step.trained for step in part.steps] == [(), (), ("decoders.organ",)]
    assert part.network.groups == ("organ", "cancer") and "3DCancer" not in made.trainers


def test_the_paper_s_second_step_asks_teachers_for_the_groups_its_cases_do_not_answer_in_full():
    """No case answers organs, gut and tumor, so all annotated ones serve, and each lacks some label of some group."""
    step = make_plan(three_groups(), LARGE["paper"]).trainers["DualDecoder2D"].steps[1]
    assert set(step.subset.patterns) == {pattern for pattern in facts.FLARE23_COHORTS if pattern}
    assert set(step.teachers) == set(GROUPS)


def test_the_joint_step_is_planned_where_it_differs_from_the_curriculum_s_first():
    joint = make_plan(facts.flare_mini(), AUTO).trainers["Joint"]
    (step,) = joint.steps
    assert set(step.subset.patterns) == {p for p in facts.flare_mini().patterns if p}
    assert (step.starts_from, step.trained, step.teachers, step.groups) == (None, (), {}, ("organ", "cancer"))
    assert step.balance == 0.5
    assert joint.network == make_plan(facts.flare_mini(), AUTO).trainers["DualDecoder2D"].network
    assert "Joint" not in make_plan(facts.flare23(), PAPER).trainers
    assert "Joint" not in make_plan(facts.spleen(), AUTO).trainers


def test_both_final_trainers_are_named_and_no_teacher_is():
    assert make_plan(facts.flare_mini(), AUTO).final_trainers == ("DualDecoder2D", "Joint")
