import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flarenet.cli.patterns import main
from flarenet.planning.measuring.inferred import infer_patterns

ALL = tuple(range(1, 14))
FIVE, BOTH, TUMOR = (1, 2, 3, 4, 13), (1, 2, 3, 4, 13, 14), (14,)


def collection(*cohorts, most_absent=0.04, seed=0):
    """(present, truth) of cohorts (pattern, cases); each label of each cohort is absent at its own rate."""
    draw, present, truth = random.Random(seed), {}, {}
    for pattern, cases in cohorts:
        rates = {value: draw.uniform(0, most_absent) for value in pattern}
        for _ in range(cases):
            name = f"case{len(present):05d}"
            present[name] = [value for value in pattern if draw.random() >= rates[value]]
            truth[name] = pattern
    return present, truth


def counts(patterns):
    return dict(Counter(patterns.values()))


def present_labels() -> Path:
    root = Path(os.environ.get("FLARENET_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
    path = root / "flare23" / "present_labels.json"
    if not path.is_file():
        pytest.skip(f"no flare23/present_labels.json below {root}")
    return path


def test_the_four_cohorts_of_the_real_collection(capsys):
    assert main([str(present_labels())]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(tuple(cohort["annotated"]), cohort["cases"]) for cohort in said["cohorts"]] == [
        (ALL, 250), (BOTH, 609), (FIVE, 453), (TUMOR, 888),
    ]  # fmt: skip
    assert len(said["absent"]) == 63
    present = json.loads(present_labels().read_text())
    lacking_most = max(said["absent"], key=lambda name: len(said["absent"][name]))
    assert len(said["absent"][lacking_most]) == 4 and "4" not in said["ambiguous"]
    # a mask with the tumor and four organs is of the cohort with both, never of that with the organs
    assert not [name for name in said["ambiguous"] if 14 in present[name]]
    assert lacking_most in said["ambiguous"] and len(said["ambiguous"]) == 16


def test_a_small_collection_of_the_same_kind():
    present, _ = collection((ALL, 40), (FIVE, 70), (BOTH, 90), (TUMOR, 130), most_absent=0)
    trap, odd = {f"trap{i}": [1, 2, 3, 4, 14] for i in range(2)}, {"odd": [1, 2, 3, 4, 5, 6, 7, 10, 11]}
    gallbladder = {f"operated{i}": [v for v in ALL if v != 9] for i in range(4)}
    found = infer_patterns({**present, **trap, **odd, **gallbladder})
    assert counts(found.patterns) == {ALL: 45, FIVE: 70, BOTH: 92, TUMOR: 130}
    assert found.patterns["trap0"] == BOTH and found.patterns["odd"] == found.patterns["operated0"] == ALL
    assert "{8, 9, 12, 13} absent" in found.ambiguous["odd"]
    assert not set(found.ambiguous) & set(present)


def test_the_tumor_known_as_a_finding_changes_nothing_where_cohorts_are_large():
    present, truth = collection((ALL, 250), (FIVE, 450), (BOTH, 600), (TUMOR, 880), most_absent=0)
    assert infer_patterns(present, findings=(14,)).patterns == truth


@pytest.mark.parametrize("cases", [5, 20, 100, 500])
def test_a_fully_annotated_set_is_one_cohort_whatever_is_absent(cases):
    present, truth = collection((ALL, cases), most_absent=0.05)
    present["case00000"] = list(ALL)
    assert infer_patterns(present).patterns == truth


def test_a_set_with_a_tumor_in_half_of_its_cases_is_one_cohort_and_those_without_are_listed():
    present = {f"a{i}": [1, 2] if i % 2 else [1] for i in range(60)}
    found = infer_patterns(present, findings=(2,))
    assert counts(found.patterns) == {(1, 2): 60}
    assert set(found.ambiguous) == {name for name, values in present.items() if values == [1]}
    assert "50 %" in found.ambiguous["a0"]
    # an organ is not missing in half of the patients
    assert counts(infer_patterns(present).patterns) == {(1,): 30, (1, 2): 30}


def test_a_tenth_of_the_cases_without_a_lesion_is_nothing_special():
    present = {f"a{i}": [1, 2] if i % 10 else [1] for i in range(130)}
    found = infer_patterns(present, findings=(2,))
    assert counts(found.patterns) == {(1, 2): 130} and found.ambiguous == {}


def test_empty_masks_are_unlabelled_beside_organs_and_without_tumor_beside_tumors():
    empty = {f"empty{i}": [] for i in range(5)}
    organs, _ = collection((ALL, 50), most_absent=0)
    assert infer_patterns({**organs, **empty}).patterns["empty0"] == ()
    tumors, _ = collection((TUMOR, 100), most_absent=0)
    assert infer_patterns({**tumors, **empty}, findings=TUMOR).patterns["empty0"] == TUMOR
    assert counts(infer_patterns(empty).patterns) == {(): 5}


def test_one_case_no_case_and_strangers():
    assert infer_patterns({}).patterns == {}
    assert infer_patterns({"a": [3, 1]}).patterns == {"a": (1, 3)}
    alone = {f"a{i}": [i] for i in range(1, 7)}
    assert infer_patterns(alone).patterns == {f"a{i}": (i,) for i in range(1, 7)}


def test_declared_cases_stay_and_count_as_known():
    present = {"told": [1], "same": [1], "other": [1, 2, 3], **{f"a{i}": [1, 2, 3] for i in range(9)}}
    assert infer_patterns(present).patterns["told"] != (1, 3)
    found = infer_patterns(present, declared={"told": (1, 3)})
    assert found.patterns["told"] == (1, 3) and found.patterns["other"] == (1, 2, 3)
    assert "told" not in found.ambiguous
    # declared cases that lack different labels of one pattern are one cohort
    lacking = {f"known{i}": [v for v in FIVE if v != FIVE[i]] for i in range(5)}
    found = infer_patterns({**lacking, "case": FIVE[:4]}, declared=dict.fromkeys(lacking, FIVE))
    assert counts(found.patterns) == {FIVE: 6}
    # five declared cases of five labels beside it: a case without one of them joins them instead of founding a cohort
    known = {f"known{i}": FIVE for i in range(5)}
    masks = {**{name: FIVE for name in known}, "case": FIVE[:4], "tumor": TUMOR}
    assert infer_patterns(masks, declared=known).patterns["case"] == FIVE


def test_small_cohorts_that_differ_by_one_label_are_apart():
    # tumors in a liver that one source drew and the other did not; beside them cohorts of other organs
    present, truth = collection((ALL, 10), (FIVE, 8), ((1, 14), 4), (TUMOR, 4), most_absent=0)
    assert infer_patterns(present, findings=(14,)).patterns == truth


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from([8, 14, 24]))
def test_random_cohorts_are_found_and_what_is_mistaken_is_a_mask_that_fits_another(seed, number, labels):
    draw, cohorts = random.Random(seed), []
    while len(cohorts) < number:
        pattern = tuple(sorted(draw.sample(range(1, labels + 1), draw.randint(3, labels))))
        if all(len({*pattern} ^ {*other}) > 2 for other, _ in cohorts):
            cohorts.append((pattern, int(5 * 100 ** draw.random())))
    present, truth = collection(*cohorts, seed=seed)
    found = infer_patterns(present)
    for name in present:
        if found.patterns[name] != truth[name]:
            assert set(present[name]) <= set(found.patterns[name]) and set(present[name]) < set(truth[name])
    assert sum(found.patterns[name] != truth[name] for name in present) <= max(5, 0.05 * len(present))
    assert len(set(found.patterns.values()) ^ set(truth.values())) <= 1


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_order_of_cases_and_numbering_of_labels_do_not_matter(seed):
    present, _ = collection((ALL, 30), (FIVE, 12), ((2, 5, 6, 14), 21), most_absent=0.1, seed=seed)
    first = infer_patterns(present).patterns
    names = list(present)
    random.Random(seed).shuffle(names)
    assert infer_patterns({name: present[name][::-1] for name in names}).patterns == first
    renamed = {value: 100 - value for value in range(1, 15)}
    turned = infer_patterns({name: [renamed[value] for value in present[name]] for name in names}).patterns
    assert {n: tuple(sorted(renamed[v] for v in p)) for n, p in first.items()} == turned


def test_twenty_thousand_cases_are_split():
    present, truth = collection((ALL, 5000), (FIVE, 6000), (BOTH, 5000), (TUMOR, 4000))
    found = infer_patterns(present).patterns
    assert set(found.values()) == {ALL, FIVE, BOTH, TUMOR}
    mistaken = [name for name in truth if found[name] != truth[name]]
    assert all(set(present[name]) <= set(FIVE) for name in mistaken)  # a tumor cohort's mask without its tumor
