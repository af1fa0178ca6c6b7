import csv
import io

import pytest

from flarenet.data.labels import LabelSet
from flarenet.errors import DatasetError
from flarenet.evaluation.lesions import Lesion
from flarenet.evaluation.pairs import CaseScores
from flarenet.evaluation.rules import OFFICIAL
from flarenet.evaluation.scores import LabelScore, Score
from flarenet.evaluation.tables import ClassScore, mean_score, print_metrics, read_scores, summarise, write_metrics

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})


def _score(dsc: float, nsd: float, **more: float) -> LabelScore:
    return LabelScore(dsc=dsc, nsd=nsd, **more)


def _lesion(outcome: str, volume_ml: float, dsc: float | None) -> Lesion:
    return Lesion(label="tumor", outcome=outcome, volume_ml=volume_ml, dsc=dsc)


CASES = [
    CaseScores(
        "one",
        {
            "liver": _score(0.5, 0.25, hd95_mm=4.0, volume_ml=90.0, reference_ml=100.0),
            "spleen": _score(0.9, 1.0, hd95_mm=1.0, volume_ml=20.0, reference_ml=20.0),
        },
        lesions=(_lesion("found", 0.4, 0.5), _lesion("missed", 6.0, 0.0), _lesion("false", 0.5, None)),
    ),
    CaseScores("two", {"liver": _score(1.0, 0.75, hd95_mm=2.0, volume_ml=240.0, reference_ml=200.0)}),
    CaseScores("three", {"liver": _score(0.0, 0.0, reference_ml=50.0)}, "no prediction"),
]


def test_means_by_hand():
    metrics = summarise(CASES, LABELS)
    liver, spleen = metrics.classes["liver"], metrics.classes["spleen"]
    assert (liver.dsc, liver.nsd, liver.n, liver.dsc_sd) == (0.5, 1 / 3, 3, 0.5)
    assert liver.nsd_sd == pytest.approx((((1 / 12) ** 2 + (5 / 12) ** 2 + (1 / 3) ** 2) / 2) ** 0.5)
    assert (liver.hd95_mm, liver.hd95_n) == (3.0, 2)  # there is no distance to a prediction that is missing
    assert (liver.volume_error_ml, liver.volume_error_percent) == (25.0, 15.0)
    assert (spleen.dsc, spleen.n, spleen.dsc_sd) == (0.9, 1, None)
    assert metrics.groups["organ"].dsc == 0.7  # of the two class means, whatever their numbers of cases
    assert metrics.expected == metrics.scored + len(metrics.failed) == 3
    assert mean_score(metrics.cases["one"]) == Score(dsc=0.7, nsd=0.625)


def test_lesions_are_counted_by_volume():
    counts = summarise(CASES, LABELS).lesion_counts
    assert list(counts) == ["tumor"]
    assert {size: tuple(count.model_dump().values()) for size, count in counts["tumor"].items()} == {
        "below 0.5 ml": (1, 0, 0),
        "0.5 to 5 ml": (0, 0, 1),
        "above 5 ml": (0, 1, 0),
    }


def test_nothing_scored_is_null_never_nan():
    metrics = summarise(CASES, LABELS)
    assert metrics.classes["tumor"] == ClassScore(dsc=None, nsd=None, n=0)
    assert metrics.groups["cancer"] == Score(dsc=None, nsd=None)
    assert mean_score({}) == Score(dsc=None, nsd=None)


def test_official_means_are_means_of_rounded_means():
    cases = [CaseScores(str(i), {"liver": _score(x, 1.0), "spleen": _score(1.0, 1.0)}) for i, x in enumerate((0, 0, 1))]
    metrics = summarise(cases, LABELS, rules=OFFICIAL)
    assert metrics.classes["liver"].dsc == 0.3333
    assert metrics.groups["organ"].dsc == 0.6666  # (0.3333 + 1) / 2 = 0.66665, to the even digit


def test_json_reads_back_and_csv_has_a_row_per_score(tmp_path):
    metrics = summarise(CASES, LABELS, notes=["a note"])
    write_metrics(tmp_path, metrics)
    assert read_scores(tmp_path) == metrics
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
    assert [(row["case"], row["label"], float(row["dsc"])) for row in rows] == [
        ("one", "liver", 0.5),
        ("one", "spleen", 0.9),
        ("two", "liver", 1.0),
        ("three", "liver", 0.0),
    ]


def test_csv_files_have_a_row_per_score_and_per_lesion(tmp_path):
    write_metrics(tmp_path, summarise(CASES, LABELS))
    scores, lesions = ((tmp_path / name).read_text().splitlines() for name in ("scores.csv", "lesions.csv"))
    assert scores[0] == (
        "case,label,dsc,nsd,hd95_mm,volume_ml,reference_ml,volume_difference_ml,volume_difference_percent"
    )
    assert scores[1] == "one,liver,0.5,0.25,4.0,90.0,100.0,-10.0,-10.0"
    assert scores[4] == "three,liver,0.0,0.0,,,50.0,,"
    assert lesions == [
        "case,label,outcome,volume_ml,size,dsc",
        "one,tumor,found,0.4,below 0.5 ml,0.5",
        "one,tumor,missed,6.0,above 5 ml,0.0",
        "one,tumor,false,0.5,0.5 to 5 ml,",
    ]


def test_scores_that_are_not_there_or_not_ours_are_named(tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        read_scores(tmp_path)
    (tmp_path / "metrics.json").write_text('{"mean": 1}')
    with pytest.raises(DatasetError, match=r"metrics\.json"):
        read_scores(tmp_path)


def test_scores_of_before_there_were_distances_and_volumes_are_read(tmp_path):
    (tmp_path / "metrics.json").write_text(
        '{"mode": "plain", "classes": {"liver": {"dsc": 1.0, "nsd": 1.0, "n": 1}}, "groups": {},'
        ' "cases": {"a": {"liver": {"dsc": 1.0, "nsd": 1.0}}}, "expected": 1, "scored": 1, "failed": {}, "notes": []}'
    )
    assert read_scores(tmp_path).cases["a"]["liver"] == _score(1.0, 1.0)


def test_the_printed_table_names_everything(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    print_metrics(summarise(CASES, LABELS, notes=["[b]note"]))
    text = capsys.readouterr().out
    for words in ("2 of 3 cases scored, mode plain", "0.7000", "organ (mean)", "[b]note", "three: no prediction"):
        assert words in text
