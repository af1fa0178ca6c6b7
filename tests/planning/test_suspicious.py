import pytest

from flarenet.data.labels import LabelSet
from flarenet.planning.measuring.measure import CaseFingerprint, LabelFacts
from flarenet.planning.measuring.suspicious import sentences

LABELS = LabelSet(names=("background", "left kidney", "Right kidney", "liver"), groups={"organ": (1, 2, 3)})


def case(number: int, *, left=(150_000, 30.0, 10.0), right=(150_000, 30.0, 90.0), liver=1_500_000, **changes):
    """A case of 1 mm cubes with (voxels, mean, centre_x) of both kidneys."""
    facts = {
        value: LabelFacts(voxels=voxels, mean_hu=mean, centre_x=x) if voxels else LabelFacts(voxels=0)
        for value, (voxels, mean, x) in {1: left, 2: right, 3: (liver, 60.0 + number % 3, 80.0)}.items()
    }
    content = {
        "name": f"case{number:02d}", "shape": (100, 100, 100), "spacing_mm": (1.0, 1.0, 1.0), "histogram": "",
        "body_shape": (100, 100, 100), "min_hu": -1000.0, "max_hu": 1000.0, "annotated": (1, 2, 3), "labels": facts,
        "voxels": {value: fact.voxels for value, fact in facts.items()}, "histogram_of": "foreground",
        "image_sha256": str(number), "key": "",
    }  # fmt: skip
    return CaseFingerprint(**{**content, **changes})


USUAL = [case(number) for number in range(12)]


def test_usual_cases_are_not_mentioned():
    assert sentences(USUAL, LABELS, in_hu=True) == ()


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (case(12, left=(150_000, 30.0, 90.0), right=(150_000, 30.0, 10.0)), "left kidney lies to the right of Right"),
        (case(12, left=(150, 30.0, 10.0)), "left kidney of 0.15 ml, 150 ml in the median case"),
        (case(12, left=(150_000, 1054.0, 10.0)), "left kidney of 1054 HU on average, 30 HU in the median case"),
        (case(12, remarks=("values from 0 to 9; expected HU",)), "values from 0 to 9; expected HU"),
        (case(12, image_sha256="3"), "the same image as case03"),
        (case(12, inferred=True, annotated=(), voxels={}, labels={}), "an empty label map; expected labels, or a note"),
    ],
)
def test_an_odd_case_is_named_with_the_reason(odd, words):
    said = sentences([*USUAL, odd], LABELS, in_hu=True)
    assert len(said) == 1 and said[0].startswith("case12: ") and words in said[0]


@pytest.mark.parametrize("names", [("kidney_left", "kidney_right"), ("L kidney", "R kidney")])
def test_sides_are_told_by_names_of_any_form(names):
    labels = LabelSet(names=("background", *names, "left lung"), groups={"organ": (1, 2, 3)})
    swapped = case(12, left=(150_000, 30.0, 90.0), right=(150_000, 30.0, 10.0))
    assert sentences([*USUAL, swapped], labels, in_hu=True) == (f"case12: {names[0]} lies to the right of {names[1]}",)


def test_volumes_are_not_compared_where_a_part_may_not_be_annotated():
    """Their intensities and sides are."""
    partly = case(12, left=(150, 1054.0, 95.0), ignored=0.01)
    said = sentences([*USUAL, partly], LABELS, in_hu=True)
    assert [sentence.partition(" of ")[0] for sentence in said] == [
        "case12: left kidney lies to the right",
        "case12: left kidney",
    ]
    assert "1054 HU" in said[1]


def test_intensities_without_a_unit_are_not_compared():
    assert sentences([*USUAL, case(12, left=(150_000, 1054.0, 10.0))], LABELS, in_hu=False) == ()


def test_a_few_cases_say_nothing_about_what_is_usual():
    assert sentences([*USUAL[:5], case(12, left=(150, 30.0, 10.0))], LABELS, in_hu=True) == ()


def test_other_cohorts_are_no_measure():
    others = [case(20 + i, left=(150, 30.0, 10.0), annotated=(1,)) for i in range(3)]
    assert sentences([*USUAL, *others], LABELS, in_hu=True) == ()
