"""The algebra of label maps and group maps, on rows that a reader can follow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flarenet.data.labels import (
    HIDDEN,
    LabelSet,
    annotated_flags,
    complete,
    difference,
    ignored_in,
    ignored_share,
    join,
    split,
)

# values: 1 liver, 2 spleen, 3 tumor; the tumor is drawn over the organs
TABLE = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})
# the values of a group need not be neighbours, nor come first
MIXED = LabelSet(names=("background", "a", "b", "c", "d"), groups={"first": (4, 2), "second": (1,), "third": (3,)})

MAPS = arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 3))
PATTERNS = st.sets(st.sampled_from([1, 2, 3]))


def row(*values):
    return np.array(values, np.uint8)


def equal(maps, **expected):
    assert list(maps) == list(expected)
    for group, values in expected.items():
        assert maps[group].dtype == np.uint8
        np.testing.assert_array_equal(maps[group], values)


@pytest.mark.parametrize(
    ("names", "groups", "lesions", "of_lesions"),
    [
        (TABLE.names, TABLE.groups, (3,), ["cancer"]),
        (MIXED.names, MIXED.groups, (1, 3), ["second", "third"]),
        (("", "liver", "spine", "cyst", "stone"), {"organ": (1,), "bone": (2,), "other": (3, 4)}, (3, 4), ["other"]),
        (("", "liver", "cystic duct", "stone"), {"organ": (1,), "duct": (2,), "Lesions": (3,)}, (3,), ["Lesions"]),
        (("", "liver", "spine"), {"tumor bed": (1,), "bone": (2,)}, (2,), ["bone"]),
        (("background", "liver", "spleen"), {"organ": (1, 2)}, (), []),
        (("background", "liver", "Liver tumour"), {"all": (1, 2)}, (2,), []),
        (("background", "Lesion", "kidney cancer"), {"cancer": (1, 2)}, (1, 2), ["cancer"]),
    ],
)
def test_lesions_lie_over_the_first_group_or_are_named_so(names, groups, lesions, of_lesions):
    table = LabelSet(names=names, groups=groups)
    assert table.lesions == lesions and [group for group in groups if table.of_lesions(group)] == of_lesions


@pytest.mark.parametrize(
    ("names", "groups", "said"),
    [
        (TABLE.names, TABLE.groups, None),
        (("background", "liver", "kidney", "tumor"), TABLE.groups, ("label 2 'kidney'", "label 2 'spleen'")),
        ((*TABLE.names, "cyst"), {**TABLE.groups, "cancer": (3, 4)}, ("label 4 'cyst'", "no label 4")),
        (TABLE.names[:3], {"organ": (1, 2)}, ("no label 3", "label 3 'tumor'")),
        (TABLE.names, {"organ": (2, 1), "cancer": (3,)}, ("group 'organ' of labels [2, 1]", "of labels [1, 2]")),
        (TABLE.names, {"organ": (1, 2), "lesion": (3,)}, ("group 'lesion' of labels [3]", "of labels []")),
    ],
)
def test_the_first_thing_that_two_tables_say_otherwise(names, groups, said):
    other = LabelSet(names=names, groups=groups, tolerance_mm={"liver": 5.0})
    found = difference(other, TABLE)
    assert (found is None) == (said is None)
    if said:
        assert found[0] == said[0] and found[1].endswith(said[1])


def test_the_table_answers():
    assert TABLE.values == (1, 2, 3)
    assert TABLE.outputs == {"organ": 2, "cancer": 1}
    assert TABLE.names_of({3, 1}) == ("liver", "tumor")
    with_tolerance = LabelSet(names=TABLE.names, groups=TABLE.groups, tolerance_mm={"spleen": 3.0})
    assert (with_tolerance.tolerance_of(1), with_tolerance.tolerance_of(2)) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("annotated", "organ", "cancer"),
    [
        ({1, 2, 3}, [True, True, True], [True, True]),
        ({2}, [True, False, True], [False, False]),
        ({3}, [False, False, False], [True, True]),
        (set(), [False, False, False], [False, False]),
    ],
)
def test_annotated_flags_say_which_labels_were_looked_for(annotated, organ, cancer):
    assert annotated_flags(TABLE, "organ", annotated).tolist() == organ
    assert annotated_flags(TABLE, "cancer", annotated).tolist() == cancer


def test_annotated_flags_follow_the_order_of_the_group():
    assert annotated_flags(MIXED, "first", {2}).tolist() == [True, False, True]


def test_split_hides_what_a_later_group_covers():
    equal(split(row(0, 1, 2, 3), TABLE, {1, 2, 3}), organ=[0, 1, 2, HIDDEN], cancer=[0, 0, 0, 1])


def test_split_numbers_by_the_order_in_the_group():
    equal(
        split(row(0, 1, 2, 3, 4), MIXED, {1, 2, 3, 4}),
        first=[0, HIDDEN, 2, HIDDEN, 1],
        second=[0, 1, 0, HIDDEN, 0],
        third=[0, 0, 0, 1, 0],
    )


def test_split_makes_background_of_what_nobody_looked_for():
    equal(split(row(0, 1, 2, 3), TABLE, {2}), organ=[0, 0, 2, 0], cancer=[0, 0, 0, 0])
    equal(split(row(0, 1, 2, 3), TABLE, {3}), organ=[0, 0, 0, HIDDEN], cancer=[0, 0, 0, 1])
    equal(split(row(0, 1, 2, 3), TABLE, ()), organ=[0, 0, 0, 0], cancer=[0, 0, 0, 0])


def test_join_draws_later_groups_over_earlier_ones():
    maps = {"cancer": row(0, 1, 1, 0), "organ": row(1, 1, 0, HIDDEN)}
    np.testing.assert_array_equal(join(maps, TABLE), [1, 3, 3, 0])
    np.testing.assert_array_equal(join({"organ": row(0, 1, 2)}, TABLE), [0, 1, 2])
    with pytest.raises(ValueError, match="no group map"):
        join({}, TABLE)


@given(MAPS)
def test_join_undoes_split_where_all_was_looked_for(label_map):
    np.testing.assert_array_equal(join(split(label_map, TABLE, TABLE.values), TABLE), label_map)


@given(arrays(np.uint8, (3, 4), elements=st.integers(0, 4)))
def test_join_undoes_split_for_any_groups(label_map):
    np.testing.assert_array_equal(join(split(label_map, MIXED, MIXED.values), MIXED), label_map)


@given(MAPS, PATTERNS)
def test_join_of_split_keeps_exactly_what_was_looked_for(label_map, annotated):
    kept = np.where(np.isin(label_map, list(annotated)), label_map, 0)
    np.testing.assert_array_equal(join(split(label_map, TABLE, annotated), TABLE), kept)


def test_complete_takes_only_what_nobody_looked_for():
    """The liver was drawn; the teacher sees a liver (1) and a spleen (2)."""
    by_hand = split(row(1, 1, 0, 0, 0), TABLE, {1})
    filled, pattern = complete(by_hand, {"organ": row(1, 2, 1, 2, 0), "cancer": row(1, 0, 0, 1, 0)}, TABLE, {1})
    equal(filled, organ=[1, 1, 0, 2, 0], cancer=[1, 0, 0, 1, 0])
    assert pattern == {1, 2, 3}


def test_complete_without_a_teacher_for_a_group_leaves_it():
    by_hand = split(row(0, 3, 0), TABLE, {3})
    filled, pattern = complete(by_hand, {"organ": row(1, 2, 2)}, TABLE, {3})
    equal(filled, organ=[1, HIDDEN, 2], cancer=[0, 1, 0])
    assert pattern == {1, 2, 3}
    filled, pattern = complete(by_hand, {}, TABLE, {3})
    equal(filled, organ=[0, HIDDEN, 0], cancer=[0, 1, 0])
    assert pattern == {3}


def test_what_the_teacher_does_not_know_is_not_asked():
    by_hand = split(row(0, 0), TABLE, ())
    filled, _ = complete(by_hand, {"organ": row(HIDDEN, 2)}, TABLE, ())
    equal(filled, organ=[HIDDEN, 2], cancer=[0, 0])


@given(MAPS, PATTERNS, MAPS)
def test_complete_never_changes_a_voxel_drawn_by_hand(label_map, annotated, predicted):
    by_hand = split(label_map, TABLE, annotated)
    pseudo = split(predicted, TABLE, TABLE.values)
    filled, pattern = complete(by_hand, pseudo, TABLE, annotated)
    for group, drawn in by_hand.items():
        np.testing.assert_array_equal(filled[group][drawn > 0], drawn[drawn > 0])
        new = filled[group][(drawn == 0) & ~np.isin(filled[group], (0, HIDDEN))]
        assert not {TABLE.groups[group][index - 1] for index in new.tolist()} & annotated
    assert pattern == {1, 2, 3}


def test_split_hides_what_nobody_annotated_in_all_groups():
    equal(split(row(0, 1, 3, HIDDEN), TABLE, {1}), organ=[0, 1, 0, HIDDEN], cancer=[0, 0, 0, HIDDEN])
    equal(split(row(3, HIDDEN), TABLE, {1, 2, 3}), organ=[HIDDEN, HIDDEN], cancer=[1, HIDDEN])
    assert ignored_share(np.array([[[0, HIDDEN], [1, HIDDEN]], [[0, 0], [HIDDEN, 3]]], np.uint8)) == 3 / 8


def test_complete_takes_all_that_a_teacher_says_where_nobody_annotated_anything():
    """The liver was drawn, and in the last four voxels nothing; of these the teacher doubts the last."""
    by_hand = split(row(1, 0, HIDDEN, HIDDEN, HIDDEN, HIDDEN), TABLE, {1})
    assert ignored_in(by_hand, TABLE).tolist() == [False, False, True, True, True, True]
    filled, _ = complete(by_hand, {"organ": row(2, 1, 1, 2, 0, HIDDEN)}, TABLE, {1})
    equal(filled, organ=[1, 0, 1, 2, 0, HIDDEN], cancer=[0, 0, HIDDEN, HIDDEN, HIDDEN, HIDDEN])
    covered = split(row(3), TABLE, {3})  # hidden for the organs beneath it, but somebody drew it
    assert not ignored_in(covered, TABLE).any()
    equal(complete(covered, {"organ": row(1)}, TABLE, {3})[0], organ=[HIDDEN], cancer=[1])
