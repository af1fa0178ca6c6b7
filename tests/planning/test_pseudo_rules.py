import re

import pytest

from flarenet.errors import PlanError, UsageError
from flarenet.planning.budget import AUTO, PAPER
from flarenet.planning.plan_file import override
from flarenet.planning.pseudo_rules import AUTO_RULES, FILTERS, UNFILTERED, PseudoRules
from flarenet.trainers.planner import make_plan
from tests.planning import facts

STEP = "trainers.DualDecoder2D.steps.0.pseudo"


@pytest.fixture(scope="module")
def plan():
    return make_plan(facts.flare_mini(), AUTO)


def test_the_paper_filters_nothing_and_auto_says_why_it_does(plan):
    steps = make_plan(facts.flare23(), PAPER).trainers["DualDecoder2D"].steps
    assert [step.pseudo for step in steps] == [UNFILTERED, UNFILTERED, None, None]
    assert all(step.pseudo_rules == UNFILTERED for step in steps)
    part = plan.trainers["DualDecoder2D"]
    assert part.steps[0].pseudo == AUTO_RULES and "RECIST" in part.why["steps.0.pseudo.least_mm3"]


def test_a_rule_is_changed_like_any_other_value(plan):
    changed = override(plan, [f"{STEP}.passes=5", f'{STEP}.hosts={{"tumor":["liver","pancreas"]}}'])
    rules = changed.step("DualDecoder2D", 1).pseudo_rules
    assert (rules.passes, rules.hosts) == (5, {"tumor": ("liver", "pancreas")})
    why = changed.trainers["DualDecoder2D"].why
    assert why["steps.0.pseudo.passes"] == "set by hand" != why["steps.0.pseudo.drop_share"]


@pytest.mark.parametrize(
    "change, said",
    [
        ('hosts={"tumor":["lever"]}', "lever"),
        ('earlier={"organs":"3DOrgan/1"}', "organs"),
        ('earlier={"organ":"3DOrgan/7"}', "3DOrgan/7"),
        ('earlier={"organ":"3DCancer/1"}', "3DCancer/1, which answers cancer"),
        ("passes=1", "one source"),
        ("agreement=2", "agreement"),
    ],
)
def test_what_names_nothing_is_refused(plan, change, said):
    with pytest.raises(PlanError, match=said):
        override(plan, [f"{STEP}.{change}"])


def test_the_words_that_ask_each_teacher_once_are_said_and_are_taken(plan):
    with pytest.raises(PlanError) as refused:
        override(plan, [f"{STEP}.passes=1"])
    remedy = str(refused.value).splitlines()[-1]
    words = re.findall(r"trainers[^ ,]+=[^ ,]+", remedy)
    assert words == [f"{STEP}.passes=1", f"{STEP}.agreement=0", f"{STEP}.drop_share=0", f"{STEP}=null"]
    once = override(plan, words[:3]).step("DualDecoder2D", 1).pseudo_rules
    assert once == AUTO_RULES.model_copy(update={"passes": 1, "agreement": 0, "drop_share": 0})
    assert override(plan, words[3:]).step("DualDecoder2D", 1).pseudo_rules == UNFILTERED


def test_a_star_changes_the_steps_that_have_pseudo_labels(plan):
    steps = [step for part in plan.trainers.values() for step in part.steps]
    assert any(step.pseudo for step in steps) and not all(step.pseudo for step in steps)
    changed = override(plan, ["trainers.*.steps.*.pseudo.passes=2"])
    after = [step for part in changed.trainers.values() for step in part.steps]
    assert [step.pseudo and step.pseudo.passes for step in after] == [step.pseudo and 2 for step in steps]
    with pytest.raises(UsageError, match="did you mean 'passes'"):
        override(plan, ["trainers.*.steps.*.pseudo.pases=2"])


def test_a_part_that_is_null_everywhere_or_where_it_is_named_is_said(plan):
    without = override(plan, ["trainers.*.steps.*.pseudo=null"])
    with pytest.raises(UsageError, match=r"null, or nothing, wherever \* stands"):
        override(without, ["trainers.*.steps.*.pseudo.passes=2"])
    with pytest.raises(UsageError, match=f"{STEP} is null"):
        override(without, [f"{STEP}.passes=2"])


def test_a_filter_alone_keeps_the_sources():
    assert AUTO_RULES.alone(None) == PseudoRules(passes=3)
    for name in FILTERS:
        alone = AUTO_RULES.alone(name)
        assert getattr(alone, name) == getattr(AUTO_RULES, name)
        assert [field for field in FILTERS if getattr(alone, field) != getattr(UNFILTERED, field)] == [name]
