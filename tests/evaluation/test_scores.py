import gzip
import json
import os
import struct
import unicodedata
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flarenet.data.dataset import Case, Dataset
from flarenet.data.dataset_file import read_dataset
from flarenet.data.labels import HIDDEN, LabelSet
from flarenet.data.nifti import read_grid
from flarenet.data.reading import Reading
from flarenet.errors import DatasetError, GeometryError
from flarenet.evaluation.lesions import find_lesions
from flarenet.evaluation.masks import TwoMaps
from flarenet.evaluation.pairs import CaseScores, evaluate, need_mb, pair_up
from flarenet.evaluation.rules import OFFICIAL, PLAIN
from flarenet.evaluation.scores import LabelScore, Score, dice, score_case
from flarenet.evaluation.tables import summarise
from flarenet.volume import Grid, Volume
from tests.unreadable import refuse_to_open
from tests.unsure import move_the_qform

LABELS = LabelSet(
    names=("background", "liver", "aorta", "tumor"),
    groups={"organ": (1, 2), "cancer": (3,)},
    tolerance_mm={"liver": 5.0},
)
ONE, ZERO = Score(dsc=1.0, nsd=1.0), Score(dsc=0.0, nsd=0.0)
SHAPE = (12, 10, 10)
DATA = Path(os.environ.get("FLARENET_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))

# names of the challenge's columns, in the order of the label values
OFFICIAL_COLUMNS = (
    *("Liver", "RK", "Spleen", "Pancreas", "Aorta", "IVC", "RAG"),
    *("LAG", "Gallbladder", "Esophagus", "Stomach", "Duodenum", "LK", "Lesion"),
)


def _map(**blocks) -> np.ndarray:
    """A label map of SHAPE: name -> slice of z; a block takes rows of its own."""
    data = np.zeros(SHAPE, dtype=np.uint8)
    for name, along_z in blocks.items():
        value = LABELS.names.index(name)
        data[along_z, 2:8, 3 * value - 3 : 3 * value] = value
    return data


def _volume(data: np.ndarray, spacing_mm=(2.0, 1.0, 1.0)) -> Volume:
    affine = np.eye(4)
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = (*spacing_mm, 1)
    affine[0, 0] = affine[2, 2] = 0
    return Volume(data, Grid(data.shape, affine))


def _write(folder: Path, name: str, data: np.ndarray, step=2.0) -> None:
    folder.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data.transpose(2, 1, 0), np.diag([1, 1, step, 1])), folder / f"{name}.nii.gz")


def _dataset(tmp_path: Path, **annotated) -> Dataset:
    """Cases by what was looked for in them; those without anything have no label file."""
    nowhere = tmp_path / "image.nii.gz"
    cases = tuple(
        Case(name, nowhere, tmp_path / f"labelsTr/{name}.nii.gz" if values else None, frozenset(values))
        for name, values in annotated.items()
    )
    return Dataset("Tiny", tmp_path, LABELS, cases, ())


def _scores(truth: np.ndarray, prediction: np.ndarray, rules=PLAIN, to_score=(1, 2, 3)) -> dict[str, Score]:
    return _pure(score_case(_maps(truth, prediction), labels=LABELS, to_score=to_score, rules=rules))


def _maps(truth: np.ndarray, prediction: np.ndarray, spacing_mm=(2.0, 1.0, 1.0)) -> TwoMaps:
    return TwoMaps(_volume(truth, spacing_mm), _volume(prediction, spacing_mm))


def _pure(scores: dict[str, LabelScore]) -> dict[str, Score]:
    """DSC and NSD alone."""
    return {name: Score(dsc=score.dsc, nsd=score.nsd) for name, score in scores.items()}


def test_dice_of_a_half_and_of_empty_masks():
    empty, full = np.zeros(3, dtype=bool), np.ones(3, dtype=bool)
    assert dice(np.array([True, True, False]), np.array([False, True, True])) == 0.5
    assert dice(empty, empty) == dice(full, full) == 1
    assert dice(empty, full) == 0 == dice(full, empty)


def test_only_what_is_asked_is_scored():
    truth = _map(liver=slice(2, 8))
    assert _scores(truth, _map(liver=slice(2, 8), tumor=slice(0, 3)), to_score=(1,)) == {"liver": ONE}


def test_a_label_in_neither_is_right_and_in_one_is_wrong():
    truth, prediction = _map(liver=slice(2, 8)), _map(aorta=slice(2, 8))
    assert _scores(truth, prediction) == {"liver": ZERO, "aorta": ZERO, "tumor": ONE}


def test_each_label_has_its_own_tolerance():
    # both organs are moved by one slice of 3 mm: within 5 mm (liver), beyond 2 mm (aorta)
    data = [_map(liver=s, aorta=s) for s in (slice(2, 8), slice(3, 9))]
    scores = _pure(score_case(_maps(*data, (3.0, 1.0, 1.0)), labels=LABELS, to_score=(1, 2)))
    assert scores["liver"] == Score(dsc=5 / 6, nsd=1.0)
    assert scores["aorta"].dsc == 5 / 6
    assert 0 < scores["aorta"].nsd < 1


def test_another_grid_is_refused():
    data = _map(liver=slice(2, 8))
    with pytest.raises(GeometryError):
        TwoMaps(_volume(data), _volume(data[:-1]))
    with pytest.raises(GeometryError):
        TwoMaps(_volume(data), _volume(data, (2.1, 1.0, 1.0)))


def test_official_drops_the_last_slice_of_a_tube():
    truth, prediction = _map(aorta=slice(2, 8), liver=slice(2, 8)), _map(aorta=slice(2, 7), liver=slice(2, 7))
    official, plain = _scores(truth, prediction, OFFICIAL), _scores(truth, prediction)
    assert official["aorta"] == ONE
    assert official["liver"].dsc == 0.9091  # 2 * 5 / 11, to four digits
    assert plain["aorta"].dsc == plain["liver"].dsc == 10 / 11


def test_official_ignores_a_tube_beyond_the_truth():
    assert _scores(_map(aorta=slice(2, 8)), _map(aorta=slice(0, 12)), OFFICIAL)["aorta"] == ONE


def test_official_knows_the_labels_of_the_challenge_however_they_are_written(tmp_path):
    labels = LabelSet(names=("background", "Liver", "Inferior_Vena_Cava"), groups={"organ": (1, 2)})
    vein = _maps(_map(aorta=slice(2, 8)), _map(aorta=slice(2, 7)))  # value 2
    assert _pure(score_case(vein, labels=labels, to_score=(2,), rules=OFFICIAL)) == {"Inferior_Vena_Cava": ONE}
    moved = _maps(_map(liver=slice(2, 8)), _map(liver=slice(3, 9)), (3.0, 1.0, 1.0))
    stated = labels.model_copy(update={"tolerance_mm": {"Liver": 2.0}})
    for table, rules, within in ((labels, OFFICIAL, True), (stated, OFFICIAL, False), (labels, PLAIN, False)):
        assert (score_case(moved, labels=table, to_score=(1,), rules=rules)["Liver"].nsd == 1.0) == within
    _write(tmp_path / "truth", "a", _map(liver=slice(2, 8)))
    dataset = replace(_dataset(tmp_path, a={1, 2}), labels=labels)

    def notes(table, rules=OFFICIAL):
        folders = (tmp_path / "truth", tmp_path / "truth")
        return pair_up(*folders, dataset=replace(dataset, labels=table), rules=rules)[1]

    (lacking,) = notes(labels)
    assert lacking.startswith("labels of the challenge") and "aorta, duodenum" in lacking and lacking.endswith("(12)")
    differing = "tolerances of dataset.json that are not the challenge's, so not the challenge's own digits: Liver (1)"
    assert notes(stated) == [lacking, differing]
    assert notes(labels.model_copy(update={"tolerance_mm": {"Liver": 5.0}})) == [lacking]
    assert notes(stated, PLAIN) == []


def test_official_scores_a_tube_of_one_slice_on_that_slice():
    truth = _map(aorta=slice(4, 5))
    assert _scores(truth, truth, OFFICIAL)["aorta"] == ONE
    assert _scores(truth, _map(aorta=slice(6, 7)), OFFICIAL)["aorta"] == ZERO


def test_official_gives_no_surface_score_below_a_dice_of_a_fifth():
    truth, prediction = _map(liver=slice(0, 6)), _map(liver=slice(5, 12))  # 2 * 1 / 13 = 0.1538
    assert _scores(truth, prediction, OFFICIAL)["liver"] == Score(dsc=0.1538, nsd=0.0)
    assert _scores(truth, prediction)["liver"].nsd > 0


def test_official_has_a_surface_score_from_a_dice_of_a_fifth_on():
    truth, prediction = _map(liver=slice(0, 3)), _map(liver=slice(2, 9))  # 2 * 1 / 10
    score = _scores(truth, prediction, OFFICIAL)["liver"]
    assert score.dsc == 0.2 and score.nsd > 0


def test_distances_and_volumes_by_hand():
    data = [_map(liver=s) for s in (slice(2, 8), slice(4, 8))]
    score = score_case(_maps(*data, (3.0, 1.0, 1.0)), labels=LABELS, to_score=(1,))["liver"]
    assert score.hd95_mm == 6.0  # the lower face is two slices off
    assert (score.reference_ml, score.volume_ml) == pytest.approx((6 * 18 * 3 / 1000, 4 * 18 * 3 / 1000))
    assert score.volume_difference_ml == pytest.approx(-0.108)
    assert score.volume_difference_percent == pytest.approx(-100 / 3)


def test_distances_and_volumes_of_empty_masks():
    empty, liver = _map(), _map(liver=slice(2, 8))
    pairs = {"both": (empty, empty), "truth": (empty, liver), "prediction": (liver, empty)}
    scores = {name: score_case(_maps(*pair), labels=LABELS, to_score=(1,))["liver"] for name, pair in pairs.items()}
    assert [score.hd95_mm for score in scores.values()] == [None] * 3
    assert [score.volume_difference_ml for score in scores.values()] == pytest.approx([0.0, 0.216, -0.216])
    assert [score.volume_difference_percent for score in scores.values()] == [None, None, -100.0]


def test_official_distances_are_of_the_slices_that_count_and_volumes_of_all():
    score = score_case(
        _maps(_map(aorta=slice(2, 8)), _map(aorta=slice(0, 12))), labels=LABELS, to_score=(2,), rules=OFFICIAL
    )["aorta"]
    assert score.hd95_mm == 0.0 and score.volume_ml == 2 * score.reference_ml


def test_missing_and_broken_predictions_count_as_zero_and_are_named(tmp_path):
    data = _map(liver=slice(2, 8))
    truth, predicted = tmp_path / "truth", tmp_path / "predicted"
    for name in ("good", "missing", "broken", "shifted", "strange"):
        _write(truth, name, data)
    _write(predicted, "good", data)
    _write(predicted, "shifted", data, step=4.0)
    _write(predicted, "strange", data * 9)
    (predicted / "broken.nii.gz").write_bytes((predicted / "good.nii.gz").read_bytes()[:-20])
    _write(predicted, "extra", data)
    dataset = _dataset(tmp_path, **{path.name.split(".")[0]: {1} for path in truth.iterdir()})
    pairs, notes = pair_up(truth, predicted, dataset=dataset)
    metrics = summarise(evaluate(pairs, LABELS), LABELS, notes=notes)
    assert _pure(metrics.cases["good"]) == {"liver": ONE}
    assert set(metrics.failed) == {"missing", "broken", "shifted", "strange"}
    assert all(_pure(metrics.cases[name]) == {"liver": ZERO} for name in metrics.failed)
    assert metrics.classes["liver"].n == 5
    assert metrics.classes["liver"].dsc == metrics.groups["organ"].dsc == 0.2
    assert (metrics.expected, metrics.scored) == (5, 1)
    assert "9" in metrics.failed["strange"]
    assert metrics.notes == ("predictions without a ground truth, left out: extra (1)",)
    assert metrics.cases["missing"]["liver"] == LabelScore(dsc=0.0, nsd=0.0, reference_ml=0.216)


def test_a_case_numbered_0000_is_the_one_of_the_data_set(tmp_path):
    """So it is scored on what was looked for in it. The prediction of `b` kept the mark of its image."""
    for folder in ("truth", "predicted"):
        _write(tmp_path / folder, "a_0000", _map(liver=slice(2, 8)))
    _write(tmp_path / "truth", "b", _map(liver=slice(2, 8)))
    _write(tmp_path / "predicted", "b_0000", _map(liver=slice(2, 8)))
    pairs, notes = pair_up(tmp_path / "truth", tmp_path / "predicted", dataset=_dataset(tmp_path, a_0000={1}, b={1}))
    assert notes == []
    assert {pair.name: (pair.prediction.name, pair.to_score) for pair in pairs} == {
        "a_0000": ("a_0000.nii.gz", {1}),
        "b": ("b_0000.nii.gz", {1}),
    }


def test_spacing_is_the_header_s_not_that_of_an_sform_of_few_digits(tmp_path):
    """Oblique slices 5 mm apart, by the sform 5.00001: moved by one of them, a liver is within its 5 mm everywhere."""
    affine = np.array([[1, 0, 0, 0], [0, 0.8, 3.00001, 0], [0, -0.6, 4.00001, 0], [0, 0, 0, 1]])
    for folder, along_z in (("truth", slice(2, 8)), ("predicted", slice(3, 9))):
        (tmp_path / folder).mkdir()
        image = nibabel.Nifti1Image(_map(liver=along_z).T, affine)
        image.header["pixdim"][3] = 5
        nibabel.save(image, tmp_path / folder / "a.nii.gz")
    assert read_grid(tmp_path / "truth" / "a.nii.gz").spacing_mm[0] > 5.00001
    pairs, _ = pair_up(tmp_path / "truth", tmp_path / "predicted", dataset=_dataset(tmp_path, a={1}))
    assert _pure(evaluate(pairs, LABELS)[0].scores) == {"liver": Score(dsc=5 / 6, nsd=1.0)}


def test_a_broken_truth_is_named_and_not_counted_against_the_prediction(tmp_path):
    _write(tmp_path / "truth", "a", _map(liver=slice(2, 8)))
    _write(tmp_path / "predicted", "b", _map(liver=slice(2, 8)))
    _write(tmp_path / "truth", "b", _map(liver=slice(2, 8)) * 7)
    _write(tmp_path / "predicted", "a", _map(liver=slice(2, 8)))
    pairs, _ = pair_up(tmp_path / "truth", tmp_path / "predicted", dataset=_dataset(tmp_path, a={1}, b={1}))
    metrics = summarise(evaluate(pairs, LABELS), LABELS)
    assert metrics.failed.keys() == {"b"} and metrics.cases["b"] == {}
    assert metrics.classes["liver"].n == 1 and metrics.expected == metrics.scored + 1


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("folder, liver", [("truth", None), ("predicted", 0.0)])
def test_a_file_that_cannot_be_opened_counts_as_a_broken_one(tmp_path, monkeypatch, folder, liver, keep):
    for place in ("truth", "predicted"):
        _write(tmp_path / place, "a", _map(liver=slice(2, 8)))
    pairs, _ = pair_up(tmp_path / "truth", tmp_path / "predicted", dataset=_dataset(tmp_path, a={1}))
    refuse_to_open(monkeypatch, tmp_path / folder / "a.nii.gz")
    [case] = evaluate(pairs, LABELS, keep=tmp_path / "kept" if keep else None)
    assert "Input/output error" in case.failure and case.failure.startswith("ground truth") == (folder == "truth")
    assert case.scores == ({} if liver is None else {"liver": LabelScore(dsc=liver, nsd=liver, reference_ml=0.216)})


def test_annotations_decide_what_is_asked_unless_official(tmp_path):
    """bare has no label: its truth was drawn elsewhere. empty has one, in which nothing was looked for."""
    for name in ("known", "unknown", "bare", "empty"):
        _write(tmp_path / "truth", name, _map(liver=slice(2, 8)))
    dataset = _dataset(tmp_path, known={1, 3}, bare=set())
    empty = replace(dataset.cases[0], name="empty", annotated=frozenset())
    dataset = replace(dataset, test=(empty,))
    pairs, notes = pair_up(tmp_path / "truth", tmp_path / "truth", dataset=dataset)
    every = {1, 2, 3}
    assert {p.name: p.to_score for p in pairs} == {"bare": every, "empty": set(), "known": {1, 3}, "unknown": every}
    assert notes == [
        "not in dataset.json, so scored on every label: unknown (1)",
        "without a label in dataset.json, so scored on every label: bare (1)",
        "nothing was looked for, so not scored: empty (1)",
    ]
    official, _ = pair_up(tmp_path / "truth", tmp_path / "truth", dataset=dataset, rules=OFFICIAL)
    assert all(pair.to_score == {1, 2, 3} for pair in official)


def test_what_nobody_stated_is_said_where_planning_has_not_inferred_it_either(tmp_path):
    _write(tmp_path / "truth", "a", _map(liver=slice(2, 8)))
    told = _dataset(tmp_path, a={1, 2})
    dataset = replace(told, cases=(replace(told.cases[0], declared=False),))
    [pair], notes = pair_up(tmp_path / "truth", tmp_path / "truth", dataset=dataset)
    assert pair.to_score == {1, 2} and "nobody stated or inferred" in notes[0] and notes[0].endswith(": a (1)")
    assert pair_up(tmp_path / "truth", tmp_path / "truth", dataset=told)[1] == []


def test_a_case_s_own_labels_are_scored_by_their_own_values(tmp_path):
    """Only the very file of the case: another of its name has the values of the table, as predictions have."""
    data = _map(liver=slice(2, 8))
    for folder, value in (("own", 6), ("other", 1), ("predicted", 1)):
        _write(tmp_path / folder, "a", data * value)
    case = Case("a", tmp_path / "a", tmp_path / "own" / "a.nii.gz", frozenset({1}), values={6: 1})
    dataset = replace(_dataset(tmp_path), cases=(case,))
    for truth, told in (("own", []), ("other", ["not the case's own label file"])):
        pairs, notes = pair_up(tmp_path / truth, tmp_path / "predicted", dataset=dataset)
        assert _pure(evaluate(pairs, LABELS)[0].scores) == {"liver": ONE}
        assert [note.partition(",")[0] for note in notes] == told


def test_a_missing_prediction_is_wrong_about_what_is_not_there_too_and_misses_every_lesion(tmp_path):
    _write(tmp_path / "truth", "a", _map(tumor=slice(2, 8)))
    (tmp_path / "none").mkdir()
    pairs, _ = pair_up(tmp_path / "truth", tmp_path / "none", dataset=_dataset(tmp_path, a={1, 3}))
    [case] = evaluate(pairs, LABELS)
    assert _pure(case.scores) == {"liver": ZERO, "tumor": ZERO} and "no prediction" in case.failure
    assert [(lesion.outcome, lesion.volume_ml) for lesion in case.lesions] == [("missed", 0.216)]


def test_a_prediction_that_claims_another_shape_is_not_read(tmp_path):
    """gzip could hold its 100 x 100 x 120 voxels in a few kB, of which none is there."""
    _write(tmp_path / "truth", "a", _map(liver=slice(2, 8)))
    header = gzip.decompress((tmp_path / "truth" / "a.nii.gz").read_bytes())[:352]
    claimed = header[:40] + struct.pack("<4h", 3, 100, 100, 120) + header[48:]
    (tmp_path / "predicted").mkdir()
    noise = np.random.default_rng(0).bytes(4000)
    (tmp_path / "predicted" / "a.nii.gz").write_bytes(gzip.compress(claimed + noise))
    pairs, _ = pair_up(tmp_path / "truth", tmp_path / "predicted", dataset=_dataset(tmp_path, a={1}))
    [case] = evaluate(pairs, LABELS)
    assert "found: (120, 100, 100)" in case.failure and _pure(case.scores) == {"liver": ZERO}


def test_missing_ones_are_left_out_only_where_that_is_asked(tmp_path):
    for name in ("a", "b"):
        _write(tmp_path / "truth", name, _map(liver=slice(2, 8)))
    _write(tmp_path / "predicted", "a", _map(liver=slice(2, 8)))
    dataset = _dataset(tmp_path, a={1}, b={1})
    pairs, notes = pair_up(tmp_path / "truth", tmp_path / "predicted", dataset=dataset, skip_missing=True)
    assert [pair.name for pair in pairs] == ["a"]
    assert notes == ["without a prediction, left out as requested: b (1)"]


def test_files_whose_forms_disagree_are_read_as_was_asked_and_scored_anew_where_that_changes(tmp_path):
    for folder in ("truth", "predicted"):
        _write(tmp_path / folder, "a", _map(liver=slice(2, 8)))
    move_the_qform(tmp_path / "predicted" / "a.nii.gz")  # by its sform it lies on the truth

    def scored(affine):
        folders, how = (tmp_path / "truth", tmp_path / "predicted"), Reading(affine=affine)
        pairs, _ = pair_up(*folders, dataset=_dataset(tmp_path, a={1}), reading=how)
        [case] = evaluate(pairs, LABELS, keep=tmp_path / "kept")
        return _pure(case.scores), case.failure

    assert "--affine sform" in scored("agree")[1]
    assert scored("sform") == ({"liver": ONE}, None)
    assert "10.0 mm away" in scored("qform")[1]


def test_a_prediction_is_found_however_its_accents_are_spelled(tmp_path):
    """A truth that a Mac has named, u and its dots apart."""
    mac, usual = (unicodedata.normalize(form, "Jürg") for form in ("NFD", "NFC"))
    for folder, name in (("truth", mac), ("predicted", usual)):
        _write(tmp_path / folder, name, _map(liver=slice(2, 8)))
    [pair], _ = pair_up(tmp_path / "truth", tmp_path / "predicted", dataset=_dataset(tmp_path, **{usual: {1}}))
    assert (pair.name, pair.to_score, pair.prediction.is_file()) == (usual, {1}, True)


def test_the_memory_of_a_case_is_known_where_its_truth_is_read_as_was_asked(tmp_path):
    _write(tmp_path / "truth", "a", _map(liver=slice(2, 8)))
    move_the_qform(tmp_path / "truth" / "a.nii.gz")
    dataset = _dataset(tmp_path, a={1})
    [pair], _ = pair_up(tmp_path / "truth", tmp_path / "truth", dataset=dataset, reading=Reading(affine="qform"))
    assert need_mb(pair) > 200


def test_a_model_whose_every_prediction_failed_scores_zero(tmp_path):
    _write(tmp_path / "truth", "a", _map(liver=slice(2, 8)))
    predicted = tmp_path / "predicted"
    predicted.mkdir()
    (predicted / "report.json").write_text("{}")
    pairs, notes = pair_up(tmp_path / "truth", predicted, dataset=_dataset(tmp_path, a={1}))
    [case] = evaluate(pairs, LABELS)
    assert _pure(case.scores) == {"liver": ZERO} and "no prediction" in case.failure
    assert notes == ["no label map in predicted"]


def test_scores_that_cannot_be_kept_count_all_the_same(tmp_path):
    _write(tmp_path / "truth", "a", _map(liver=slice(2, 8)))
    pairs, _ = pair_up(tmp_path / "truth", tmp_path / "truth", dataset=_dataset(tmp_path, a={1}))
    (tmp_path / "kept").write_text("where a folder should be")
    with pytest.warns(UserWarning, match="kept: scores are not kept"):
        [case] = evaluate(pairs, LABELS, keep=tmp_path / "kept")
    assert _pure(case.scores) == {"liver": ONE} and case.failure is None


def test_folders_that_cannot_be_scored(tmp_path):
    (tmp_path / "empty").mkdir()
    for truth, predicted in (("empty", "empty"), ("nowhere", "empty"), ("empty", "nowhere")):
        with pytest.raises(DatasetError):
            pair_up(tmp_path / truth, tmp_path / predicted, dataset=_dataset(tmp_path))


def test_the_challenge_digits_are_reproduced():
    if not (DATA / "official" / "scores.json").is_file():
        pytest.skip(f"no scores of the challenge's own code in {DATA / 'official'} (FLARENET_TEST_DATA)")
    expected = json.loads((DATA / "official" / "scores.json").read_text())
    dataset = read_dataset(DATA / "FLAREmini")
    folders = (DATA / "FLAREmini" / "labelsTs", "predictions"), (DATA / "official" / "truth_edge", "predictions_edge")
    pairs = [
        pair
        for truth, predicted in folders
        for pair in pair_up(truth, DATA / "official" / predicted, dataset=dataset, rules=OFFICIAL)[0]
    ]
    metrics = summarise(evaluate(pairs, dataset.labels, rules=OFFICIAL), dataset.labels, rules=OFFICIAL)
    columns = dict(zip(dataset.labels.names[1:], OFFICIAL_COLUMNS))
    for case, scores in metrics.cases.items():
        assert _as_columns(scores, columns) == expected["cases"][f"{case}.nii.gz"], case
    overall = _as_columns(metrics.classes, columns)
    overall |= {"Organ_DSC": metrics.groups["organ"].dsc, "Organ_NSD": metrics.groups["organ"].nsd}
    assert len(metrics.cases) == 12
    assert overall == expected["overall"]


def _as_columns(scores, columns) -> dict[str, float]:
    found = {f"{columns[name]}_DSC": score.dsc for name, score in scores.items()}
    return found | {f"{columns[name]}_NSD": score.nsd for name, score in scores.items()}


def _ignoring(truth: np.ndarray, *along_z) -> np.ndarray:
    truth = truth.copy()
    for slices in along_z:
        truth[slices] = HIDDEN
    return truth


def test_what_nobody_annotated_counts_for_nothing():
    """Slices 6 and higher: of the liver truth has slices 2 to 5, the prediction 3 to 5, and what it says above is
    nothing; the tumor that it sees there is not seen."""
    truth, prediction = _ignoring(_map(liver=slice(2, 12)), slice(6, 12)), _map(liver=slice(3, 8), tumor=slice(6, 9))
    scores = score_case(_maps(truth, prediction), labels=LABELS, to_score=(1, 2, 3))
    liver = scores["liver"]
    assert (liver.dsc, liver.nsd, liver.hd95_mm) == (2 * 3 / (4 + 3), 1.0, 2.0)  # its lower face is a slice off
    assert (liver.reference_ml, liver.volume_ml) == pytest.approx((4 * 18 * 2 / 1000, 3 * 18 * 2 / 1000))
    assert _pure(scores)["tumor"] == ONE
    assert find_lesions(_maps(truth, prediction), labels=LABELS, to_score=(3,)) == []


def test_without_any_surface_that_counts_there_is_no_surface_dice():
    """Of every third slice drawn each surface lies beside a slice that is not."""
    truth = _ignoring(_map(liver=slice(2, 10)), slice(0, 3), slice(4, 6), slice(7, 12))
    score = score_case(_maps(truth, _map(liver=slice(2, 5))), labels=LABELS, to_score=(1,))["liver"]
    assert (score.dsc, score.nsd, score.hd95_mm) == (2 * 1 / (2 + 1), None, None)
    told = {"liver": LabelScore(dsc=0.5, nsd=0.25)}
    metrics = summarise([CaseScores("a", {"liver": score}), CaseScores("b", told)], LABELS)
    liver = metrics.classes["liver"]
    assert (liver.dsc, liver.nsd, liver.n, liver.nsd_sd) == (pytest.approx((2 / 3 + 1 / 2) / 2), 0.25, 2, None)
    assert metrics.groups["organ"].nsd == 0.25
    alone = summarise([CaseScores("a", {"liver": score})], LABELS)
    assert alone.classes["liver"].nsd is None and alone.groups["organ"] == Score(dsc=score.dsc, nsd=None)


def test_truths_with_ignored_voxels_are_read_and_scored_wherever_they_lie(tmp_path):
    """By the values of their own file, else by those of the table and the value of `ignore`. Where all is ignored,
    nothing is scored; the official rules score none with any."""
    data, above = _map(liver=slice(2, 8)), np.zeros(SHAPE, bool)
    above[6:] = True
    for folder, liver in (("own", 6), ("other", 1)):
        _write(tmp_path / folder, "a", np.where(above, 9, data * liver).astype(np.uint8))
    _write(tmp_path / "other", "b", np.full(SHAPE, 9, np.uint8))
    for name in ("a", "b"):
        _write(tmp_path / "predicted", name, _map(liver=slice(2, 6)))
    case = Case("a", tmp_path / "a", tmp_path / "own" / "a.nii.gz", frozenset({1}), values={6: 1, 9: HIDDEN})
    dataset = replace(_dataset(tmp_path, b={1}), ignore=9)
    dataset = replace(dataset, cases=(case, replace(dataset.cases[0], values=dataset.values_elsewhere)))
    for truth, told in (("own", 0), ("other", 1)):
        pairs, notes = pair_up(tmp_path / truth, tmp_path / "predicted", dataset=dataset)
        assert len([note for note in notes if "not the case's own label file" in note]) == told
        assert all(note.endswith(": a (1)") for note in notes if "label file" in note)
        first, *rest = evaluate(pairs, LABELS)
        assert _pure(first.scores) == {"liver": ONE} and first.failure is None
        assert len(rest) == told and all("every voxel ignored" in case.failure for case in rest)
    pairs, _ = pair_up(tmp_path / "own", tmp_path / "predicted", dataset=dataset, rules=OFFICIAL)
    [official] = evaluate(pairs, LABELS, rules=OFFICIAL)
    assert official.scores == {} and "50.00% of the voxels ignored" in official.failure
    assert "leave --official out" in official.failure
