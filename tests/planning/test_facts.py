from flarenet.planning.facts import OF_EACH_GROUP, OF_PREDICTION
from flarenet.planning.fusion import Fusion
from flarenet.planning.plan import Configuration


def test_every_field_of_a_configuration_decides_something_but_the_remarks():
    assert OF_PREDICTION | {"why"} == Configuration.model_fields.keys()


def test_every_field_of_fusion_is_of_each_group_or_of_the_whole_map():
    whole = {"largest", "least_ml", "hosts", "near_mm"}
    assert OF_EACH_GROUP | whole == Fusion.model_fields.keys()
