import json

import pytest

from flarenet.errors import PlanError
from flarenet.planning.runs import Run, RunName
from flarenet.schema import Frozen, parse


class Named(Frozen):
    run: RunName | None = None
    each: dict[str, RunName] = {}


def test_a_run_is_written_as_a_plan_names_it():
    assert str(Run("3DOrgan", 2)) == f"{Run('3DOrgan', 2)}" == "3DOrgan/2"


def test_a_run_in_data_is_a_name_in_its_file():
    data = {"run": "3DOrgan/2", "each": {"organ": "MAE/1"}}
    named = parse(Named, data, "it", PlanError)
    assert named == Named(run=Run("3DOrgan", 2), each={"organ": Run("MAE", 1)})
    assert named.model_dump(mode="json") == json.loads(named.model_dump_json()) == data


@pytest.mark.parametrize("wrong", ["3DOrgan", "3DOrgan/", "/1", "3DOrgan/one", "3DOrgan/-1", 1, ["3DOrgan", 1]])
def test_what_names_no_run_is_refused_by_its_key(wrong):
    with pytest.raises(PlanError, match=r"key 'each.organ'(?s:.*)a run, as \"TRAINER/STEP\""):
        parse(Named, {"each": {"organ": wrong}}, "it", PlanError)
