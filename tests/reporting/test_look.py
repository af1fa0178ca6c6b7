import io
import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from flarenet.cli.plan import main
from flarenet.data.dataset import Case
from flarenet.data.labels import HIDDEN, LabelSet
from flarenet.data.verify import Content
from flarenet.phantom import write_phantom_set
from flarenet.reporting.charts import histograms
from flarenet.reporting.look import BINS, bins_hu, look_at
from flarenet.volume import Grid, Volume
from tests.reporting.chromium import ask

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})
GRID = Grid((4, 30, 60), np.array([[0, 0, 2, 0], [0, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]], dtype=float))


def _look(drawn=True, thumbnails=("a",), metal_hu=5000):
    image = np.full(GRID.shape, -1000, dtype=np.int16)
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    image[2, 0:10, 0:20], labels[2, 0:10, 0:20] = 40, 1
    image[2, 20:25, 0:20], labels[2, 20:25, 0:20] = metal_hu, 2
    content = Content(Volume(image, GRID), Volume(labels, GRID) if drawn else None, ())
    case = Case("a", image=None, label=None, annotated=frozenset({1, 2}))
    return look_at(case, content, labels=LABELS, is_ct=True, thumbnails=frozenset(thumbnails))


def test_voxels_are_counted_by_label_and_hu():
    counts = _look().counts
    assert {value: int(count.sum()) for value, count in counts.items()} == {1: 200, 2: 100}
    assert bins_hu()[counts[1].argmax()] == 44  # the middle of 40 to 48
    assert counts[2].argmax() == BINS - 1  # what lies outside counts in the outer bin
    assert _look(metal_hu=32767).counts[2].argmax() == BINS - 1
    assert _look(drawn=False).counts == {}


def test_a_thumbnail_shows_the_labels_where_they_lie():
    picture = np.asarray(Image.open(io.BytesIO(_look().thumbnail))).astype(int)
    assert picture.shape == (90, 180, 3)
    # low x, the patient's left, is on the right; low y, the back, is below: 20 of 60 columns, 10 of 30 rows
    liver, nothing = picture[75, 150], picture[75, 50]
    assert liver[0] > liver[1] + 30 and nothing.max() < 10
    assert _look(thumbnails=()).thumbnail is None


def test_maps_of_another_shape_are_not_looked_at():
    small = Volume(np.zeros((2, 2, 2), np.uint8), GRID.resampled((2, 2, 2)))
    content = Content(Volume(np.zeros(GRID.shape, np.int16), GRID), small, ())
    case = Case("a", image=None, label=None, annotated=frozenset({1}))
    look = look_at(case, content, labels=LABELS, is_ct=True, thumbnails=frozenset({"a"}))
    assert (look.counts, look.thumbnail) == ({}, None)


def test_histograms_enclose_the_same_area_and_show_nearly_all():
    values = np.arange(1000.0)
    one, other = np.zeros(1000, np.int64), np.zeros(1000, np.int64)
    one[100:200], other[400:402] = 3, 1000
    figure = histograms({"liver": {"C1": one, "C2": 7 * one}, "tumor": {"C2": other}}, values, x="HU")
    liver, tumor = figure.axes
    assert [round(float(line.get_ydata().sum()), 6) for line in (*liver.lines, *tumor.lines)] == [1, 1, 1]
    assert liver.get_xlim() == tumor.get_xlim() == (100, 401)
    assert liver.lines[1].get_color() == tumor.lines[0].get_color() != liver.lines[0].get_color()


@pytest.fixture
def root(tmp_path):
    """Five phantom cases, of which the first has a label of another grid than its image."""
    raw = tmp_path / "raw" / "P"
    write_phantom_set(raw, cases=5, test_cases=0, seed=3, detail=0.4)
    label = raw / "labelsTr" / "phantom0000.nii.gz"
    drawn = nibabel.load(label)
    nibabel.save(nibabel.Nifti1Image(np.asarray(drawn.dataobj)[:-1], drawn.affine), label)
    return tmp_path


def test_the_page_of_a_data_set(root, capsys):
    words = ["-d", "P", "--root", str(root), "--workers", "1", "--report"]
    assert main(words) == 3
    prepared = root / "prepared" / "P"
    assert f"written: {prepared / 'report' / 'report.html'}" in capsys.readouterr().out
    assert sorted(path.name for path in prepared.iterdir() if path.suffix == ".json") == ["check.json"]
    found = json.loads((prepared / "check.json").read_text())["findings"]
    page = (prepared / "report" / "report.html").read_text()
    assert any("shape" in finding["found"] for finding in found)
    for finding in found:
        assert finding["case"] in page and finding["expected"].split(",")[0] in page
    for name in ("findings", "dataset", "histograms", "thumbnails", "odd", "cases"):
        assert f'<section id="{name}">' in page
    assert page.count('src="data:image/jpeg') == 4 and '<i style="background: #b5493a"></i>liver' in page
    files = {path.name for path in (prepared / "report" / "files").iterdir()}
    assert {"findings.csv", "annotated.tex", "histograms.svg", "spacing.png", "training_cases.csv"} <= files
    assert ask(prepared / "report" / "report.html", "document.documentElement.scrollWidth") == "390"


def test_a_set_without_a_usable_case_still_has_a_page_of_findings(root):
    for image in (root / "raw" / "P" / "imagesTr").iterdir():
        image.write_bytes(b"no scan")
    out = root / "page"
    assert main(["-d", "P", "--root", str(root), "--workers", "1", "--report", str(out)]) == 4
    page = (out / "report.html").read_text()
    assert "5 cannot be used" in page and 'id="dataset"' not in page


def test_voxels_that_nobody_annotated_are_of_no_label():
    labels = np.full(GRID.shape, HIDDEN, dtype=np.uint8)
    labels[2, 0:10, 0:20] = 1
    content = Content(Volume(np.full(GRID.shape, 40, np.int16), GRID), Volume(labels, GRID), ())
    case = Case("a", image=None, label=None, annotated=frozenset({1, 2}))
    look = look_at(case, content, labels=LABELS, is_ct=True, thumbnails=frozenset({"a"}))
    assert {value: int(count.sum()) for value, count in look.counts.items()} == {1: 200}
