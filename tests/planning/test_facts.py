from flarenet.planning.budget import AUTO
from flarenet.planning.facts import OF_EACH_GROUP, OF_PREDICTION, prediction_facts
from flarenet.planning.fusion import Fusion
from flarenet.planning.plan import Configuration
from flarenet.trainers.planner import make_plan
from tests.planning import facts


def test_every_field_of_a_configuration_decides_something_but_the_remarks():
    assert OF_PREDICTION | {"why"} == Configuration.model_fields.keys()


def test_every_field_of_fusion_is_of_each_group_or_for_connected_parts():
    whole = {"largest", "least_ml", "least_share", "hosts", "near_mm"}
    assert OF_EACH_GROUP | whole == Fusion.model_fields.keys()


def test_a_rule_that_is_not_used_changes_no_fact_of_before_it():
    one, *_ = make_plan(facts.flare_mini(), AUTO).configurations.values()
    _, unused = prediction_facts(one, Fusion(), whole=True)
    assert set(unused) == {"rule", "flips", "largest", "least_ml", "hosts", "near_mm"}
    _, used = prediction_facts(one, Fusion(least_share={"liver": 0.1}), whole=True)
    assert used == unused | {"least_share": {"liver": 0.1}}
