import json
import time

import nibabel
import numpy as np
import pytest

from flarenet.phantom import PATTERNS, phantom_case, write_phantom_set
from flarenet.phantom.anatomy import LABELS, Ellipsoid, Tube
from flarenet.volume import canonical, orientation_of
from flarenet.whole import sha256_of

CASES = [phantom_case(3, index) for index in range(10)]


def centre_mm(case, value):
    """Mean place of a label in mm from the middle of the image: x to the right, y to the front, z to the head."""
    truth, _ = canonical(case.truth)
    z, y, x = np.argwhere(truth.data == value).mean(axis=0) - (np.array(truth.data.shape) - 1) / 2
    spacing_z, spacing_y, spacing_x = truth.grid.spacing_mm
    return x * spacing_x, y * spacing_y, z * spacing_z


def test_the_same_seed_and_index_give_the_same_case_and_others_do_not():
    again, other = phantom_case(3, 0), phantom_case(4, 0)
    assert np.array_equal(again.image.data, CASES[0].image.data)
    assert np.array_equal(again.truth.data, CASES[0].truth.data)
    assert np.array_equal(again.image.grid.affine, CASES[0].image.grid.affine)
    assert other.image.data.shape != again.image.data.shape or not np.array_equal(other.image.data, again.image.data)


def test_a_case_takes_less_than_a_second():
    started_s = time.process_time()
    phantom_case(3, 99)
    assert time.process_time() - started_s < 1


def test_every_organ_is_in_nearly_every_case():
    present = np.array([np.bincount(case.organs.ravel(), minlength=14)[1:14] > 0 for case in CASES])
    may_lack = ("gallbladder", "right kidney", "tumor")
    always = [value - 1 for value in LABELS.values if LABELS.names[value] not in may_lack]
    assert present[:, always].all()
    assert present.mean() > 0.95
    assert sum(case.tumours.any() for case in CASES) >= 7


def test_sides_are_the_patients():
    for case in CASES:
        assert centre_mm(case, LABELS.names.index("liver"))[0] > 20
        assert centre_mm(case, LABELS.names.index("spleen"))[0] < -60
        assert centre_mm(case, LABELS.names.index("left kidney"))[0] < -30
        assert centre_mm(case, LABELS.names.index("left kidney"))[1] < 0  # behind the middle
        assert centre_mm(case, LABELS.names.index("esophagus"))[2] > 30


def test_orientations_and_spacings_are_mixed():
    assert len({orientation_of(case.image.grid) for case in CASES}) >= 3
    slice_mm = {round(canonical(case.image)[0].grid.spacing_mm[0], 2) for case in CASES}
    assert slice_mm <= {2.5, 3.0, 4.0, 5.0} and len(slice_mm) >= 3


def test_detail_changes_the_sampling_and_not_the_anatomy():
    coarse, fine = phantom_case(3, 1), phantom_case(3, 1, detail=2)
    assert np.allclose(np.array(fine.truth.data.shape), 2 * np.array(coarse.truth.data.shape), atol=1)
    voxel_ml = [np.prod(case.truth.grid.spacing_mm) / 1000 for case in (coarse, fine)]
    liver_ml = [(case.organs == 1).sum() * ml for case, ml in zip((coarse, fine), voxel_ml)]
    assert liver_ml[0] == pytest.approx(liver_ml[1], rel=0.03)
    assert 800 < liver_ml[0] < 2600


def test_labels_hold_only_what_was_looked_for_and_organs_run_through_tumours():
    case = next(case for case in CASES if (case.tumours & (case.organs == 1)).any())
    hosts = case.organs[case.tumours]
    assert set(np.unique(case.labels([14]).data)) == {0, 14}
    assert set(np.unique(case.labels([1, 3]).data)) == {0, 1, 3}
    assert np.array_equal(case.labels(range(1, 14)).data[case.tumours], hosts)
    assert (case.truth.data[case.tumours] == 14).all()
    assert not case.labels([]).data.any()


def test_organs_do_not_fall_apart_by_hu_alone():
    """The best classifier that sees one voxel's HU, fitted on these very cases: most likely label per 10 HU."""
    hu = np.concatenate([case.image.data.ravel() for case in CASES]).clip(-200, 300) // 10 + 20
    truth = np.concatenate([case.truth.data.ravel() for case in CASES])
    counts = np.zeros((51, 15))
    np.add.at(counts, (hu, truth), 1)
    frequency = counts.sum(axis=0)
    balanced = (counts / frequency).argmax(axis=1)[hu]
    prior = counts.argmax(axis=1)[hu]
    for guess in (balanced, prior):
        overlap = np.array([np.sum((guess == value) & (truth == value)) for value in LABELS.values])
        dice = 2 * overlap / np.array([np.sum(guess == value) + np.sum(truth == value) for value in LABELS.values])
        assert dice.mean() < 0.25
        assert dice.max() < 0.75


def test_depth_is_signed():
    points = np.array([[0.0, 10.0, 20.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert Ellipsoid((0, 0, 0), (10, 5, 5)).depth(points) == pytest.approx([-1, 0, 1])
    assert Tube(((0, 0, -5), (0, 0, 5)), 10).depth(points) == pytest.approx([-1, 0, 1])
    assert Tube(((0, 0, 5), (0, 0, 15)), 5).depth(points[:, :1]) == pytest.approx([0])  # round end


def test_a_written_set_is_complete_and_the_same_each_time(tmp_path):
    for name in ("first", "second"):
        write_phantom_set(tmp_path / name / "PHANTOM", cases=5, test_cases=1, seed=1)
    first = tmp_path / "first" / "PHANTOM"
    description = json.loads((first / "dataset.json").read_text())
    assert description["numTraining"] == len(description["dataset"]) == 5
    assert [tuple(case["annotated"]) for case in description["dataset"].values()] == list(PATTERNS[:5])
    assert len(set(PATTERNS[:5])) == 5
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 1 + 5 + 4 + 2  # description, images, labels of the annotated, one held-out case
    second = tmp_path / "second" / "PHANTOM"
    assert [sha256_of(first / path) for path in files] == [sha256_of(second / path) for path in files]


def test_a_written_case_is_the_case(tmp_path):
    write_phantom_set(tmp_path, cases=1, test_cases=0, seed=3)
    entry = json.loads((tmp_path / "dataset.json").read_text())["dataset"]["phantom0000"]
    image, label = nibabel.load(tmp_path / entry["images"][0]), nibabel.load(tmp_path / entry["label"])
    case = CASES[0]
    assert image.get_data_dtype() == np.int16 and label.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), case.image.data)
    assert np.array_equal(np.asarray(label.dataobj).transpose(2, 1, 0), case.labels(entry["annotated"]).data)
    assert np.allclose(image.affine, case.image.grid.affine[:, [2, 1, 0, 3]], atol=1e-3)
    assert np.array_equal(image.affine, label.affine)
