"""What is said of a finished run: whether it was trained by the plan of now."""

from pathlib import Path

import pytest

from flarenet.inference.models.about import FILES, PLAN, WEIGHTS, About
from flarenet.planning.plan_file import load_plan, override, save_plan
from flarenet.planning.rules.epochs import with_epochs
from flarenet.planning.runs import Run
from flarenet.planning.split import Splits
from flarenet.schema import save
from flarenet.trainers import Trainer3DOrgan
from flarenet.trainers.record import planned_otherwise
from flarenet.whole import sha256_of
from flarenet.workspace import Workspace

ORGAN = Run("3DOrgan", 1)


@pytest.fixture(scope="module")
def plan():
    return load_plan(Path(__file__).resolve().parents[1] / "golden" / "plan_spleen_auto.json")


@pytest.fixture
def tried(plan, tmp_path):
    """A run of one epoch, finished."""
    folder = tmp_path / "step_1"
    save_plan(with_epochs(plan, "3DOrgan", 1), folder / PLAN)
    (folder / WEIGHTS).write_bytes(b"weights")
    digests = {name: sha256_of(folder / name) for name in (PLAN, WEIGHTS)}
    save(About(trainer="3DOrgan", step=1, dataset="Spleen", flarenet="0", sha256=digests), folder / FILES[-1])
    return folder


def test_what_decides_a_training_and_was_planned_otherwise_is_named(plan, tried):
    epochs, warmup = plan.step(*ORGAN).epochs, plan.step(*ORGAN).warmup_epochs
    was, now = planned_otherwise(tried, ORGAN, plan, length=True)
    assert was.split(", ")[0] == "step.epochs=1" and now.split(", ")[0] == f"step.epochs={epochs}"
    assert ("step.warmup_epochs=0" in was) == bool(warmup)
    # what decides nothing of it: how to predict, another trainer
    changes = ["fusion.flips=true", "trainers.DualDecoder2D.steps.0.epochs=33"]
    same = override(with_epochs(plan, "3DOrgan", 1), changes)
    assert planned_otherwise(tried, ORGAN, same, length=True) == ("", "")


def test_how_long_a_run_was_trained_is_no_matter_where_it_is_built_on(plan, tried):
    assert planned_otherwise(tried, ORGAN, plan, length=False) == ("", "")
    other = override(plan, ["trainers.3DOrgan.steps.0.learning_rate=0.25", "seed=77"])
    was, now = planned_otherwise(tried, ORGAN, other, length=False)
    rate = plan.step(*ORGAN).learning_rate
    assert was == f"seed={plan.seed}, step.learning_rate={rate}" and now == "seed=77, step.learning_rate=0.25"


def test_of_a_run_that_is_damaged_or_not_of_the_plan_nothing_is_said(plan, tried):
    assert planned_otherwise(tried, Run("3DOrgan", 2), plan, length=True) == ("", "")
    assert planned_otherwise(tried / "nowhere", ORGAN, plan, length=True) == ("", "")
    (tried / PLAN).write_text("{}")
    assert planned_otherwise(tried, ORGAN, plan, length=True) == ("", "")


def test_a_run_of_another_plan_is_told_once_and_with_what_to_do(plan, tried, tmp_path, monkeypatch):
    workspace = Workspace(tmp_path, "Spleen")
    save(Splits(folds=((), ())), workspace.splits)
    said, one = [], Trainer3DOrgan(plan, workspace, device="cpu")
    monkeypatch.setattr(one, "_say", said.append)
    one._tell_other_plan(ORGAN, tried, length=False)
    assert said == []
    one._tell_other_plan(ORGAN, tried, length=True)
    one._tell_other_plan(ORGAN, tried, length=True)
    [warning] = said
    assert warning.startswith("warning: 3DOrgan step 1 was trained by a different plan: step.epochs=1")
    assert warning.endswith(f"; remove {tried} to train it again, or keep it as it is")
