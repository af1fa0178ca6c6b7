"""Means over several labels, checked by hand."""

from flarenet.data.labels import LabelSet
from flarenet.evaluation import means
from flarenet.evaluation.means import alike, case_means, compared_means
from flarenet.evaluation.pairs import CaseScores
from flarenet.evaluation.scores import LabelScore
from flarenet.evaluation.tables import summarise

BOTH = ("liver", "spleen")
LABELS = LabelSet(names=("background", *BOTH), groups={"organ": (1, 2)})


def metrics(**cases):
    """Metrics of cases given as {label: (DSC, NSD)}."""
    scores = {case: {name: LabelScore(dsc=d, nsd=n) for name, (d, n) in found.items()} for case, found in cases.items()}
    return summarise([CaseScores(case, found) for case, found in scores.items()], LABELS)


def test_a_label_without_a_surface_score_is_in_no_mean_of_these():
    """In the spleen of case a no surface counts, and in case b no label has any that does."""
    found = metrics(a={"liver": (0.5, 0.5), "spleen": (0.75, None)}, b={"liver": (0.75, None)})
    assert case_means(found, BOTH) == {"a": 0.625, "b": 0.75}
    assert case_means(found, BOTH, "nsd") == {"a": 0.5}
    assert compared_means({"A": found, "B": found}, BOTH, "nsd") == {"A": {"a": 0.5}, "B": {"a": 0.5}}


def test_a_mean_over_fewer_labels_is_compared_with_no_other():
    both, liver = metrics(a={"liver": (0.5, 0.5), "spleen": (0.75, 0.5)}), metrics(a={"liver": (1.0, 1.0)})
    models = {"both": both, "liver": liver}
    assert alike({name: [each] for name, each in models.items()}, BOTH) == ["both"]
    assert alike({name: [each] for name, each in models.items()}, ["liver"]) == ["both", "liver"]
    assert compared_means(models, BOTH, "dsc") == {"both": {"a": 0.625}}
    rows = {"all labels": BOTH, "organ": BOTH, "left": ("spleen",)}
    assert means.tested_means(rows, models.values()) == {"all labels": BOTH, "left": ("spleen",)}
