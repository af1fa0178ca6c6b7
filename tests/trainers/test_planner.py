"""What decides a plan beside the data: changes of the budget, and cases that nobody labelled."""

import pytest

from flarenet.data.labels import LabelSet
from flarenet.errors import PlanError, UnsafeError, UsageError
from flarenet.networks import build
from flarenet.planning.budget import AUTO, PAPER, RECIPES, Budget, Request
from flarenet.planning.summary import remarks, step_table
from flarenet.schema import save
from flarenet.trainers import TRAINERS, Trainer, TrainerMAE
from flarenet.trainers.planner import advised, make_plan, with_trainer
from flarenet.workspace import Workspace
from tests.planning import facts

SCANS = [(1, 40, 100, 3.0, 2.0)]


@pytest.mark.parametrize(
    ("change", "budget"),
    [
        ("budget.size=m", Budget(size="m")),
        # 120 x 512 x 512 voxels of 3 bytes are 0.094 GB: coarser by 1.37 in plane, the square root of 0.094 / 0.05
        ("budget.host_memory_gb=0.05", Budget(host_memory_gb=0.05)),
        ("budget.inference_seconds=0.1", Budget(inference_seconds=0.1)),
    ],
)
def test_a_change_of_the_budget_decides_what_the_budget_decides(change, budget):
    made, usual = make_plan(facts.spleen(), AUTO, changes=[change]), make_plan(facts.spleen(), AUTO)
    assert made == make_plan(facts.spleen(), Request("auto", budget))
    assert (made.configurations, made.trainers) != (usual.configurations, usual.trainers)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_set_without_labels_gets_a_plan_for_its_images_alone(tmp_path, recipe):
    found = facts.data_set("Bare", facts.ABDOMEN, {(): 6}, SCANS, foreground_hu=(-60, 100, 200), hu=(-1000, 1500))
    made = make_plan(found, RECIPES[recipe])
    assert list(made.trainers) == ["MAE"] and made.spare_trainers == ()
    assert [sentence for sentence in remarks(found) if "annotated in no case" in sentence] == []
    assert "no training case is labelled" in remarks(found)[0]
    workspace = Workspace(tmp_path, "Bare")
    save(found, workspace.fingerprint)
    for name in ("3DOrgan", "3DCancer", "DualDecoder2D", "Joint"):
        with pytest.raises(PlanError, match="(?s)no training case is labelled.*one of MAE"):
            with_trainer(made, TRAINERS[name], workspace)


class Nameless(TrainerMAE):
    """Would be trained, and kept, as the MAE that is planned already."""


class Unsafe(TrainerMAE):
    name = "../MAE"


@pytest.mark.parametrize(
    ("trainer", "error", "said"),
    [
        (Nameless, UsageError, "test_planner:Nameless\n.*found: name 'MAE'.*its own name"),
        (Trainer, UsageError, "trainer:Trainer\n.*found: name None.*its own name"),
        (Unsafe, UnsafeError, "'../MAE'"),
    ],
    ids=["the name of another one", "no name", "no name for a folder"],
)
def test_a_trainer_needs_a_name_of_its_own_from_python_too(tmp_path, trainer, error, said):
    made = make_plan(facts.spleen(), AUTO)
    assert with_trainer(made, TrainerMAE, Workspace(tmp_path, "P")) is made
    with pytest.raises(error, match=f"(?s){said}"):
        with_trainer(made, trainer, Workspace(tmp_path, "P"))


def test_a_few_slices_are_shown_often_enough_to_learn_from():
    """Three cases of five slices are one batch: 200 epochs of it are 200 updates, 200 of 20 batches are 4000."""
    labels = LabelSet(names=("background", "liver"), groups={"organ": (1,)})
    scans = [(1, 5, 100, 8.0, 2.0)]
    made = make_plan(
        facts.data_set("Few", labels, {(1,): 3}, scans, foreground_hu=(-60, 100, 200), hu=(-1000, 1500)), AUTO
    )
    (flat,), (deep,) = made.trainers["DualDecoder2D"].steps, made.trainers["3DOrgan"].steps
    assert (flat.batches_per_epoch, flat.epochs) == (20, 200)
    assert (deep.batches_per_epoch, deep.epochs) == (4, 1000)
    why = made.trainers["DualDecoder2D"].why["steps.0.epochs"]
    assert "4,000 updates in epochs of 20 batches, where 1 would show every sample" in why


def test_a_patch_is_refused_by_the_networks_that_are_needed_alone():
    found, patch = facts.flare_mini(), ["configurations.3d.patch=[40,144,144]"]
    transformer = Request("auto", Budget(network="unetr"))
    made = make_plan(found, AUTO, changes=patch)
    assert made.spare_trainers == ("MAE",)
    marked = [cell for cell in step_table(made, found).columns[0].cells if "nothing needs it" in str(cell)]
    assert marked == ["MAE/1 (nothing needs it)"]
    with pytest.raises(PlanError, match="three multiples of 16"):
        build(made.trainers["MAE"].network, {}, made.configurations["3d"].patch)
    with pytest.raises(PlanError, match="trainers.3DOrgan.network: patch"):
        make_plan(found, transformer, changes=patch)
    assert make_plan(found, transformer).spare_trainers == ()


def test_a_budget_that_is_none_is_refused_by_name():
    with pytest.raises(PlanError, match="--set budget: key 'size'"):
        make_plan(facts.spleen(), AUTO, changes=["budget.size=xl"])
    with pytest.raises(UsageError, match="did you mean 'size'"):
        make_plan(facts.spleen(), AUTO, changes=["budget.sise=m"])
    with pytest.raises(UsageError, match="s, the paper's own network"):
        make_plan(facts.spleen(), PAPER, changes=["budget.size=m"])


UNEVEN = {(1, 2): 6, (1,): 4, (): 5}


@pytest.mark.parametrize(
    ("recipe", "cohorts", "changes", "expected"),
    [
        ("auto", UNEVEN, (), ("Joint",)),
        ("auto", {(1, 2): 6}, (), ("DualDecoder2D",)),  # every case says the same: there is no Joint
        ("paper", UNEVEN, (), ("3DOrgan", "3DCancer", "DualDecoder2D")),
        ("paper", UNEVEN, ("budget.network=unetr",), ("MAE", "3DOrgan", "3DCancer", "DualDecoder2D")),
        ("auto", {(): 5}, (), ()),
    ],
)
def test_what_is_advised_is_joint_or_the_curriculum_with_all_that_it_builds_on(recipe, cohorts, changes, expected):
    labels = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})
    found = facts.data_set("Uneven", labels, cohorts, SCANS, foreground_hu=(-60, 100, 200), hu=(-1000, 1500))
    assert advised(make_plan(found, RECIPES[recipe], changes=changes)) == expected
