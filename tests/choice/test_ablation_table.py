"""Means, standard deviations and tests of an ablation, checked by hand."""

import csv
import json

import pytest

from flarenet.choice.ablation_table import print_results, results, write_results
from flarenet.data.labels import LabelSet
from flarenet.evaluation.pairs import CaseScores
from flarenet.evaluation.scores import LabelScore
from flarenet.evaluation.tables import summarise

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})
CASES = tuple("abcdef")


def metrics(liver, tumor=None, failed=None):
    """Scores of CASES; NSD is half of DSC. tumor: None of a model that does not answer it."""
    scores = {"liver": liver} | ({} if tumor is None else {"tumor": tumor})
    cases = [
        CaseScores(
            case,
            {label: LabelScore(dsc=values[index], nsd=values[index] / 2) for label, values in scores.items()},
            failed if case == "a" else None,
        )
        for index, case in enumerate(CASES)
    ]
    return summarise(cases, LABELS)


def table(found):
    return results(found, LABELS, dataset="D", name="mine", fold="0", cases=CASES)


@pytest.fixture
def found():
    liver = [0.4, 0.5, 0.6, 0.4, 0.5, 0.6]
    return table(
        {
            "one": {0: metrics(liver, [0.2] * 6), 1: metrics([x + 0.2 for x in liver], [0.4] * 6)},
            "other": {0: metrics([x / 2 for x in liver], [0.3] * 6), 1: "RunError: no weights"},
            "none": {0: "no", 1: "no"},
        }
    )


def test_means_are_over_seeds_and_deviations_over_cases_and_over_seeds(found):
    liver = found.variants["one"].dsc["liver"]
    assert liver.mean == pytest.approx(0.6) and liver.n == 6  # 0.5 and 0.7
    assert liver.sd == pytest.approx((4 * 0.1**2 / 5) ** 0.5)  # of 0.5, 0.6, 0.7, twice
    assert liver.seeds_sd == pytest.approx(0.2 / 2**0.5)
    every = found.variants["one"].dsc["all labels"]
    assert every.mean == pytest.approx((0.6 + 0.3) / 2) and every.sd == pytest.approx(liver.sd / 2)
    assert found.variants["one"].nsd["all labels"].mean == pytest.approx(0.225)
    assert found.variants["one"].dsc["organ (mean)"].mean == liver.mean
    other = found.variants["other"]
    assert (
        other.seeds == (0,) and other.dsc["liver"].seeds_sd is None and other.dsc["liver"].mean == pytest.approx(0.25)
    )
    assert other.failed == {"seed 1": "RunError: no weights"}
    assert found.variants["none"].dsc["liver"].mean is None and found.variants["none"].dsc["liver"].n == 0


def test_differences_are_paired_by_case_and_corrected_by_family(found):
    liver = next(one for one in found.differences if (one.measure, one.what) == ("dsc", "liver"))
    assert (liver.one, liver.other, liver.cases, liver.differ) == ("one", "other", 6, 6)
    # 0.5 - 0.2, 0.6 - 0.25, 0.7 - 0.3 and again: 0.3, 0.35, 0.4, all of one sign, with ties
    assert liver.median == pytest.approx(0.35) and 0.02 < liver.p < 0.05
    single = [one for one in found.differences if one.measure == "dsc" and one.what in ("liver", "tumor")]
    assert len(single) == 2 and liver.corrected == pytest.approx(max(min(1, 2 * min(one.p for one in single)), liver.p))
    assert {one.what for one in found.differences} == {"liver", "tumor", "organ (mean)", "cancer (mean)", "all labels"}
    assert all({one.one, one.other} == {"one", "other"} for one in found.differences)


def test_a_mean_over_fewer_labels_is_not_put_beside_the_others(capsys):
    liver = [0.4, 0.5, 0.6, 0.4, 0.5, 0.6]
    half = [x / 2 for x in liver]
    found = table({"both": {0: metrics(liver, [0.2] * 6)}, "organs": {0: metrics(half)}, "none": {0: "no"}})
    both, organs = found.variants["both"], found.variants["organs"]
    assert both.dsc["all labels"].mean == pytest.approx(0.35) and both.dsc["all labels"].n == 6
    for what in ("all labels", "cancer (mean)", "tumor"):
        assert (organs.nsd[what].mean, organs.nsd[what].sd, organs.nsd[what].n) == (None, None, 0)
    assert organs.dsc["organ (mean)"].mean == pytest.approx(0.25)
    assert {one.what for one in found.differences} == {"liver", "organ (mean)"}
    print_results(found)
    assert "note: organs has no score of tumor" in capsys.readouterr().out

    alike = table({"organs": {0: metrics(liver)}, "others": {0: metrics(half)}})
    assert alike.variants["others"].dsc["all labels"].mean == pytest.approx(0.25)
    assert "all labels" in {one.what for one in alike.differences}
    print_results(alike)
    assert "note:" not in capsys.readouterr().out


def test_a_group_that_holds_all_scored_labels_is_not_tested_beside_all_labels():
    liver = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    found = table({"one": {0: metrics(liver)}, "other": {0: metrics([x / 2 for x in liver])}})
    assert found.variants["one"].dsc["organ (mean)"].mean == pytest.approx(0.65)
    by_what = {one.what: one for one in found.differences if one.measure == "dsc"}
    assert set(by_what) == {"all labels", "cancer (mean)", "liver", "tumor"}
    every = by_what["all labels"]
    assert every.p == every.corrected == pytest.approx(2 / 64) and by_what["cancer (mean)"].p is None


def test_a_case_that_failed_is_named_and_counts_as_it_was_scored():
    found = table({"one": {0: metrics([0, 1, 1, 1, 1, 1], [0] * 6, failed="no prediction")}})
    assert found.variants["one"].failed == {"seed 0, a": "no prediction"}
    assert found.variants["one"].dsc["liver"].mean == pytest.approx(5 / 6)


def test_a_label_that_is_called_like_a_mean_is_none(capsys):
    named = LabelSet(names=("background", "liver", "left (mean)"), groups={"organ": (1, 2)})
    scores = {"liver": LabelScore(dsc=0.5, nsd=0.5), "left (mean)": LabelScore(dsc=0.7, nsd=0.7)}
    made = summarise([CaseScores("a", scores)], named)
    found = results({"one": {0: made}}, named, dataset="D", name="mine", fold="0", cases=("a",))
    assert found.means == ("organ (mean)", "all labels")
    print_results(found)
    assert "left" not in capsys.readouterr().out


def test_files_and_the_printed_table_say_the_same(found, tmp_path, capsys):
    write_results(found, tmp_path)
    with open(tmp_path / "ablation.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * 2 * 5
    row = next(row for row in rows if (row["variant"], row["what"], row["measure"]) == ("one", "all labels", "dsc"))
    assert float(row["mean"]) == pytest.approx(0.45) and row["cases"] == "6" and row["seeds"] == "2"
    saved = json.loads((tmp_path / "ablation.json").read_text())
    assert saved["variants"]["one"]["dsc"]["liver"]["n"] == 6 and saved["name"] == "mine"
    with open(tmp_path / "differences.csv") as stream:
        assert len(list(csv.DictReader(stream))) == len(found.differences) == 10
    print_results(found)
    said = capsys.readouterr().out
    assert "0.4500" in said and "no weights" in said
