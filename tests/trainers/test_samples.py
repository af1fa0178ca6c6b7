"""What a case asks for in a step: what was looked for in it, and what is never there."""

from dataclasses import replace

import pytest

from flarenet.data.dataset import Dataset
from flarenet.data.labels import LabelSet
from flarenet.data.settled import load_settled, save_settled
from flarenet.errors import RunError
from flarenet.planning.measuring.cache import Cache
from flarenet.planning.measuring.survey import measure_cases
from flarenet.planning.plan import Augmentation, Subset
from flarenet.planning.runs import Run
from flarenet.preparation.dataset import prepare_dataset
from flarenet.trainers.samples import read_samples
from flarenet.training.batches import Batches, case_weights
from tests.pseudo.conftest import RULES, make_blocks, plan_of, step_of, truth, write_scan

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


def split_of(workspace, held_out=frozenset(), **changes):
    changes = {"teachers": {}, "groups": tuple(LABELS.groups), **changes}
    return read_samples(
        step_of(None).model_copy(update=changes),
        plan=plan(),
        configuration="3d",
        workspace=workspace,
        held_out=held_out,
        teachers=None,
    )


def samples_of(workspace, **changes):
    return split_of(workspace, **changes)[0]


@pytest.mark.parametrize("starts_from", [None, Run("Organ", 1)])
def test_a_group_that_nobody_looked_for_is_taught_as_empty_by_every_case(workspace, starts_from):
    train = samples_of(workspace, starts_from=starts_from)
    annotated = {sample.name: {group: flags.tolist() for group, flags in sample.annotated.items()} for sample in train}
    assert all(flags["other"] == [True, True, True] for flags in annotated.values())
    assert annotated["drawn"]["organ"] == annotated["drawn"]["cancer"] == [True, True]
    assert annotated["lesion"]["organ"] == [False, False] and annotated["bare"]["cancer"] == [False, False]


@pytest.mark.parametrize(("starts_from", "organ"), [(None, [True, True]), (Run("Organ", 1), [False, False])])
def test_a_label_that_only_cases_of_other_steps_answer_is_never_there_for_random_weights(workspace, starts_from, organ):
    """Nobody looked for a liver in `lesion`; a run that is gone on from may have learned it elsewhere."""
    (lesion,) = samples_of(workspace, starts_from=starts_from, subset=Subset(patterns=((2,),)))
    flags = {group: annotated.tolist() for group, annotated in lesion.annotated.items()}
    assert flags == {"organ": organ, "cancer": [True, True], "other": [True, True, True]}


@pytest.mark.parametrize("starts_from", [None, Run("Organ", 1)])
def test_a_label_that_only_held_out_cases_answer_is_never_there(workspace, starts_from):
    """The liver is drawn in `drawn` alone, the tumor in `lesion` too."""
    train, held_out = split_of(workspace, frozenset({"drawn"}), starts_from=starts_from)
    organ = {sample.name: sample.annotated["organ"].tolist() for sample in (*train, *held_out)}
    assert organ == dict.fromkeys(("drawn", "lesion", "bare", "firm"), [True, True])
    cancer = {sample.name: sample.annotated["cancer"].tolist() for sample in (*train, *held_out)}
    assert cancer == {"lesion": [True, True], "bare": [False] * 2, "firm": [False] * 2, "drawn": [True, True]}


@pytest.mark.parametrize(
    ("groups", "labelled", "weights"),
    [
        (("organ", "cancer", "other"), [(1, 2), (2,), (), ()], [2, 1, 1, 1]),
        (("cancer", "other"), [(2,), (2,), (), ()], [1, 1, 1, 1]),
    ],
)
def test_a_case_weighs_by_the_labels_looked_for_in_it_not_by_those_that_are_never_there(
    workspace, groups, labelled, weights
):
    train = samples_of(workspace, groups=groups)
    assert [sample.labelled for sample in train] == labelled
    assert case_weights(train, balance=1.0, rare={}) == weights


@pytest.mark.parametrize(
    ("groups", "drawn", "lesion", "bare"),
    [
        ((), {}, {}, {}),
        (("organ",), {"organ": [True, True]}, {"organ": [False, False]}, {"organ": [False, False]}),
        (("cancer",), {"cancer": [True, True]}, {"cancer": [True, True]}, {"cancer": [False, False]}),
    ],
)
def test_samples_and_batches_hold_no_group_that_the_step_does_not_train(workspace, groups, drawn, lesion, bare):
    train = samples_of(workspace, groups=groups)
    annotated = {sample.name: {group: flags.tolist() for group, flags in sample.annotated.items()} for sample in train}
    assert annotated == {"drawn": drawn, "lesion": lesion, "bare": bare, "firm": bare}
    batch = Batches(train, (8, 8), batch_size=4, seed=0, augmentation=Augmentation(rotation_deg=10)).batch(0, 0)
    assert batch.labels.keys() == batch.annotated.keys() == set(groups) and sorted(batch.names) == sorted(annotated)


def test_a_flipped_bit_of_a_prepared_case_is_named_with_what_mends_it(workspace):
    path = workspace.store("3d") / "drawn" / "image.b2nd"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RunError) as caught:
        samples_of(workspace)
    assert "1 damaged: drawn" in caught.value.found and str(path) in caught.value.found
    assert f"flarenet_plan -d Blocks --root {workspace.root} --rehash, with" in caught.value.remedy
    path.write_bytes(whole)
    assert len(samples_of(workspace)) == 4


def test_a_flipped_bit_of_what_was_looked_for_is_named_and_planning_again_mends_it(workspace):
    """Label 2 would no more be asked for in this case, and 3 be taught as absent from it."""
    path = workspace.store("3d") / "drawn" / "record.json"
    text = path.read_text()
    assert text.count('"annotated": [1, 2]') == 1
    path.write_text(text.replace('"annotated": [1, 2]', '"annotated": [1, 3]'))
    with pytest.raises(RunError) as caught:
        samples_of(workspace)
    assert caught.value.found == "1 of a damaged record: drawn"
    assert caught.value.remedy.startswith("flarenet_plan -d Blocks")
    dataset = load_settled(workspace.settled)
    assert prepare_dataset(dataset, plan(), workspace) == []
    assert path.read_text() == text and len(samples_of(workspace)) == 4


def test_cases_that_planning_knows_otherwise_than_they_were_prepared_are_named(tmp_path):
    """As a flarenet_plan leaves them that was killed after measuring."""
    workspace, cases = make_blocks(tmp_path)

    def planned(*cases, measured=None, prepared):
        dataset = Dataset("Blocks", workspace.raw, LABELS, cases, ())
        found = replace(dataset, cases=measured or cases)
        assert measure_cases(found, Cache(workspace.measured))[1] == []
        if prepared:
            assert prepare_dataset(dataset, plan(), workspace) == []
        save_settled(dataset, workspace.settled)

    def refused():
        with pytest.raises(RunError) as caught:
            samples_of(workspace)
        assert caught.value.remedy.startswith("flarenet_plan -d Blocks")
        return caught.value.found

    planned(*cases, prepared=True)
    assert len(samples_of(workspace)) == 4

    drawn, lesion, bare, firm = cases
    wider = replace(lesion, annotated=frozenset({1, 2}))
    planned(drawn, wider, bare, firm, prepared=False)
    assert refused() == "1 prepared before their files, or what was looked for in them, changed: lesion"

    write_scan(drawn.label, truth()[::-1].copy())
    labelled = replace(bare, label=drawn.label, annotated=frozenset({1, 2}))
    planned(drawn, lesion, labelled, firm, prepared=False)
    assert refused().startswith("2 prepared before") and refused().endswith(": drawn, bare")
    planned(drawn, lesion, labelled, firm, prepared=True)
    assert len(samples_of(workspace)) == 4

    unlabelled = replace(drawn, label=None, annotated=frozenset())  # as where a label file tells nothing
    planned(unlabelled, lesion, labelled, firm, measured=(drawn, lesion, labelled, firm), prepared=True)
    assert len(samples_of(workspace)) == 4
