"""Whether one model is better than another on the same cases: paired tests, corrected for their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy.stats import wilcoxon

from ..schema import Frozen

FEWEST_CASES = 6
"""How many cases must differ for a test. With fewer no two-sided p is below 0.05, even if all differences have one
sign: for 5 it is 2 / 2^5 = 0.0625."""

Scores = Mapping[str, float]
"""Case -> score."""


class PairedTest(Frozen):
    """Model `one` against model `other`, on the cases for which both have a score.

    what       what is compared: a label or a mean
    cases      how many cases both have a score for
    differ     how many of these have different scores
    median     of the differences, one - other; None without cases
    p          two-sided, by Wilcoxon's signed rank test on the cases that differ. If fewer than FEWEST_CASES differ:
               None, or 1 where there are at least FEWEST_CASES and none differs
    corrected  p after Holm's correction over all tests made together
    """

    what: str
    one: str
    other: str
    cases: int
    differ: int
    median: float | None
    p: float | None
    corrected: float | None = None


def paired_tests(scores: Mapping[str, Mapping[str, Scores]]) -> list[PairedTest]:
    """A test for every pair of models on every row; all tests are one family for the correction.

    scores  row -> model -> case -> score
    """
    found = [
        _paired(what, one, other, models[one], models[other])
        for what, models in scores.items()
        for one, other in combinations(models, 2)
    ]
    corrected = iter(holm([each.p for each in found if each.p is not None]))
    return [each if each.p is None else each.model_copy(update={"corrected": next(corrected)}) for each in found]


def holm(p_values: Sequence[float]) -> list[float]:
    """`p_values` corrected for their number: the probability that any test without a true difference gets a corrected p
    below a is at most a.

    Holm, Scandinavian Journal of Statistics 1979: the smallest of n values is multiplied by n, the next by n - 1, and
    so on; a larger value never ends up below a smaller one.
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = highest
    return corrected


def _paired(what: str, one: str, other: str, first: Scores, second: Scores) -> PairedTest:
    differences = np.array([first[case] - second[case] for case in first if case in second])
    differ = int(np.count_nonzero(differences))
    median = float(np.median(differences)) if differences.size else None
    p = None
    if differ >= FEWEST_CASES:
        p = float(wilcoxon(differences[differences != 0]).pvalue)  # with zeros scipy's p is not exact
    elif differences.size >= FEWEST_CASES and not differ:
        p = 1.0
    return PairedTest(what=what, one=one, other=other, cases=differences.size, differ=differ, median=median, p=p)
