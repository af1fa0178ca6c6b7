"""When a held-out case is predicted again, and how it is scored; a model here says what was drawn."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from flarenet.choice import scores
from flarenet.choice.scores import scans_as_read, score_cases
from flarenet.data.dataset import Case
from flarenet.data.labels import LabelSet
from flarenet.data.names import case_name
from flarenet.data.nifti import write_labels
from flarenet.data.reading import Reading
from flarenet.errors import DatasetError
from flarenet.volume import Grid
from tests.unsure import move_the_qform

LABELS = LabelSet(names=("background", "liver"), groups={"organ": (1,)})
GRID = Grid((4, 5, 6), np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]]))
BROKEN = b"broken"


@pytest.fixture
def cases(tmp_path):
    """Cases a and b with a label map each; nobody looks into the scans."""
    drawn, made = np.zeros(GRID.shape, dtype=np.uint8), []
    drawn[1:3, 1:4, 1:4] = 1
    for name in ("a", "b"):
        image, label = (tmp_path / folder / f"{name}.nii.gz" for folder in ("images", "labels"))
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(f"scan {name}".encode())
        label.parent.mkdir(exist_ok=True)
        write_labels(label, drawn, like=GRID)
        made.append(Case(name, image, label, frozenset({1})))
    return made


@pytest.fixture
def predicted(monkeypatch):
    """The names of the cases that were predicted, in order; a scan that is BROKEN or gone fails."""
    names = []

    def predict(predictor, outputs, *, progress, reading):
        for image, output in outputs.items():
            names.append(case_name(image))
            if not image.is_file() or image.read_bytes() == BROKEN:
                progress(image, DatasetError(image, found="nothing", expected="a scan"))
            else:
                output.parent.mkdir(exist_ok=True)
                shutil.copy(image.parents[1] / "labels" / image.name, output)
                progress(image, None)

    monkeypatch.setattr("flarenet.choice.scores.predict_pairs", predict)
    return names


def scored(cases, folder):
    return score_cases(
        cases, folder, scans=scans_as_read(cases), opened=lambda: None, known={1}, labels=LABELS, title="the model"
    )


def test_a_case_is_predicted_again_where_its_scan_or_how_it_is_read_is_another(cases, predicted, tmp_path):
    a, b = cases
    for changed, again in (
        (lambda: cases, ["a", "b"]),
        (lambda: cases, []),
        (lambda: a.image.write_bytes(b"another scan") and cases, ["a"]),
        (lambda: [a, replace(b, reading=Reading(affine="sform"))], ["b"]),
        (lambda: [a, replace(b, reading=Reading(affine="sform", allow_external=True))], []),
        (lambda: (tmp_path / "out" / "scans" / "a.json").unlink() or [a], ["a"]),
        (lambda: (tmp_path / "out" / "scans" / "a.json").write_text("{}") and [a], ["a"]),
    ):
        predicted.clear()
        assert scored(changed(), tmp_path / "out").failed == {}
        assert predicted == again


def test_one_call_predicts_the_cases_of_a_reading_so_that_each_scan_is_read_meanwhile(
    cases, predicted, tmp_path, monkeypatch
):
    """Of two cases with one image, as by two readers, each is predicted."""
    a, b = cases
    predict, calls = scores.predict_pairs, []

    def told(predictor, outputs, **more):
        calls.append([case_name(output) for output in outputs.values()])
        predict(predictor, outputs, **more)

    monkeypatch.setattr(scores, "predict_pairs", told)
    asked = [a, replace(a, name="c"), b, replace(b, name="d", reading=Reading(affine="sform"))]
    assert scored(asked, tmp_path / "out").failed == {}
    assert calls == [["a", "b"], ["c"], ["d"]]


def test_what_a_killed_comparison_left_goes(cases, predicted, tmp_path):
    out = tmp_path / "out"
    for folder in (out, out / "scans", out / "cases"):
        folder.mkdir(exist_ok=True)
        (folder / ".0123456789ab.tmp.a.nii.gz").write_bytes(b"half")
    scored(cases, out)
    assert not list(out.rglob(".*"))


def test_a_scan_that_fails_leaves_no_prediction_of_the_one_before(cases, predicted, tmp_path):
    assert scored(cases, tmp_path / "out").classes["liver"].dsc == 1
    cases[0].image.write_bytes(BROKEN)
    found = scored(cases, tmp_path / "out")
    assert list(found.failed) == ["a"] and "no prediction" in found.failed["a"] and found.classes["liver"].dsc == 0.5
    scored(cases, tmp_path / "out")
    assert predicted == ["a", "b", "a", "a"]


def test_a_scan_that_is_gone_fails_and_stops_no_other(cases, predicted, tmp_path):
    cases[0].image.unlink()
    assert list(scans_as_read(cases)) == ["b"]
    assert list(scored(cases, tmp_path / "out").failed) == ["a"] and predicted == ["a", "b"]


def test_files_whose_forms_disagree_are_scored_as_the_case_is_read(cases, predicted, tmp_path):
    for case in cases:
        move_the_qform(case.label)
    assert list(scored(cases, tmp_path / "out").failed) == ["a", "b"]
    asked = [replace(case, reading=Reading(affine="qform")) for case in cases]
    found = scored(asked, tmp_path / "out")
    assert found.failed == {} and found.classes["liver"].dsc == 1
