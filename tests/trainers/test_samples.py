"""What a case asks for in a step: what was looked for in it, and what is never there."""

import pytest

from flarenet.data.dataset import Dataset
from flarenet.data.labels import LabelSet
from flarenet.data.settled import save_settled
from flarenet.preparation.dataset import prepare_dataset
from flarenet.trainers.samples import read_samples
from tests.pseudo.conftest import RULES, make_blocks, plan_of, step_of

LABELS = LabelSet(
    names=("background", "liver", "tumor", "cyst", "stone"), groups={"organ": (1,), "cancer": (2,), "other": (3, 4)}
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A prepared set of which nobody looked for cysts and stones in any case: `lesion` asks for its tumor alone, `bare`
    for nothing."""
    workspace, cases = make_blocks(tmp_path_factory.mktemp("root"))
    dataset = Dataset("Blocks", workspace.raw, LABELS, cases, ())
    assert prepare_dataset(dataset, plan(), workspace) == []
    save_settled(dataset, workspace.settled)
    return workspace


def plan():
    return plan_of(RULES).model_copy(update={"labels": LABELS})


@pytest.mark.parametrize("starts_from", [None, "Organ/1"])
def test_a_group_that_nobody_looked_for_is_taught_as_empty_by_every_case(workspace, starts_from):
    changes = {"teachers": {}, "groups": tuple(LABELS.groups), "starts_from": starts_from}
    train, _ = read_samples(
        step_of(None).model_copy(update=changes),
        plan=plan(),
        configuration="3d",
        workspace=workspace,
        held_out=frozenset(),
        teachers=None,
    )
    asked = {sample.name: {group: flags.tolist() for group, flags in sample.asked.items()} for sample in train}
    assert all(flags["other"] == [True, True, True] for flags in asked.values())
    assert asked["drawn"]["organ"] == asked["drawn"]["cancer"] == [True, True]
    assert asked["lesion"]["organ"] == [False, False] and asked["bare"]["cancer"] == [False, False]
