"""What decides a plan beside the data: changes of the budget, and cases that nobody labelled."""

from dataclasses import replace

import pytest

from flarenet.data.labels import LabelSet
from flarenet.errors import PlanError, UnsafeError, UsageError
from flarenet.planning.budget import AUTO, PAPER, RECIPES, Budget, Request
from flarenet.planning.runs import Run
from flarenet.planning.summary import remarks
from flarenet.schema import save
from flarenet.trainers import TRAINERS, Trainer, Trainer3DOrgan, TrainerMAE
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
    assert list(made.trainers) == ["MAE"]
    assert [sentence for sentence in remarks(found) if "annotated in no case" in sentence] == []
    assert "no training case is labelled" in remarks(found)[0]
    workspace = Workspace(tmp_path, "Bare")
    save(found, workspace.fingerprint)
    for name in ("3DOrgan", "3DCancer", "DualDecoder2D", "Joint"):
        with pytest.raises(PlanError, match="(?s)no training case is labelled.*one of MAE"):
            with_trainer(made, TRAINERS[name], workspace)


class Nameless(Trainer3DOrgan):
    """Would be trained, and kept, as the 3DOrgan that is planned already."""


class Unsafe(TrainerMAE):
    name = "../MAE"


@pytest.mark.parametrize(
    ("trainer", "error", "said"),
    [
        (Nameless, UsageError, "test_planner:Nameless\n.*found: name '3DOrgan'.*its own name"),
        (Trainer, UsageError, "trainer:Trainer\n.*found: name None.*its own name"),
        (Unsafe, UnsafeError, "'../MAE'"),
    ],
    ids=["the name of another one", "no name", "no name for a folder"],
)
def test_a_trainer_needs_a_name_of_its_own_from_python_too(tmp_path, trainer, error, said):
    made = make_plan(facts.spleen(), AUTO)
    assert with_trainer(made, Trainer3DOrgan, Workspace(tmp_path, "P")) is made
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


@pytest.mark.parametrize("recipe", RECIPES)
def test_mae_is_planned_beside_transformers_alone(recipe):
    u_nets, transformers = (
        make_plan(facts.flare_mini(), Request(recipe, Budget(gpu_memory_gb=64, network=network))).trainers
        for network in ("unet", "unetr")
    )
    assert "MAE" not in u_nets and {"3DOrgan", "3DCancer", "DualDecoder2D"} <= set(u_nets)
    assert list(transformers) == [*list(u_nets)[:2], "MAE", *list(u_nets)[2:]]


PATCH, OTHER = "configurations.3d.patch=[40,144,144]", "configurations.3d.patch=[32,144,144]"
SMALL = "trainers.MAE.network.features=[96,192,2,4,48,96,1,4]"


@pytest.mark.parametrize(
    ("gpu_memory_gb", "planned", "refused", "remedy"),
    [
        (2, (), r"trainers.MAE.steps.0.batch_size 2 with patch .*\n.*needs about 2.3 GB", (SMALL,)),
        (16, (PATCH,), r"trainers.MAE.network: patch(.*\n)+.*three multiples of 16", (OTHER,)),  # U-Nets take it
    ],
    ids=["memory", "patch"],
)
def test_mae_is_planned_and_checked_where_it_is_asked_for(tmp_path, gpu_memory_gb, planned, refused, remedy):
    found, workspace = facts.spleen(), Workspace(tmp_path, "Spleen")
    save(found, workspace.fingerprint)
    made = make_plan(found, Request("auto", Budget(gpu_memory_gb=gpu_memory_gb)), changes=planned)
    with pytest.raises(PlanError, match=refused):
        with_trainer(made, TrainerMAE, workspace)
    later = with_trainer(made, TrainerMAE, workspace, changes=remedy)
    assert list(later.trainers) == [*made.trainers, "MAE"]
    assert later.trainers["MAE"].steps[0].subset.patterns == found.patterns


class PreTrained(Trainer3DOrgan):
    """A transformer of its own in a plan of U-Nets."""

    name = "PreTrained"

    @classmethod
    def plan(cls, fingerprint, outline):
        budget = outline.request.budget.model_copy(update={"network": "unetr"})
        return super().plan(fingerprint, replace(outline, request=replace(outline.request, budget=budget)))


def test_a_trainer_is_planned_with_what_it_builds_on(tmp_path):
    found, workspace = facts.spleen(), Workspace(tmp_path, "Spleen")
    save(found, workspace.fingerprint)
    made = make_plan(found, AUTO, changes=["configurations.3d.patch=[32,96,96]"])
    later = with_trainer(made, PreTrained, workspace)
    assert list(later.trainers) == [*made.trainers, "MAE", "PreTrained"]
    assert later.step("PreTrained", 1).encoder_from == Run("MAE", 1)
    assert later.trainers["MAE"] == with_trainer(made, TrainerMAE, workspace).trainers["MAE"]  # as it is trained


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
