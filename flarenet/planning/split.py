"""Which cases are held out to watch a training run. The same cases in every step of every trainer of a plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ..data.dataset import Case


def split_cases(
    cases: Sequence[Case], *, fraction: float, seed: int
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """(training, held out): `fraction` of each cohort, rounded, drawn by `seed` from all cases of the data set.

    Unlabelled cases are never held out, and a cohort of one case stays in training.
    """
    cohorts: dict[tuple[int, ...], list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.name):
        cohorts[tuple(sorted(case.annotated))].append(case)
    held_out: set[str] = set()
    for pattern, members in cohorts.items():
        count = min(round(fraction * len(members)), len(members) - 1) if pattern else 0
        order = np.random.default_rng([seed, *pattern]).permutation(len(members))
        held_out |= {members[i].name for i in order[:count]}
    train = tuple(case for case in cases if case.name not in held_out)
    return train, tuple(case for case in cases if case.name in held_out)
