"""The remedy of a plan that is out of date is the command that made it."""

import pytest

from flarenet.errors import PlanError
from flarenet.planning.budget import PAPER, Budget
from flarenet.planning.plan import Configuration, NetworkSpec, Plan, ScanSize, Step, Subset, TrainerPlan
from flarenet.planning.plan_file import load_plan, save_plan
from flarenet.planning.planned import load_planned, plan_again
from flarenet.schema import load, save
from flarenet.workspace import ROOT_VARIABLE, Workspace
from tests.planning import facts

LARGE = Budget(gpu_memory_gb=40.5, host_memory_gb=64, size="m", network="unetr")


def planned(**choices) -> Plan:
    found = facts.spleen()
    return Plan(
        dataset="Spleen", labels=found.labels, fingerprint_hash="another", configurations={}, trainers={}, **choices
    )


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"recipe": "auto"}, ""),
        ({"recipe": "auto", "budget": PAPER.budget}, " --gpu-memory-gb 64"),
        ({"recipe": "paper", "budget": PAPER.budget}, " --recipe paper"),
        ({"recipe": "paper", "budget": PAPER.budget, "without": "unlabelled"}, " --recipe paper --without unlabelled"),
        (
            {"recipe": "auto", "budget": LARGE},
            " --gpu-memory-gb 40.5 --set budget.host_memory_gb=64 --size m --network unetr",
        ),
    ],
)
def test_a_plan_tells_the_command_that_made_it(tmp_path, monkeypatch, choices, words):
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert plan_again(planned(**choices), tmp_path) == f"flarenet_plan -d Spleen{words}"
    other = plan_again(planned(**choices), tmp_path / "other", "--rehash")
    assert other == f"flarenet_plan -d Spleen --root {tmp_path / 'other'}{words} --rehash"


def test_a_flag_that_is_given_takes_the_place_of_the_plan_s(tmp_path, monkeypatch):
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    plan = planned(recipe="auto", budget=Budget(gpu_memory_gb=40, size="m"))
    again = plan_again(plan, tmp_path, "--gpu-memory-gb G")
    assert again == "flarenet_plan -d Spleen --size m --gpu-memory-gb G"


def test_a_plan_has_room_for_hundreds_of_patterns(tmp_path):
    subset = Subset(patterns=tuple(tuple(range(first, first + 60)) for first in range(400)))
    step = Step(subset=subset, groups=("organ",), batch_size=1, batches_per_epoch=1, epochs=1, learning_rate=0.1)
    network = NetworkSpec(kind="unet", dimensions=3, features=(8, 8), groups=("organ",))
    trainer = TrainerPlan(configuration="3d", network=network, steps=(step,) * 6)
    plan = planned(recipe="auto").model_copy(update={"trainers": {"Own": trainer}})
    save_plan(plan, tmp_path / "plan.json")
    assert (tmp_path / "plan.json").stat().st_size > 1_000_000
    assert load(Plan, tmp_path / "plan.json", PlanError) == plan


def test_a_plan_of_another_fingerprint_is_to_be_made_as_it_was(tmp_path):
    workspace = Workspace(tmp_path, "Spleen")
    save(facts.spleen(), workspace.fingerprint)
    save_plan(planned(recipe="paper", budget=PAPER.budget), workspace.plan)
    again = f"flarenet_plan -d Spleen --root {tmp_path} --recipe paper, with the changes"
    with pytest.raises(PlanError, match=f"what to do: {again}"):
        load_planned(workspace)


def test_a_plan_edited_beyond_its_budget_can_be_read_but_not_trained(tmp_path):
    """400 mm each way at 0.05 mm: 8000 voxels an axis, 5.12e11 of 3 bytes."""
    workspace, found = Workspace(tmp_path, "Spleen"), facts.spleen()
    fine = Configuration(
        spacing_mm=(0.05,) * 3, inference_spacing_mm=(1.0,) * 3, patch=(32, 32, 32), clip_hu=(-200, 300)
    )
    scans = {"longest": ScanSize(shape=(400, 400, 400), spacing_mm=(1.0, 1.0, 1.0))}
    facts_of = {"fingerprint_hash": found.hash, "scans": scans, "configurations": {"3d": fine}}
    save(found, workspace.fingerprint)
    save_plan(planned(recipe="auto").model_copy(update=facts_of), workspace.plan)
    assert load_plan(workspace.plan).configurations == {"3d": fine}
    with pytest.raises(PlanError, match=r"(?s)plan.json: configurations.3d.spacing_mm 0.05.*1536.0 GB.*8 GB"):
        load_planned(workspace)
