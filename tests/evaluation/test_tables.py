import csv
import io

from rich.console import Console

from flarenet.data.labels import LabelSet
from flarenet.errors import DatasetError
from flarenet.evaluation.scores import OFFICIAL, CaseScores, Score
from flarenet.evaluation.tables import Metrics, mean_score, print_metrics, summarise, write_metrics
from flarenet.schema import load

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})


def _score(dsc: float, nsd: float) -> Score:
    return Score(dsc=dsc, nsd=nsd)


CASES = [
    CaseScores("one", {"liver": _score(0.5, 0.25), "spleen": _score(0.9, 1.0)}),
    CaseScores("two", {"liver": _score(1.0, 0.75)}),
    CaseScores("three", {"liver": _score(0.0, 0.0)}, "no prediction"),
]


def test_means_by_hand():
    metrics = summarise(CASES, LABELS)
    assert metrics.classes["liver"].model_dump() == {"dsc": 0.5, "nsd": 1 / 3, "n": 3}
    assert metrics.classes["spleen"].model_dump() == {"dsc": 0.9, "nsd": 1.0, "n": 1}
    assert metrics.groups["organ"].dsc == 0.7  # of the two class means, whatever their numbers of cases
    assert metrics.expected == metrics.scored + len(metrics.failed) == 3
    assert mean_score(metrics.cases["one"]) == _score(0.7, 0.625)


def test_nothing_scored_is_null_never_nan():
    metrics = summarise(CASES, LABELS)
    assert metrics.classes["tumor"].model_dump() == {"dsc": None, "nsd": None, "n": 0}
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
    assert load(Metrics, tmp_path / "metrics.json", DatasetError) == metrics
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
    assert [(row["case"], row["label"], float(row["dsc"])) for row in rows] == [
        ("one", "liver", 0.5),
        ("one", "spleen", 0.9),
        ("two", "liver", 1.0),
        ("three", "liver", 0.0),
    ]


def test_the_printed_table_names_everything():
    text = io.StringIO()
    print_metrics(summarise(CASES, LABELS, notes=["[b]note"]), Console(file=text, width=100))
    for words in ("2 of 3 cases scored, mode plain", "0.7000", "organ (mean)", "[b]note", "three: no prediction"):
        assert words in text.getvalue()
