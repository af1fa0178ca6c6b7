"""Epochs by hand: one number for all steps, of which warm-ups keep their share."""

from flarenet.planning.budget import PAPER
from flarenet.planning.rules.epochs import with_epochs
from flarenet.trainers.planner import make_plan
from tests.planning import facts


def test_epochs_are_set_in_every_step_and_warm_ups_shrink_with_them():
    plan = make_plan(facts.flare23(), PAPER)
    organ, dual = plan.trainers["3DOrgan"], plan.trainers["DualDecoder2D"]
    assert [(step.epochs, step.warmup_epochs) for step in organ.steps] == [(250, 10)]
    shorter = with_epochs(plan, "3DOrgan", 50)
    assert [(step.epochs, step.warmup_epochs) for step in shorter.trainers["3DOrgan"].steps] == [(50, 2)]
    assert shorter.trainers["3DOrgan"].why["steps.0.epochs"] == "set by hand"
    assert shorter.trainers["DualDecoder2D"] == dual
    assert [step.epochs for step in with_epochs(plan, "DualDecoder2D", 3).trainers["DualDecoder2D"].steps] == [3] * 4
