"""What the largest connected part alone, or no part that is small beside it, would do, by hand-made label maps."""

from dataclasses import replace

import numpy as np
import pytest

from flarenet.choice.largest_parts import SHARE, Effect, Tried, try_largest_parts
from flarenet.data.labels import HIDDEN, LabelSet
from flarenet.data.nifti import write_labels
from flarenet.data.reading import Reading
from flarenet.evaluation.pairs import Pair
from flarenet.planning.fusion import Fusion
from flarenet.volume import Grid
from tests.unsure import move_the_qform

LABELS = LabelSet(names=("background", "liver", "aorta", "spleen"), groups={"organ": (1, 2, 3)})
GRID = Grid((12, 12, 12), np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]]))


@pytest.fixture
def pair(tmp_path):
    def write(name, truth, prediction, to_score=(1, 2, 3)):
        files = [tmp_path / folder / f"{name}.nii.gz" for folder in ("truth", "prediction")]
        for path, boxes in zip(files, (truth, prediction)):
            drawn = np.zeros(GRID.shape, dtype=np.uint8)
            for value, *box in boxes:
                drawn[tuple(slice(*ends) for ends in box)] = value
            path.parent.mkdir(exist_ok=True)
            write_labels(path, drawn, like=GRID)
        return Pair(name, *files, frozenset(to_score))

    return write


CUBE = (0, 4), (0, 4), (0, 4)  # 64 voxels
SPECK = (10, 12), (10, 12), (10, 12)  # 8 voxels, apart from it


def test_a_speck_beside_an_organ_goes_and_a_vessel_in_two_pieces_would_lose_one(pair):
    """Liver: 2 x 64 / (64 + 72) before. Aorta, two true pieces of 32 and 16 voxels: 2 x 32 / (48 + 32) after."""
    vessel = (2, (8, 12), (0, 4), (0, 2)), (2, (8, 12), (0, 4), (10, 11))
    tried = try_largest_parts([pair("a", [(1, *CUBE), *vessel], [(1, *CUBE), (1, *SPECK), *vessel])], LABELS).largest
    assert tried["liver"] == Effect(before=128 / 136, after=1.0, better=1, worse=0)
    assert tried["aorta"] == Effect(before=1.0, after=64 / 80, better=0, worse=1)
    assert tried["liver"].helps and not tried["aorta"].helps
    assert "spleen" not in tried  # in neither map


def test_a_lesion_across_an_organ_does_not_cut_it(pair):
    """The rule acts on the map of the organs, where the bar is whole: it loses the stray voxel, and no end of the bar.

    Of 12 x 4 voxels 2 x 4 are lesion: 2 x 40 / (40 + 41) before.
    """
    labels = LabelSet(names=("background", "pancreas", "tumor"), groups={"organ": (1,), "cancer": (2,)})
    bar = (1, (0, 12), (0, 2), (0, 2)), (2, (4, 6), (0, 2), (0, 2))
    crossed = pair("a", bar, [*bar, (1, (11, 12), (11, 12), (11, 12))], to_score=(1, 2))
    assert try_largest_parts([crossed], labels).largest == {
        "pancreas": Effect(before=80 / 81, after=1.0, better=1, worse=0),
        "tumor": Effect(before=1.0, after=1.0, better=0, worse=0),
    }


def test_a_lesion_counts_for_no_organ(pair):
    """The part of most voxels is that of which the organ has most, not that with the larger lesion."""
    labels = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})
    stray = (1, *SPECK), (2, (5, 10), (5, 12), (5, 12))
    tried = try_largest_parts([pair("a", [(1, *CUBE)], [(1, *CUBE), *stray], to_score=(1,))], labels).largest
    assert tried == {"liver": Effect(before=128 / 136, after=1.0, better=1, worse=0)}


def test_only_what_is_asked_for_counts_and_a_mean_is_over_the_cases_that_have_it(pair):
    pairs = [
        pair("a", [(1, *CUBE)], [(1, *CUBE), (1, *SPECK), (3, (6, 8), (6, 8), (6, 8))], to_score=(1,)),
        pair("b", [(1, *CUBE)], [(1, *SPECK)], to_score=(1,)),
        pair("c", [], [], to_score=(1, 3)),
    ]
    assert try_largest_parts(pairs, LABELS).largest == {"liver": Effect(before=64 / 136, after=0.5, better=1, worse=0)}


def test_one_lucky_case_of_three_is_no_reason(pair):
    """The first case wins much; in two others the truth is in two pieces, and the smaller is lost."""
    two = (1, *CUBE), (1, *SPECK)
    pairs = [
        pair("a", [(1, *CUBE)], [(1, *CUBE), (1, (6, 9), (6, 10), (6, 10))]),
        pair("b", two, two),
        pair("c", two, two),
    ]
    liver = try_largest_parts(pairs, LABELS).largest["liver"]
    assert liver.after > liver.before and (liver.better, liver.worse) == (1, 2) and not liver.helps


def test_a_gain_of_less_than_a_thousandth_is_no_reason():
    assert Effect(before=0.5, after=0.5011, better=1, worse=0).helps
    assert not Effect(before=0.5, after=0.5009, better=1, worse=0).helps


def test_a_pair_that_cannot_be_read_is_left_out(pair, tmp_path):
    good, lost = pair("a", [(1, *CUBE)], [(1, *CUBE)]), pair("b", [(1, *CUBE)], [(1, *SPECK)])
    lost.prediction.unlink()
    assert try_largest_parts([good, lost], LABELS).largest == {
        "liver": Effect(before=1.0, after=1.0, better=0, worse=0)
    }


def test_files_whose_forms_disagree_are_read_as_the_pair_says(pair):
    unsure = pair("a", [(1, *CUBE)], [(1, *CUBE)])
    for path in (unsure.truth, unsure.prediction):
        move_the_qform(path)
    assert try_largest_parts([unsure], LABELS) == Tried()
    asked = replace(unsure, reading=Reading(affine="sform"))
    assert try_largest_parts([asked], LABELS).largest == {"liver": Effect(before=1.0, after=1.0, better=0, worse=0)}


def test_where_the_truth_is_ignored_a_part_is_neither_right_nor_wrong(pair):
    """The speck lies there in the first case, and in the second the larger part: the rule keeps that, and loses the
    speck, which is right."""
    ignored = [(255, (8, 12), (8, 12), (8, 12)), (1, *CUBE)], [(255, (0, 5), (0, 5), (0, 5)), (1, *SPECK)]
    for truth, after in zip(ignored, (1.0, 0.0)):
        found = pair("a", truth, [(1, *CUBE), (1, *SPECK)], to_score=(1,))
        tried = try_largest_parts([replace(found, values={1: 1, 2: 2, 3: 3, 255: HIDDEN})], LABELS).largest
        assert (tried["liver"].before, tried["liver"].after) == (1.0, after)


def test_by_its_share_a_speck_goes_and_a_vessel_in_two_pieces_stays(pair):
    """Of 64 voxels 8 are more than a tenth, and 6 are less. Vessel: 32 and 16 voxels, both true, and a stray one."""
    vessel = (2, (8, 12), (0, 4), (0, 2)), (2, (8, 12), (0, 4), (10, 11))
    drawn = [(1, *CUBE), (1, *SPECK), (1, (6, 8), (6, 9), (6, 7)), *vessel, (2, (5, 6), (11, 12), (0, 1))]
    tried = try_largest_parts([pair("a", [(1, *CUBE), *vessel], drawn)], LABELS)
    assert tried.largest["liver"].after == 1.0 and tried.largest["aorta"].after == 64 / 80
    assert tried.least_share == {
        "liver": Effect(before=128 / 142, after=128 / 136, better=1, worse=0),
        "aorta": Effect(before=96 / 97, after=1.0, better=1, worse=0),
    }
    assert tried.chosen(Fusion()) == (("liver",), {"aorta": SHARE})


def test_of_two_rules_that_do_the_same_the_milder_is_chosen_and_those_of_the_plan_stay():
    same, better = (Effect(before=0.5, after=after, better=2, worse=0) for after in (0.6, 0.7))
    none = Effect(before=0.5, after=0.5, better=0, worse=0)
    worse = Effect(before=0.5, after=0.4, better=0, worse=2)
    tried = Tried(
        largest={"liver": same, "aorta": worse, "spleen": better, "duodenum": none},
        least_share={"liver": same, "aorta": none, "spleen": same, "duodenum": none},
    )
    assert tried.chosen(Fusion()) == (("spleen",), {"liver": SHARE})
    own = Fusion(largest=("aorta",), least_share={"duodenum": 0.3, "liver": 0.01})
    assert tried.chosen(own) == (("aorta", "spleen"), {"duodenum": 0.3, "liver": SHARE})
    assert tried.chosen(Fusion(least_share={"liver": 0.3})) == (("spleen",), {"liver": 0.3})
    assert tried.chosen(Fusion(largest=("liver", "spleen"), least_share={"aorta": 0.3})) == ((), {})
