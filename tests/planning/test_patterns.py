from flarenet.data.labels import LabelSet
from flarenet.planning.rules import patterns

ORGAN, CANCER = tuple(range(1, 14)), (14,)
NAMES = ("background", *(f"label {v}" for v in range(1, 15)))
FLARE23 = LabelSet(names=NAMES, groups={"organ": ORGAN, "cancer": CANCER})

D_U, D_L1, D_L2, D_L3, D_L4 = (), ORGAN, (1, 2, 3, 4, 13), (1, 2, 3, 4, 13, 14), (14,)
ALL = (D_L1, D_L3, D_L2, D_L4, D_U)


def test_the_subsets_of_the_paper():
    assert patterns.unlabelled(ALL) == (D_U,)
    assert patterns.fullest(ALL, ORGAN) == (D_L1,)
    assert patterns.with_any_of(ALL, ORGAN) == (D_L1, D_L3, D_L2)
    assert patterns.with_any_of(ALL, CANCER) == (D_L3, D_L4)
    assert patterns.touching_all_groups(ALL, FLARE23) == (D_L3,)
    assert patterns.only(ALL, CANCER) == (D_L4,)
    assert patterns.only(ALL, ORGAN) == (D_L1, D_L2)


def test_cohorts_are_ordered_by_number_of_labels_then_by_values():
    cases = [frozenset(p) for p in [(), (14,), (1, 14), (), (1, 2), (14,), ORGAN, (14,)]]
    assert patterns.cohorts(cases) == ((ORGAN, 1), ((1, 2), 1), ((1, 14), 1), ((14,), 3), ((), 2))


def test_no_cases_and_no_fitting_pattern_give_nothing():
    assert patterns.cohorts([]) == ()
    assert patterns.unlabelled([D_L1]) == ()
    assert patterns.fullest([D_U, D_L4], ORGAN) == ()
    assert patterns.touching_all_groups([D_L1, D_L4, D_U], FLARE23) == ()


def test_a_pattern_with_every_label_is_the_fullest_of_both_groups():
    everything = (*ORGAN, 14)
    assert patterns.fullest([everything, D_L1, D_L4], ORGAN) == (everything, D_L1)
    assert patterns.fullest([everything, D_L1, D_L4], CANCER) == (everything, D_L4)
    assert patterns.only([everything], ORGAN) == ()


def test_an_organ_that_nobody_annotated_leaves_the_fullest_pattern_short_of_the_group():
    without_duodenum = tuple(v for v in ORGAN if v != 12)
    assert patterns.fullest([without_duodenum, (1, 2, 3, 4, 13), (1, 14), (14,), ()], ORGAN) == (without_duodenum,)
    assert patterns.touching_all_groups([without_duodenum, (1, 14), (14,), ()], FLARE23) == ((1, 14),)
