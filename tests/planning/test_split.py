"""Folds: every annotated case is held out once, patients stay together, every fold has its share of every pattern."""

from dataclasses import replace
from pathlib import Path

import pytest

from flarenet.data.dataset import Case
from flarenet.errors import PlanError, UsageError
from flarenet.planning.split import Splits, load_splits, make_splits, unmatched
from flarenet.schema import save


def cohort(letter, count, pattern):
    """Cases a_00, a_01, ..."""
    label = Path("label.nii.gz") if pattern else None
    names = [f"{letter}_{i:02}" for i in range(count)]
    return [Case(name, Path(f"{name}.nii.gz"), label, frozenset(pattern)) for name in names]


CASES = [*cohort("a", 10, (1, 2, 3)), *cohort("b", 6, (3,)), *cohort("c", 20, ()), *cohort("d", 1, (1,))]


def counts(names):
    return {letter: sum(name.startswith(letter) for name in names) for letter in "abcd"}


def test_every_fold_has_its_share_of_every_pattern():
    splits = make_splits(CASES, 5, seed=0)
    found = [counts(fold) for fold in splits.folds]
    # 10 / 5 and 6 / 5; the unlabelled tell no score, and the only case of its pattern stays in training
    assert sorted(fold["b"] for fold in found) == [1, 1, 1, 1, 2]
    assert all((fold["a"], fold["c"], fold["d"]) == (2, 0, 0) for fold in found)
    assert sorted(name for fold in splits.folds for name in fold) == sorted(c.name for c in CASES if c.name[0] in "ab")


def test_small_cohorts_fill_different_folds():
    cases = [case for letter, label in zip("abcde", range(1, 6)) for case in cohort(letter, 2, (label,))]
    assert [len(fold) for fold in make_splits(cases, 5, seed=0).folds] == [2] * 5


def test_a_fold_that_holds_out_nothing_is_not_trained_but_for_the_first():
    splits = make_splits(cohort("a", 3, (1,)), 5, seed=0)  # three patients fill three folds
    assert splits.telling == (0, 1, 2)
    assert [len(splits.held_out_by_run(fold)) for fold in (0, 1, 2, "all")] == [1, 1, 1, 0]
    with pytest.raises(PlanError, match="expected: cases, as of fold 0, 1, 2\n.*--fold all"):
        splits.held_out_by_run(3)
    alone = make_splits([case for name in "abcd" for case in cohort(name, 1, ("_abcd".index(name),))], 5, seed=0)
    assert alone.telling == () and alone.held_out_by_run(0) == frozenset()
    with pytest.raises(PlanError, match="as of fold none"):
        alone.held_out_by_run(1)


def test_a_patient_is_in_one_fold_with_all_cases():
    cases = cohort("a", 12, (1,)) + cohort("b", 4, (2,))
    # three scans of each of four patients, and of each of them one more that was annotated for something else
    cases = [replace(case, patient=f"p{int(case.name[2:]) % 4}") for case in cases]
    folds = make_splits(cases, 4, seed=0).folds
    assert [counts(fold)["a"] for fold in folds] == [3] * 4 and [counts(fold)["b"] for fold in folds] == [1] * 4
    assert all(len({int(name[2:]) % 4 for name in fold}) == 1 for fold in folds)


def scans_of(patient, **counts):
    """Cases of a patient: so many annotated for label 1 (a), 2 (b)."""
    cases = [(letter, case) for letter, n in counts.items() for case in cohort(letter, n, ("_ab".index(letter),))]
    return [replace(case, name=f"{letter}_{patient}_{case.name}", patient=patient) for letter, case in cases]


@pytest.mark.parametrize("seed", range(60))
def test_no_fold_holds_out_all_patients_of_a_pattern(seed):
    """Twelve patients with three scans of a each, and two with a scan of b, one of whom has one of a as well."""
    often = [case for n in range(12) for case in scans_of(f"p{n}", a=3)]
    splits = make_splits([*often, *scans_of("q1", b=1), *scans_of("q2", a=1, b=1)], 5, seed=seed)
    found = [counts(fold) for fold in splits.folds]
    assert sorted(fold["b"] for fold in found) == [0, 0, 0, 1, 1]
    assert sum(fold["a"] for fold in found) == 37 and max(fold["a"] for fold in found) <= 9


def test_a_patient_without_whom_a_pattern_is_lost_wherever_it_goes_is_held_out_nowhere():
    """x holds the other patient of a, y that of b, so z, who has both, trains in both folds."""
    x, y, z = scans_of("x", a=1), scans_of("y", b=1), scans_of("z", a=1, b=1)
    before = Splits(folds=((x[0].name,), (y[0].name,)))
    assert make_splits([*x, *y, *z], 2, seed=0, before=before) == before


def test_what_nobody_annotated_is_held_out_with_its_patient():
    cases = [*cohort("a", 4, (1,)), *(replace(case, patient=f"a_{case.name[2:]}") for case in cohort("c", 6, ()))]
    for fold in make_splits(cases, 2, seed=0).folds:
        assert {name[2:] for name in fold if name[0] == "a"} == {name[2:] for name in fold if name[0] == "c"}


def test_the_order_in_which_cases_come_does_not_matter_and_the_seed_does():
    folds = make_splits(CASES, 5, seed=4)
    assert make_splits(CASES[::-1], 5, seed=4) == folds
    assert any(make_splits(CASES, 5, seed=seed) != folds for seed in range(5, 9))


def test_planning_again_leaves_every_case_in_its_fold():
    before = make_splits(CASES, 5, seed=0)
    more = [*cohort("a", 15, (1, 2, 3)), *cohort("b", 3, (3,)), *cohort("d", 2, (1,))]
    after = make_splits(more, 5, seed=1, before=before)
    there = {case.name for case in more}
    for old, new in zip(before.folds, after.folds):
        assert set(old) & there <= set(new)
        assert counts(new)["a"] == 3
    assert sum(counts(fold)["d"] for fold in after.folds) == 2  # no longer alone
    assert make_splits(more, 3, seed=1, before=before) == make_splits(more, 3, seed=1)


def test_planning_again_deals_new_cases_alone():
    """c_0 to c_3 are held out by hand, and c_4 to c_19 train; of five new ones the folds get their shares, 2 and 3."""
    cases = [replace(case, name=f"c{n}") for n, case in enumerate(cohort("c", 25, (1,)))]
    before, known = Splits(folds=(("c1", "c0"), ("c3", "c2"))), {case.name for case in cases[:20]}
    assert make_splits(cases[:20], 2, seed=0, before=before, known=known) == before
    after = make_splits(cases, 2, seed=0, before=before, known=known)
    assert [fold[:2] for fold in after.folds] == list(before.folds)
    assert sorted(name for fold in after.folds for name in fold[2:]) == ["c20", "c21", "c22", "c23", "c24"]
    assert sorted(len(fold) for fold in after.folds) == [4, 5]


def test_a_single_fold_stays_as_it_was_written_but_for_its_own_patients():
    x, others = scans_of("x", a=2), cohort("a", 6, (1,))
    before, known = Splits(folds=((x[0].name, "a_00"),)), {x[0].name, *(case.name for case in others[:3])}
    assert make_splits([*x, *others], 1, seed=0, before=before, known=known).folds == ((x[0].name, "a_00", x[1].name),)


def test_a_new_case_goes_where_its_patient_is():
    """x is held out by fold 1 but for one case that trains, y trains; each has a new case."""
    x, y, others = scans_of("x", a=3), scans_of("y", a=2), cohort("a", 3, (1,))
    cases, before = [*x, *y, *others], Splits(folds=(("a_00",), (x[0].name, "gone")))
    known = {case.name for case in cases} - {x[2].name, y[1].name}
    assert make_splits(cases, 2, seed=0, before=before, known=known).folds == (("a_00",), (*before.folds[1], x[2].name))


def test_a_fold_holds_out_what_it_names():
    splits = Splits(folds=(("a",), ("b", "c")))
    assert splits.held_out(1) == {"b", "c"} and splits.held_out("all") == frozenset()
    with pytest.raises(UsageError, match="0 to 1"):
        splits.held_out(2)


def test_names_that_no_case_has():
    assert unmatched({"a_01", "b_02", "c"}, CASES, "splits.json") == ["c"]
    assert unmatched(frozenset(), CASES, "splits.json") == []
    with pytest.raises(PlanError, match=r"splits.json(.|\n)*a_1, b-2(.|\n)*did you mean 'a_01'"):
        unmatched({"a_1", "b-2"}, CASES, "splits.json")


def test_splits_on_file(tmp_path):
    path = tmp_path / "P" / "splits.json"
    with pytest.raises(PlanError, match="flarenet_plan -d P"):
        load_splits(path)
    path.parent.mkdir()
    save(make_splits(CASES, 5, seed=0), path)
    assert load_splits(path) == make_splits(CASES, 5, seed=0)
    save(Splits(folds=(("Ju\u0308rg",),)), path)  # as a Mac may spell it
    assert load_splits(path).held_out(0) == {"J\u00fcrg"}
    save(Splits(folds=(("a", "b"), ("a",))), path)
    with pytest.raises(PlanError, match="case a twice"):
        load_splits(path)
    path.write_text('{"folds": []}')
    with pytest.raises(PlanError, match="'folds'"):
        load_splits(path)
