"""Held-out cases: a fraction of every cohort, never an unlabelled case, always the same."""

from pathlib import Path

from flarenet.data.dataset import Case
from flarenet.planning.split import split_cases


def cohort(letter, count, pattern):
    """Cases a_00, a_01, ..."""
    numbers = range(count)
    label = Path("label.nii.gz") if pattern else None
    return [Case(f"{letter}_{i:02}", Path(f"{letter}_{i:02}.nii.gz"), label, frozenset(pattern)) for i in numbers]


CASES = [*cohort("a", 10, (1, 2, 3)), *cohort("b", 6, (3,)), *cohort("c", 20, ()), *cohort("d", 1, (1,))]


def counts(cases):
    return {letter: sum(case.name.startswith(letter) for case in cases) for letter in "abcd"}


def test_a_fraction_of_each_cohort_is_held_out():
    train, held_out = split_cases(CASES, fraction=0.2, seed=0)
    # 0.2 * 10 = 2; 0.2 * 6 = 1.2, rounded 1; unlabelled none; a cohort of one none
    assert counts(held_out) == {"a": 2, "b": 1, "c": 0, "d": 0}
    assert counts(train) == {"a": 8, "b": 5, "c": 20, "d": 1}
    assert sorted(c.name for c in (*train, *held_out)) == sorted(c.name for c in CASES)


def test_at_least_one_case_of_a_cohort_stays_in_training():
    _, held_out = split_cases(CASES, fraction=0.99, seed=0)
    assert counts(held_out) == {"a": 9, "b": 5, "c": 0, "d": 0}


def test_nothing_is_held_out_of_a_fraction_of_zero():
    assert split_cases(CASES, fraction=0.0, seed=0) == (tuple(CASES), ())


def test_the_same_seed_holds_out_the_same_cases_in_whatever_order_they_come():
    _, held_out = split_cases(CASES, fraction=0.3, seed=4)
    _, reversed_ = split_cases(CASES[::-1], fraction=0.3, seed=4)
    assert {c.name for c in held_out} == {c.name for c in reversed_}
    others = [{c.name for c in split_cases(CASES, fraction=0.3, seed=seed)[1]} for seed in range(5, 9)]
    assert any(names != {c.name for c in held_out} for names in others)


def test_another_cohort_does_not_change_who_is_held_out_of_this_one():
    _, alone = split_cases(CASES[:10], fraction=0.3, seed=4)
    _, together = split_cases(CASES, fraction=0.3, seed=4)
    assert {c.name for c in alone} == {c.name for c in together if c.name.startswith("a")}
