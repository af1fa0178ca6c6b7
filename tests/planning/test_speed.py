"""How long a plan takes: what is counted, by hand; the numbers themselves are an orientation."""

import pytest

from flarenet.data.labels import LabelSet
from flarenet.planning.budget import AUTO
from flarenet.planning.cost.speed import prediction_seconds, pseudo_seconds
from flarenet.planning.plan_file import override
from flarenet.planning.summary import need_table
from flarenet.trainers.planner import make_plan
from tests.planning import facts

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})
COHORTS = {(1, 2): 1, (1,): 2, (2,): 3, (): 4}
SCANS = [(1, 40, 100, 3.0, 2.0)]


def test_pseudo_labels_take_a_prediction_of_each_pass_for_every_case_that_lacks_the_group():
    """The liver lacks in 3 + 4 cases, the tumor in 2 + 4; an earlier model is asked once beside the three passes."""
    found = facts.data_set("set", LABELS, COHORTS, SCANS, foreground_hu=(-60, 100, 200), hu=(-1000, 1000))
    plan = make_plan(found, AUTO)
    once_s = {
        name: prediction_seconds([plan.scans["median"]], plan.configurations["3d"], part.network, LABELS.outputs)
        for name, part in plan.trainers.items()
        if name in ("3DOrgan", "3DCancer")
    }
    step = plan.step("DualDecoder2D", 1)
    assert step.pseudo_rules.passes == 3
    expected = 3 * (7 * once_s["3DOrgan"] + 6 * once_s["3DCancer"])
    assert pseudo_seconds(step, plan, found) == pytest.approx(expected)
    assert pseudo_seconds(plan.step("DualDecoder2D", 2), plan, found) == 0
    key = "trainers.DualDecoder2D.steps.0.pseudo.earlier"
    later = override(plan, [f'{key}={{"organ": "Joint/1"}}']).step("DualDecoder2D", 1)
    flat = plan.configurations["2d"], plan.trainers["Joint"].network, LABELS.outputs
    expected += 7 * prediction_seconds([plan.scans["median"]], *flat)
    assert pseudo_seconds(later, plan, found) == pytest.approx(expected)


def test_the_time_to_train_is_told_for_a_card_and_for_the_cores_of_this_machine(monkeypatch):
    """A card makes 4e12 multiply-adds a second, four cores 4 * 3e10: a 33rd."""
    monkeypatch.setattr("flarenet.planning.summary.processors", lambda: 4)
    found = facts.flare23()
    (what, needs, _) = need_table(make_plan(found, AUTO), found).columns
    rows = dict(zip(what.cells, needs.cells))
    on_card = float(rows["Joint: time to train on a card"].removesuffix(" h"))
    on_cores = float(rows["Joint: the same on 4 CPU cores, as here"].removeprefix("about ").removesuffix(" h"))
    assert on_card > 1 and on_cores == pytest.approx(on_card * 100 / 3, rel=0.05)


def test_the_estimates_tell_the_time_of_pseudo_labels_where_there_are_any():
    found = facts.flare23()
    (what, needs, _) = need_table(make_plan(found, AUTO), found).columns
    rows = dict(zip(what.cells, needs.cells))
    assert [name for name in rows if "pseudo labels" in name] == ["DualDecoder2D: time of its pseudo labels on a card"]
    assert float(rows["DualDecoder2D: time of its pseudo labels on a card"].removesuffix(" h")) > 10
