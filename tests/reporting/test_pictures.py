import io
import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from flarenet.data.dataset_file import read_dataset
from flarenet.data.labels import HIDDEN
from flarenet.data.reading import Reading
from flarenet.evaluation.pairs import CaseScores, Pair
from flarenet.evaluation.pictures import WINDOW_HU
from flarenet.evaluation.scores import LabelScore
from flarenet.evaluation.tables import summarise
from flarenet.reporting.content import Browser, Gallery, Listing, Section
from flarenet.reporting.models import ScoredModel
from flarenet.reporting.page import write_page
from flarenet.reporting.pictures import picture_section
from flarenet.reporting.slices import MOST_SLICES
from flarenet.reporting.subjects import different, ends, find_subjects
from tests.reporting.chromium import ask

SHAPE = (60, 40, 50)  # z, y, x; 4 x 2 x 2 mm
TRUTH = (slice(10, 56), slice(10, 30), slice(5, 25))  # in canonical order: the patient's left half
MISSED = (slice(33, 36), slice(14, 24), slice(10, 20))


def _save(path, data, flip=False):
    """[Z, Y, X], canonical; with `flip` stored from the patient's right to the left."""
    affine = np.diag([-2.0 if flip else 2.0, 2.0, 4.0, 1.0])
    path.parent.mkdir(exist_ok=True)
    stored = data.transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored[::-1] if flip else stored), affine), path)


@pytest.fixture
def root(tmp_path):
    """Cases a and b; model A finds all of the liver in a but not MISSED in b; case c has no image."""
    image = np.full(SHAPE, -1000, dtype=np.int16)
    image[:, 2:38, 2:48] = 40
    truth = np.zeros(SHAPE, dtype=np.uint8)
    truth[TRUTH] = 1
    short = truth.copy()
    short[MISSED] = 0
    for case, predicted in (("a", truth), ("b", short), ("c", truth)):
        flip = case == "b"
        _save(tmp_path / "truth" / f"{case}.nii.gz", truth, flip)
        _save(tmp_path / "A" / f"{case}.nii.gz", predicted, flip)
        if case != "c":
            _save(tmp_path / "images" / f"{case}_0000.nii.gz", image, flip)
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "tumor": 2},
        "groups": {"organ": [1], "cancer": [2]},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "dataset": {"a": {"images": ["images/a_0000.nii.gz"], "label": "truth/a.nii.gz", "annotated": [1]}},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def _model(root, name="A", **dsc):
    labels = read_dataset(root, Reading()).labels
    cases = [CaseScores(case, {"liver": LabelScore(dsc=score, nsd=score)}) for case, score in dsc.items()]
    pairs = tuple(
        Pair(case, root / "truth" / f"{case}.nii.gz", root / "A" / f"{case}.nii.gz", frozenset({1})) for case in dsc
    )
    return ScoredModel(name, summarise(cases, labels), pairs)


def _section(root, *models, browsed=12):
    return picture_section(models, read_dataset(root, Reading()), root / "images", browsed=browsed)


def _of(section, kind):
    return next((part for part in section.parts if isinstance(part, kind)), None)


def test_the_worst_comes_first_and_both_ends_are_kept(root):
    subjects = find_subjects([_model(root, a=1.0, b=0.9, c=0.5)], root / "images")
    assert [(subject.case, subject.caption) for subject in subjects] == [
        ("b", "b: mean DSC 90.00 (A)"),
        ("a", "a: mean DSC 100.00 (A)"),
    ]
    assert ends([1, 2, 3, 4, 5], 3) == [1, 2, 5] and ends([1, 2], 3) == [1, 2] and ends([1, 2], 0) == []


def test_what_nobody_looked_for_is_no_difference():
    truth, predicted = np.array([0, 1, 1, 0]), np.array([1, 1, 2, 2], dtype=np.uint8)
    assert different(truth, predicted, frozenset({1, 2})).tolist() == [True, False, True, True]
    assert different(truth, predicted, frozenset({1})).tolist() == [True, False, True, False]
    missed = np.zeros(4, dtype=np.uint8)  # a label that the truth has, and nobody was asked for in this case
    assert different(truth, missed, frozenset({2})).tolist() == [False] * 4
    ignored = np.full(4, HIDDEN, dtype=np.uint8)
    assert different(ignored, predicted, frozenset({1, 2})).tolist() == [False] * 4


def test_slices_show_image_and_labels_as_they_lie(root):
    browser = _of(_section(root, _model(root, a=1.0, b=0.9)), Browser)
    assert browser.colours == {"liver": "#b5493a"}
    assert [strip.case for strip in browser.strips] == ["a", "b"]  # the best first
    for strip in browser.strips:  # b is stored the other way round and is shown the same
        assert len(strip.z) == MOST_SLICES and strip.z[0] == 8 and strip.z[-1] == 57
        assert (strip.width, strip.height) == (46, 36)  # the body, at one pixel per voxel
        truth = np.asarray(Image.open(io.BytesIO(strip.layers["ground truth"].data)))
        at = strip.z.index(33)
        row, column = divmod(at, strip.columns)
        tile = truth[row * 36 : (row + 1) * 36, column * 46 : (column + 1) * 46]
        rows, columns = np.nonzero(tile)
        # the patient's left, low x, is on the picture's right; the front, high y, is up
        assert (columns.min(), columns.max()) == (45 - 22, 45 - 3) and (rows.min(), rows.max()) == (35 - 27, 35 - 8)
        grey = np.asarray(Image.open(io.BytesIO(strip.image.data)))
        assert abs(int(grey[row * 36 + 18, column * 46 + 23]) - 127) <= 2  # 40 HU lies in the middle of the window
    predicted = np.asarray(Image.open(io.BytesIO(browser.strips[1].layers["A"].data)))
    assert np.count_nonzero(truth) - np.count_nonzero(predicted) == 100 * sum(z in (33, 34, 35) for z in strip.z)


def test_the_figure_shows_the_slice_that_differs_with_a_frame_around(root):
    from flarenet.reporting.extremes import extreme_row
    from flarenet.reporting.subjects import read_scan

    labels = read_dataset(root, Reading()).labels
    subject = find_subjects([_model(root, b=0.9)], root / "images")[0]
    row = extreme_row(subject, read_scan(subject, labels, is_ct=True), ["A", "B"], note="worst")
    ((rows, columns),) = row.boxes[1]
    # MISSED within the body, turned; 3 pixels of room
    assert (rows.start, rows.stop) == (12 - 3, 22 + 3) and (columns.start, columns.stop) == (28 - 3, 38 + 3)
    assert row.boxes[0] == row.boxes[2] == ()
    assert row.notes == ("", "DSC 90.00", "no prediction") and not row.layers[2].any()
    assert np.count_nonzero(row.layers[0]) - np.count_nonzero(row.layers[1]) == 100
    assert row.window == WINDOW_HU
    scan = read_scan(subject, labels, is_ct=False)
    assert extreme_row(subject, scan, ["A"], note="worst").window == scan.window == (-1000, 40)  # the image's range


def test_pictures_and_files(root):
    section = _section(root, _model(root, a=1.0, b=0.9))
    picture = _of(section, Gallery).pictures[0]
    assert Image.open(io.BytesIO(picture.data)).format == "WEBP"
    assert Image.open(io.BytesIO(picture.files["png"])).width > 1000 and b"<svg" in picture.files["svg"]
    assert _section(root, _model(root, a=1.0, b=0.9)).parts[1].pictures[0].files == picture.files


def test_a_case_that_cannot_be_drawn_is_named_and_the_others_are_there(root):
    _save(root / "images" / "b_0000.nii.gz", np.arange(125, dtype=np.int16).reshape(5, 5, 5))
    section = _section(root, _model(root, a=1.0, b=0.9))
    listing = _of(section, Listing)
    assert listing.bad and "b: " in listing.lines[0] and "grid" in listing.lines[0]
    assert str(root) not in listing.lines[0]
    assert [strip.case for strip in _of(section, Browser).strips] == ["a"]


def test_scores_without_predictions_and_no_browser(root):
    without = ScoredModel("S", _model(root, a=1.0).metrics)
    section = _section(root, _model(root, a=1.0, b=0.9), without, browsed=0)
    assert "only scores" in section.parts[0].lines[0] and _of(section, Browser) is None
    assert "No case" in _section(root, without).parts[0].lines[-1]


def test_a_finger_and_keys_leaf_through(root):
    section = _section(root, _model(root, a=1.0, b=0.9))
    write_page(root / "page.html", "title", [Section("pictures", "Pictures", section.parts)])
    steps = """(() => {
        const said = [], panels = document.querySelector('.panels'), slice = document.querySelector('.slice');
        const stage = document.querySelector('.stage'), look = () => said.push(Number(slice.value));
        const send = (type, more) => stage.dispatchEvent(
            new PointerEvent(type, {isPrimary: true, pointerId: 1, bubbles: true, clientY: 5, ...more}));
        panels.setPointerCapture = () => {};
        slice.value = 20; look();
        for (const key of ['ArrowRight', 'ArrowDown', 'PageUp']) {
            panels.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})); look();
        }
        const step = Math.max(4, stage.clientWidth / 40);
        send('pointerdown', {clientX: 100}); send('pointermove', {clientX: 100 - 6 * step}); look();
        send('pointermove', {clientX: 100 + 900 * step}); look();
        send('pointerup', {}); send('pointermove', {clientX: 0}); look();
        return said.join(' ');
    })()"""
    assert ask(root / "page.html", steps) == "20 21 20 25 19 39 39"
