import numpy as np
import pytest

from flarenet.data.components import find_components
from flarenet.data.labels import HIDDEN, LabelSet
from flarenet.planning.pseudo_rules import PseudoRules
from flarenet.pseudo.filters import (
    Evidence,
    common_hosts,
    deviation_from_mean,
    filtered,
    hide_doubtful,
    hide_homeless,
    hide_small,
    hosts_of,
    large_enough,
    likeness,
    tally,
    vote,
    worst,
)
from flarenet.pseudo.opinion import CaseOpinion, Opinion
from flarenet.volume import Grid

GRID = Grid((1, 1, 1), np.diag([1.0, 1.0, 2.0, 1.0]))  # voxels of 2 mm3; its shape is of no account


def row(*values):
    """A map of one row of voxels."""
    return np.array(values, dtype=np.uint8).reshape(1, 1, -1)


def evidence(votes=None, sources=1, **more):
    return Evidence(row(1) if votes is None else votes, sources, grid=GRID, **more)


def test_the_label_that_most_sources_name_wins_and_the_first_in_a_tie():
    label, votes = vote([row(1, 1, 1, 0, 2), row(1, 2, 0, 1, 0), row(1, 2, 2, 1, 1)])
    assert label.ravel().tolist() == [1, 2, 1, 1, 2]
    assert votes.ravel().tolist() == [3, 2, 1, 2, 1]


def test_a_single_source_is_taken_as_it_is():
    label, votes = vote([row(0, 2, 1)])
    assert label.ravel().tolist() == [0, 2, 1] and votes.ravel().tolist() == [1, 1, 1]


def test_likeness_is_the_mean_dice_of_all_pairs():
    # label 1: 2/(2+1), 2*2/(2+2), 2/(1+2); label 2 in one map only: 0, 0 and, absent from both, 1; label 3 in none
    maps = [row(1, 1, 0, 0), row(1, 0, 0, 2), row(1, 1, 0, 0)]
    assert likeness(maps, 3) == pytest.approx({1: (2 / 3 + 1 + 2 / 3) / 3, 2: 1 / 3})
    assert likeness(maps[:1], 3) == {} == likeness([row(0, 0)] * 3, 3)


def test_lesions_are_large_enough_where_all_maps_together_make_them_so():
    # of 2 mm3 a voxel: 1 + 1 voxels side by side are 4 mm3, the last one is 2 mm3 in each map
    maps = [row(1, 0, 0, 0, 2), row(0, 1, 0, 0, 2), row(0, 0, 0, 0, 0)]
    kept = large_enough(maps, least_mm3=4.0, grid=GRID)
    assert [each.ravel().tolist() for each in kept] == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert large_enough(maps, least_mm3=0.0, grid=GRID) is maps


def test_voxels_on_which_too_few_agree_are_hidden_background_too():
    drawn, votes = row(1, 0, 1, 2), row(3, 2, 2, 1)
    for agreement, expected in ((1.0, [1, HIDDEN, HIDDEN, HIDDEN]), (2 / 3, [1, 0, 1, HIDDEN]), (0.0, [1, 0, 1, 2])):
        kept = hide_doubtful(drawn, evidence(votes, 3), PseudoRules(passes=3, agreement=agreement))
        assert kept.ravel().tolist() == expected


def test_small_lesions_are_hidden_and_organs_are_never_too_small():
    drawn = row(1, 1, 0, 1, 0, 2, 2, 2)  # 4, 2 and 6 mm3
    rules = PseudoRules(least_mm3=4.0)
    kept = hide_small(drawn, evidence(lesions=True), rules)
    assert kept.ravel().tolist() == [1, 1, 0, HIDDEN, 0, 2, 2, 2]
    assert hide_small(drawn, evidence(lesions=False), rules) is drawn


@pytest.mark.parametrize(("name", "expected"), [("spleen", [1, 1, 0, 1]), ("lesion", [1, 1, 0, HIDDEN])])
def test_what_the_only_group_of_a_set_holds_is_told_by_its_name(name, expected):
    labels = LabelSet(names=("background", name), groups={"only": (1,)})
    opinion = Opinion(row(1, 1, 0, 1), row(1, 1, 1, 1), 1, {})
    asked = CaseOpinion(labels, Grid((1, 1, 4), np.eye(4)), {"only": row(0, 0, 0, 0)}, frozenset(), {"only": opinion})
    kept, _ = asked.filtered("only", PseudoRules(least_mm3=2.0, hosts="drawn"), {})
    assert kept.ravel().tolist() == expected


def test_hosts_are_those_of_lesions_and_vessels_have_none():
    names, groups = ("background", "liver", "vein", "tumor"), {"organ": (1,), "vessel": (2,), "cancer": (3,)}
    drawn = {"organ": row(1, HIDDEN, 1, 0, HIDDEN), "vessel": row(0, 0, 0, 0, 1), "cancer": row(0, 1, 0, 0, 0)}
    asked = CaseOpinion(LabelSet(names=names, groups=groups), GRID, drawn, frozenset({1, 2, 3}), {})
    assert asked.annotated_hosts() == {3: {1: 1.0}}


def test_lesions_that_touch_no_host_are_hidden():
    drawn = row(1, 0, 0, 1, 0, 1, 2)
    homes = {1: row(0, 1, 0, 0, 0, 1, 0) > 0}  # beside the first, away from the second, under the third
    kept = hide_homeless(drawn, evidence(lesions=True, homes=homes), PseudoRules())
    assert kept.ravel().tolist() == [1, 0, 0, HIDDEN, 0, 1, 2]  # nothing is known against label 2


def test_filters_come_in_order_and_each_counts_what_it_took():
    drawn, votes = row(1, 1, 1, 0, 1, 0, 0), row(2, 2, 1, 2, 2, 2, 1)
    rules = PseudoRules(passes=2, agreement=1.0, least_mm3=4.0)
    kept, hidden = filtered(drawn, evidence(votes, 2, lesions=True), rules)
    # the first lesion is judged with its doubtful rim, 6 mm3, and only then loses it
    assert kept.ravel().tolist() == [1, 1, HIDDEN, 0, HIDDEN, 0, HIDDEN]
    assert hidden == {"least_mm3": {0: 0, 1: 1}, "hosts": {0: 0, 1: 0}, "agreement": {0: 1, 1: 1}}
    assert filtered(drawn, evidence(votes, 2, lesions=True), PseudoRules())[0] is drawn


def test_tally_counts_every_label():
    assert tally(row(0, 2, 2, HIDDEN)) == {0: 1, 2: 2, HIDDEN: 1}


def test_the_host_of_a_lesion_is_what_it_touches_most():
    organs = np.zeros((3, 3, 12), dtype=np.uint8)
    organs[:, :, :3], organs[:, :, 3:6] = 5, 7
    drawn = np.zeros_like(organs)
    drawn[1, 1, 1] = 1  # within organ 5
    drawn[1, 1, 3] = 1  # two of the three columns about it are of organ 7, one of 5
    drawn[1, 1, 10] = 2  # in nothing
    assert hosts_of(find_components(drawn), organs) == {1: {5: 0.5, 7: 0.5}, 2: {0: 1.0}}


def test_common_hosts():
    assert common_hosts([{5: 1.0}, {5: 0.5, 7: 0.5}]) == {5, 7}
    assert common_hosts([{5: 1.0}] * 30 + [{7: 1.0}]) == {5}  # one in 31 is chance
    assert common_hosts([{5: 0.8, 0: 0.2}]) is None  # one in five lies in no organ
    assert common_hosts([]) is None


def test_a_case_is_compared_by_what_is_usual_for_the_labels_that_it_lacks():
    # the mean is 0.9 for a liver and 0.6 for a duodenum; by their own means the order would be c, b, a
    scores = {"a": {"liver": 0.85}, "b": {"liver": 0.95, "duodenum": 0.5}, "c": {"duodenum": 0.7}, "d": {}}
    assert deviation_from_mean(scores) == pytest.approx({"a": -0.05, "b": (0.05 - 0.1) / 2, "c": 0.1})
    assert worst(deviation_from_mean(scores), 0.34) == {"a"}


def test_the_worst_cases():
    scores = {"a": 0.9, "b": 0.2, "c": 0.5, "d": 0.5}
    assert worst(scores, 0.0) == set() == worst({}, 0.5)
    assert worst(scores, 0.5) == {"b", "c"}
