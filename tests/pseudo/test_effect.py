import csv
from dataclasses import replace

import numpy as np
import pytest

from flarenet.data.dataset import Dataset
from flarenet.data.labels import HIDDEN, LabelSet
from flarenet.data.settled import save_settled
from flarenet.planning.pseudo_rules import PseudoRules
from flarenet.planning.runs import Run
from flarenet.pseudo.effect import (
    Counts,
    Effects,
    count,
    find_effects,
    measure,
    print_effects,
    truth_cases,
    variants,
    write_effects,
)
from flarenet.pseudo.teachers import Teachers

from .conftest import LABELS, RULES, plan_of, step_of, truth, write_scan

LIVER, TOP = 600 - 27 - 1, 100  # voxels that the teacher of organs names, and those of them that one pass lacks


def row(*values):
    return np.array(values, dtype=np.uint8).reshape(1, 1, -1)


def test_counts_of_a_row():
    truth = row(1, 1, 1, 0, 0, 2, HIDDEN)
    said = row(1, 1, 0, 1, 0, 2, 1)
    kept = row(1, HIDDEN, 0, HIDDEN, HIDDEN, 2, 1)
    one, two = count(truth, said, kept, labels=2, lesions=False)
    # label 1, kept voxels: true at 0 and 2, said at 0; of the 4 voxels of either, two are hidden
    assert one == Counts(hits=1, sizes=3, either=4, hidden=2, kept=0, removed=0, right=0, found=0, there=0)
    assert two == Counts(hits=1, sizes=2, either=1, hidden=0, kept=0, removed=0, right=0, found=0, there=0)


def test_counts_of_lesions():
    truth = row(1, 1, 0, 0, 0, 0, 1, 0, 1)  # three
    said = row(0, 1, 1, 0, 1, 0, 1, 0, 0)  # three, the first and the last right
    kept = row(0, 1, HIDDEN, 0, 1, 0, HIDDEN, 0, 0)
    [counts] = count(truth, said, kept, labels=1, lesions=True)
    assert (counts.kept, counts.removed, counts.right, counts.found, counts.there) == (2, 1, 1, 1, 3)
    assert counts.left_out == Counts(0, 0, 0, 0, 0, removed=3, right=0, found=0, there=3)


def test_only_filters_that_do_something_are_shown():
    assert list(variants(RULES, lesions=True)) == ["none", "least_mm3", "hosts", "agreement", "all"]
    assert list(variants(RULES, lesions=False)) == ["none", "agreement", "all"]
    assert list(variants(PseudoRules(), lesions=True)) == ["none", "all"]


def test_truth_is_what_no_teacher_learned_from(blocks):
    _, cases = blocks
    found, trained_on = truth_cases(cases, LABELS, ("organ", "cancer"), seen={"lesion"})
    assert found == {"organ": [cases[0]], "cancer": [cases[0]]} and cases[0].name == "drawn"
    assert not trained_on
    found, trained_on = truth_cases(cases, LABELS, ("cancer",), seen={"lesion", "drawn"})
    assert [case.name for case in found["cancer"]] == ["drawn", "lesion"] and trained_on
    assert truth_cases(cases, LABELS, ("cancer",), seen=None) == (found, True)


@pytest.fixture
def asked(blocks, teachers):
    workspace, cases = blocks
    return Teachers(teachers, step_of(RULES), plan_of(RULES), workspace), cases[:1], {2: frozenset({1})}


def test_the_effect_of_each_filter_on_organs(asked):
    teachers, cases, hosts = asked
    effects = {e.filter: e for e in measure(teachers, RULES, LABELS, "organ", cases=cases, hosts=hosts)}
    assert list(effects) == ["none", "agreement", "all"]
    # the truth has 573 voxels of liver that no tumor hides; the teacher lacks the speck
    assert effects["none"].dsc == pytest.approx(2 * LIVER / (2 * LIVER + 1), abs=1e-4)
    assert effects["agreement"].dsc == pytest.approx(2 * (LIVER - TOP) / (2 * (LIVER - TOP) + 1), abs=1e-4)
    assert effects["agreement"].hidden == pytest.approx(TOP / (LIVER + 1), abs=1e-4)
    assert (effects["none"].hidden, effects["none"].cases, effects["none"].dropped) == (0.0, 1, 0)


def test_the_effect_of_each_filter_on_lesions(asked):
    teachers, cases, hosts = asked
    effects = {e.filter: e for e in measure(teachers, RULES, LABELS, "cancer", cases=cases, hosts=hosts)}
    assert [(e.kept, e.removed, e.precision, e.recall) for e in effects.values()] == [
        (3, 0, pytest.approx(1 / 3, abs=1e-4), 1.0),  # none: the tumor, a speck, one in the air
        (2, 1, 0.5, 1.0),  # least_mm3
        (2, 1, 0.5, 1.0),  # hosts
        (3, 0, pytest.approx(1 / 3, abs=1e-4), 1.0),  # agreement: all passes see the same
        (1, 2, 1.0, 1.0),  # all
    ]
    assert effects["none"].dsc == pytest.approx(2 * 27 / (27 + 55), abs=1e-4) and effects["all"].dsc == 1.0
    assert effects["all"].hidden == pytest.approx(28 / 55, abs=1e-4)


def test_a_lesion_well_within_the_true_one_lies_in_the_organ_around_that(asked):
    """Two voxels of true tumor lie between what the teacher sees and the drawn liver, which ends at the true tumor."""
    teachers, cases, hosts = asked
    drawn = truth()
    drawn[2:8, 2:9, 2:9] = 2
    write_scan(cases[0].label, drawn)
    effects = {e.filter: e for e in measure(teachers, RULES, LABELS, "cancer", cases=cases, hosts=hosts)}
    found = effects["hosts"]
    assert (found.kept, found.removed, found.precision, found.recall) == (2, 1, 0.5, 1.0)  # as above


def test_a_case_that_is_left_out_teaches_nothing(blocks, teachers):
    workspace, cases = blocks
    rules = PseudoRules(passes=3, drop_share=0.5)
    asked = Teachers(teachers, step_of(rules), plan_of(rules), workspace)
    found = {e.filter: e for e in measure(asked, rules, LABELS, "cancer", cases=cases[:2], hosts={})}
    assert (found["none"].cases, found["none"].kept, found["none"].recall) == (2, 6, 1.0)
    dropped = found["drop_share"]
    assert (dropped.dropped, dropped.kept, dropped.removed, dropped.recall) == (1, 3, 3, 0.5)


def test_cases_of_every_cohort_of_a_group_are_counted_as_left_out(blocks, teachers, capsys):
    """Liver and spleen are of one group, and each is drawn in another case. Of two equal cases the first is dropped."""
    workspace, cases = blocks
    labels = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})
    rules = PseudoRules(passes=3, drop_share=0.5)
    cohorts = [replace(case, annotated=frozenset({value})) for case, value in zip(cases, (2, 1))]
    for case, value in zip(cohorts, (2, 1)):
        write_scan(case.label, np.where(truth() == 1, value, 0).astype(np.uint8))
    asked = Teachers(teachers, step_of(rules), plan_of(rules).model_copy(update={"labels": labels}), workspace)
    effects = measure(asked, rules, labels, "organ", cases=cohorts, hosts={})
    assert [(e.label, e.cases, e.dropped, e.dropped_of_group) for e in effects if e.filter == "drop_share"] == [
        ("liver", 1, 0, 1), ("spleen", 1, 1, 1),
    ]  # fmt: skip
    names = tuple(case.name for case in cohorts)
    whole = Effects(step="Student/1", rules=rules, hosts={}, cases=names, trained_on=False, effects=tuple(effects))
    print_effects(whole, ["organ"])
    [row] = [line for line in capsys.readouterr().out.splitlines() if "cases left out" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["cases left out", "", "0", "1", "1"]


def test_the_whole_is_written_and_shown(blocks, teachers, tmp_path, monkeypatch, capsys):
    workspace, cases = blocks
    asked = Teachers(teachers, step_of(RULES), plan_of(RULES), workspace)
    monkeypatch.setattr("flarenet.pseudo.sources.read_about", lambda folder: folder)
    effects = find_effects(asked, Run("Student", 1), plan_of(RULES), workspace)
    # the tumor of `lesion` was learned from, so it says where lesions lie, and `drawn` is the truth
    assert effects.cases == ("drawn",) and effects.hosts == {"tumor": ("liver",)} and not effects.trained_on
    write_effects(tmp_path / "out", effects)
    assert Effects.model_validate_json((tmp_path / "out" / "filters.json").read_text()) == effects
    rows = list(csv.DictReader((tmp_path / "out" / "filters.csv").read_text().splitlines()))
    assert [(r["group"], r["filter"]) for r in rows][:3] == [("organ", w) for w in ("none", "agreement", "all")]
    monkeypatch.setenv("COLUMNS", "160")
    print_effects(effects.model_copy(update={"trained_on": True}), ("organ", "cancer"))
    said = capsys.readouterr().out
    assert "liver" in said and "precision" in said and "learned from these cases" in said and "no case" not in said


def test_a_group_whose_every_annotated_case_was_learned_from_is_named(blocks, teachers, monkeypatch, capsys):
    workspace, (drawn, *others) = blocks
    write_scan(drawn.label, np.where(truth() == 1, 1, 0).astype(np.uint8))
    cases = (replace(drawn, annotated=frozenset({1})), *others)  # the only tumor is that of `lesion`
    save_settled(Dataset("Blocks", workspace.raw, LABELS, cases, ()), workspace.settled)
    asked = Teachers(teachers, step_of(RULES), plan_of(RULES), workspace)
    monkeypatch.setattr("flarenet.pseudo.sources.read_about", lambda folder: folder)
    effects = find_effects(asked, Run("Student", 1), plan_of(RULES), workspace)
    assert {effect.group for effect in effects.effects} == {"organ"} and not effects.trained_on
    print_effects(effects, ("organ", "cancer"))
    assert capsys.readouterr().out.splitlines()[-1] == "note: cancer: no case to measure its filters on"
