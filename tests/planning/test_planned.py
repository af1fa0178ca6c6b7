"""The remedy of a plan that is out of date is the command that made it."""

import pytest

from flarenet.errors import PlanError
from flarenet.planning.budget import PAPER, Budget
from flarenet.planning.plan import Plan
from flarenet.planning.plan_file import save_plan
from flarenet.planning.planned import load_planned, plan_again
from flarenet.schema import save
from flarenet.workspace import Workspace
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
        ({"recipe": "auto", "budget": PAPER}, " --gpu-memory-gb 64"),
        ({"recipe": "paper", "budget": PAPER}, " --recipe paper"),
        ({"recipe": "paper", "budget": PAPER, "without": "unlabelled"}, " --recipe paper --without unlabelled"),
        (
            {"recipe": "auto", "budget": LARGE},
            " --gpu-memory-gb 40.5 --set budget.host_memory_gb=64 --size m --network unetr",
        ),
    ],
)
def test_a_plan_tells_the_command_that_made_it(choices, words):
    assert plan_again(planned(**choices)) == f"flarenet_plan -d Spleen{words}"


def test_a_plan_of_another_fingerprint_is_to_be_made_as_it_was(tmp_path):
    workspace = Workspace(tmp_path, "Spleen")
    save(facts.spleen(), workspace.fingerprint)
    save_plan(planned(recipe="paper", budget=PAPER), workspace.plan)
    with pytest.raises(PlanError, match="what to do: flarenet_plan -d Spleen --recipe paper, with the changes"):
        load_planned(workspace)
