"""Volumes, HU and lesions of a scan that comes slice by slice, checked by hand."""

import csv
import json

import numpy as np
import pytest

from flarenet.data.labels import LabelSet
from flarenet.errors import DatasetError
from flarenet.inference.outputs.slices import FinishedSlice
from flarenet.inference.outputs.statistics import CaseStatistics, Statistics, read_statistics, write_tables
from flarenet.schema import LARGEST_JSON_BYTES, load
from flarenet.volume import Grid
from flarenet.whole import together
from tests.inference.opened import opened

LABELS = LabelSet(names=("background", "liver", "spleen", "tumor"), groups={"organ": (1, 2), "cancer": (3,)})
GRID = Grid((4, 5, 6), np.diag([5.0, 2.0, 1.0, 1.0])[[2, 1, 0, 3]])  # a voxel of 10 mm3


def drawn():
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[:2] = 1  # 60 voxels, of which the tumors take 5
    labels[0, 0, 0] = labels[1, 1, 1] = 3  # one lesion, by their corners
    labels[0, 4, 3:6] = 3
    return labels


def fed(opener, out, labels, image, *, grid=GRID, descending=False):
    sink = opener(out / "a.nii.gz", opened("a_0000.nii.gz", grid))
    for z in range(len(labels))[:: -1 if descending else 1]:
        sink.take(FinishedSlice(z, labels[z], image=image[z]))
    sink.finish()
    return sink


@pytest.mark.parametrize("descending", [False, True])
def test_a_case_by_hand(tmp_path, descending):
    labels = drawn()
    image = np.where(labels == 3, 40, 100).astype(np.float32)
    image[0, 2] = 112  # six voxels of the liver's 55
    fed(Statistics(LABELS, LABELS.values), tmp_path, labels, image, descending=descending)
    said = load(CaseStatistics, tmp_path / "statistics" / "a.json", DatasetError)
    assert said.case == "a" and said.spacing_mm == (5, 2, 1)
    liver, spleen, tumor = (said.labels[name] for name in LABELS.names[1:])
    assert (liver.voxels, liver.lesions) == (55, None)
    assert liver.volume_ml == pytest.approx(0.55)
    hu = image[labels == 1].astype(float)
    assert liver.mean_hu == pytest.approx(100 + 6 * 12 / 55) and liver.sd_hu == pytest.approx(hu.std())
    assert (spleen.voxels, spleen.volume_ml, spleen.mean_hu, spleen.sd_hu) == (0, 0, None, None)
    assert (tumor.voxels, tumor.lesions, tumor.mean_hu, tumor.sd_hu) == (5, 2, 40, 0)
    assert tumor.lesions_ml == pytest.approx((0.03, 0.02))


def test_the_tables_of_several_cases(tmp_path):
    opener = Statistics(LABELS, [1, 3])
    first = fed(opener, tmp_path, drawn(), np.zeros(GRID.shape, np.float32)).result()
    nothing = fed(opener, tmp_path, np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.float32)).result()
    write_tables(tmp_path, [first, nothing.model_copy(update={"case": "b"})])
    rows = list(csv.DictReader((tmp_path / "statistics.csv").read_text().splitlines()))
    assert [(row["case"], row["label"], row["lesions"], row["lesions_ml"]) for row in rows] == [
        ("a", "liver", "", ""),
        ("a", "tumor", "2", "0.03;0.02"),
        ("b", "liver", "", ""),
        ("b", "tumor", "0", ""),
    ]
    assert rows[2]["mean_hu"] == "" and float(rows[0]["volume_ml"]) == pytest.approx(0.55)
    cases = json.loads((tmp_path / "statistics.json").read_text())["cases"]
    assert [case["case"] for case in cases] == ["a", "b"]


def test_what_is_written_of_very_many_specks_is_read_for_the_tables(tmp_path):
    grid = Grid((20, 128, 256), np.diag([0.7, 0.7, 1.1, 1.0])[[2, 1, 0, 3]])
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[::2, ::2, ::2] = 3  # 10 * 64 * 128 of them, and none touches another
    fed(Statistics(LABELS, [3]), tmp_path, labels, np.zeros(grid.shape, np.float32), grid=grid)
    assert (tmp_path / "statistics" / "a.json").stat().st_size > LARGEST_JSON_BYTES
    tumor = read_statistics(tmp_path / "a.nii.gz").labels["tumor"]
    assert tumor.lesions == tumor.voxels == len(tumor.lesions_ml) == 81920


def test_a_scan_that_fails_leaves_the_earlier_answer(tmp_path):
    def predict(labels, *, fails):
        opener, image = Statistics(LABELS, LABELS.values), np.zeros(GRID.shape, np.float32)
        with together():
            fed(opener, tmp_path, labels, image)
            if fails:  # another output of the scan
                raise ValueError
        return (tmp_path / "statistics" / "a.json").read_bytes()

    with pytest.raises(ValueError):
        predict(drawn(), fails=True)
    assert list((tmp_path / "statistics").iterdir()) == []
    before = predict(drawn(), fails=False)
    with pytest.raises(ValueError):
        predict(drawn() * 0, fails=True)
    assert [path.read_bytes() for path in (tmp_path / "statistics").iterdir()] == [before]
