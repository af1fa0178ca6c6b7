import pytest

from flarenet.evaluation.significance import holm, paired_tests


def _scores(*values: float) -> dict[str, float]:
    return {f"case{number}": value for number, value in enumerate(values)}


def test_holm_by_hand():
    # the smallest times 4, the next times 3, ...; 0.03 * 2 = 0.06 stays below the 0.06 before it; 0.5 counts once
    assert holm([0.01, 0.5, 0.02, 0.03]) == pytest.approx([0.04, 0.5, 0.06, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([]) == []


def test_p_of_six_differences_of_one_sign_is_two_of_64():
    better, worse = _scores(0.9, 0.8, 0.7, 0.95, 0.85, 0.6), _scores(0.8, 0.75, 0.68, 0.89, 0.82, 0.59)
    (found,) = paired_tests({"liver": {"A": better, "B": worse}})
    assert (found.one, found.other, found.cases, found.differ) == ("A", "B", 6, 6)
    assert found.p == pytest.approx(2 / 64) and found.corrected == found.p
    assert found.median == pytest.approx(0.04)  # of 0.1, 0.05, 0.02, 0.06, 0.03, 0.01


def test_cases_that_do_not_differ_leave_p_exact():
    better, worse = _scores(*[0.5] * 14, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1), _scores(*[0.5] * 20)
    (found,) = paired_tests({"liver": {"A": better, "B": worse}})
    assert (found.cases, found.differ, found.median) == (20, 6, 0.0) and found.p == pytest.approx(2 / 64)


def test_only_cases_of_both_count_and_too_few_give_no_p():
    one, other = _scores(0.9, 0.8, 0.7, 0.9, 0.8, 0.5), _scores(0.1, 0.2, 0.3, 0.4, 0.5)
    (found,) = paired_tests({"liver": {"A": one, "B": other}})
    assert (found.cases, found.p, found.corrected) == (5, None, None)


def test_equal_scores_differ_in_nothing():
    (found,) = paired_tests({"liver": {"A": _scores(*[0.5] * 8), "B": _scores(*[0.5] * 8)}})
    assert (found.cases, found.differ, found.median, found.p) == (8, 0, 0.0, 1.0)


def test_the_family_is_every_pair_in_every_row():
    rows = {name: {m: _scores(*[x * k for x in range(1, 8)]) for k, m in enumerate("ABC", 1)} for name in ("x", "y")}
    found = paired_tests(rows)
    assert [(each.what, each.one, each.other) for each in found[:3]] == [
        ("x", "A", "B"),
        ("x", "A", "C"),
        ("x", "B", "C"),
    ]
    assert [each.corrected for each in found] == pytest.approx([6 * 2 / 128] * 6)
