import json

import pytest

from flarenet.data.labels import LabelSet
from flarenet.errors import FlarenetError, PlanError
from flarenet.planning.budget import AUTO
from flarenet.planning.cost.memory import prediction_gb
from flarenet.planning.fusion import Fusion, check_fusion
from flarenet.planning.plan_file import load_plan, override, save_plan
from flarenet.planning.summary import fusion_table
from flarenet.schema import read_json
from flarenet.trainers.planner import make_plan
from tests.planning import facts

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})


@pytest.mark.parametrize(
    "rules, said",
    [
        ({"largest": ("lung",)}, "fusion.largest"),
        ({"largest": ("background",)}, "fusion.largest"),
        ({"least_ml": {"lesion": 1.0}}, "fusion.least_ml"),
        ({"least_share": {"lesion": 0.1}}, "fusion.least_share"),
        ({"hosts": {"tumor": ("lung",)}}, "fusion.hosts"),
        ({"hosts": {"tumor": ("tumor",)}}, "fusion.hosts.tumor"),
        ({"hosts": {"tumor": ()}}, "fusion.hosts.tumor"),
    ],
)
def test_rules_must_fit_the_label_table(rules, said):
    with pytest.raises(PlanError, match=said):
        check_fusion(Fusion(**rules), LABELS, "plan: fusion")


def test_only_connected_parts_need_all_slices():
    assert not Fusion(rule="probability", flips=True, near_mm=3).needs_parts
    assert Fusion(least_share={"liver": 0.1}).needs_parts
    assert Fusion(largest=("liver",)).needs_parts and Fusion(hosts={"tumor": ("liver",)}).needs_parts


def test_a_plan_says_how_groups_are_fused_and_older_ones_mean_the_overlay(tmp_path):
    plan = make_plan(facts.flare_mini(), AUTO)
    assert plan.fusion == Fusion()
    save_plan(plan, tmp_path / "plan.json")
    data = read_json(tmp_path / "plan.json", PlanError)
    del data["fusion"]
    (tmp_path / "old.json").write_text(json.dumps(data))
    assert load_plan(tmp_path / "old.json") == plan
    changed = override(plan, ["fusion.rule=probability", 'fusion.least_share={"tumor": 0.5}'])
    assert changed.fusion == Fusion(rule="probability", least_share={"tumor": 0.5})
    assert list(fusion_table(changed.fusion).columns[0].cells) == ["rule", "least_share"]


@pytest.mark.parametrize(
    "change",
    [
        "fusion.rule=vote",
        "fusion.largest=[liver]",
        'fusion.least_ml={"tumor": 0}',
        'fusion.least_share={"tumor": 1.1}',
        "fusion.x=1",
    ],
)
def test_what_does_not_fit_is_refused(change):
    with pytest.raises(FlarenetError, match="fusion"):
        override(make_plan(facts.flare_mini(), AUTO), [change])


def test_a_rule_that_the_budget_has_no_memory_for_is_refused_in_planning_alone():
    """A large scan of these has 157 million voxels: its packed answer takes 0.008 GB a group."""
    plan = make_plan(facts.kidneys(), AUTO)
    large, outputs = plan.scans["large"], plan.labels.outputs
    need_gb = max(
        prediction_gb(large, plan.configuration_of(name), plan.trainer(name).network, outputs)
        for name in plan.final_trainers
    )
    budget = plan.budget.model_copy(update={"inference_memory_gb": need_gb + 0.004})
    plan, rule = plan.model_copy(update={"budget": budget}), ['fusion.largest=["kidney"]']
    with pytest.raises(PlanError, match="needs about"):
        override(plan, rule)
    assert override(plan, rule, trained=True).fusion == Fusion(largest=("kidney",))
    with pytest.raises(PlanError, match="fusion.largest"):
        override(plan, ['fusion.largest=["lung"]'], trained=True)
