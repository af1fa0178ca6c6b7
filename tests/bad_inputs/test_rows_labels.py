"""Bad inputs, the rows about label maps, plans and whole runs; docs/bad-input.md has the table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flarenet.cli.plan import main
from flarenet.cli.train import main as train
from flarenet.data.store import Store
from flarenet.planning.plan_file import load_plan
from tests.bad_inputs.case_set import AFFINE, nifti_bytes


def row(number, name, *values):
    return pytest.param(*values, id=f"row{number:02}-{name}")


def assert_refused(rows, found, *, expected="", remedy="", annotated=(1, 2)):
    code, findings = rows.check(annotated=annotated)
    (finding,) = findings
    assert (code, finding.severity, finding.case) == (3, "refuse", "bad")
    assert finding.file == str(rows.label)
    assert found in finding.found and expected in finding.expected and remedy in finding.remedy
    assert rows.check(alone=True, annotated=annotated)[0] == 4


def assert_warned(rows, found, *, remedy="", annotated=(1, 2)):
    code, findings = rows.check(annotated=annotated)
    (finding,) = findings
    assert (code, finding.severity, finding.case, finding.file) == (0, "warn", "bad", str(rows.label))
    assert found in finding.found and remedy in finding.remedy


def moved(mm):
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


def flipped():
    """The same places of the corners, right and left exchanged: what a wrong sign in a header does."""
    affine = AFFINE.copy()
    affine[0, 0], affine[0, 3] = 2, 30 - 11 * 2
    return affine


def test_row45_another_shape(rows):
    rows.bad_label(rows.drawn[:, :, 1:])
    assert_refused(rows, "(19, 16, 12)", expected=f"(20, 16, 12), as {rows.image}", remedy="nearest neighbour")


def test_row46_beside_its_image(rows):
    rows.bad_label(affine=moved(0.05))
    assert rows.check() == (0, [])
    rows.bad_label(affine=moved(0.4))
    assert_refused(rows, "0.4 mm away", expected="at most 0.1 mm", remedy="which of the two headers")


def test_row47_flipped_header(rows):
    rows.bad_label(affine=flipped())
    assert_refused(rows, "22 mm away")  # the width of the image, 11 steps of 2 mm


@pytest.mark.parametrize("axis", [0, 1, 2], ids="row48-{}".format)
def test_row48_mirrored_voxels(rows, axis):
    rows.bad_label(np.flip(rows.drawn, axis))
    assert_warned(rows, f"mirrored {('left-right', 'front-back', 'head-feet')[axis]}", remedy="viewer")


def test_row49_outside_the_table(rows):
    rows.drawn[0, 0, :3], rows.drawn[1, 0, 0] = 9, 7
    rows.bad_label()
    assert_refused(rows, "7 (1 voxel), 9 (3 voxels)", expected="0 to 2")


@pytest.mark.parametrize(
    ("value", "dtype", "found", "remedy"),
    [
        row(50, "half", 0.5, np.float32, "0.5 (2 voxels)", "interpolated"),
        row(50, "nearly", 1.0001, np.float32, "1.0001 (2 voxels)", "interpolated"),
        row(50, "negative", -1, np.int16, "-1 (2 voxels)", ""),
        row(50, "257", 257, np.int16, "257 (2 voxels)", ""),
        row(50, "nan", np.nan, np.float32, "nan (2 voxels)", ""),
    ],
)
def test_row50_no_labels(rows, value, dtype, found, remedy):
    drawn = rows.drawn.astype(dtype)
    drawn[0, 0, :2] = value
    rows.bad_label(drawn)
    assert_refused(rows, found, remedy=remedy)


def test_row51_scaled(rows):
    rows.bad_label((rows.drawn == 2).astype(np.uint8), scl_slope=2)
    assert_warned(rows, "scl_slope 2, scl_inter 0 on labels")
    rows.bad_label((rows.drawn == 2).astype(np.uint8), scl_slope=1.5)
    assert_refused(rows, "1.5 (")


def test_row52_empty(rows):
    """Stated as looked for, the labels are absent; where nothing is stated, that is a question."""
    rows.bad_label(np.zeros_like(rows.drawn))
    assert rows.check(annotated=(1, 2)) == (0, [])
    assert_warned(rows, "an empty label map", remedy="'annotated'", annotated=None)


def test_row53_all_foreground(rows):
    rows.bad_label(np.ones_like(rows.drawn))
    assert_warned(rows, "every voxel labelled")


def test_row54_not_annotated(rows):
    rows.bad_label()
    assert_refused(rows, "2 spleen (48 voxels)", expected="1 liver", remedy="'annotated'", annotated=(1,))  # 2 x 4 x 6


def test_row55_the_same_bytes_twice(rows):
    """Under two names in training: a doubt. In training and test: refused. Names: test_rows_dataset.py."""
    rows.good("other")
    rows.bad_image()
    image = rows.folder / "imagesTr/other_0000.nii.gz"
    image.write_bytes((rows.folder / "imagesTr/good_0000.nii.gz").read_bytes())
    code, (finding,) = rows.check()
    assert (code, finding.severity, finding.case) == (0, "warn", "other")
    assert finding.found == "the same bytes as the image of case good"
    rows.test = {"other": rows.table.pop("other")}
    code, (finding,) = rows.check()
    assert (code, finding.severity, finding.case) == (3, "refuse", "other")
    assert finding.expected == "a test case that is not trained on"


def spoil(rows, name, kind):
    """Row 27, 49 or 32 for the case `name`."""
    image, label = rows.folder / f"imagesTr/{name}_0000.nii.gz", rows.folder / f"labelsTr/{name}.nii.gz"
    if kind == 27:
        image.write_bytes(image.read_bytes()[:-100])
    elif kind == 49:
        rows.write(label, nifti_bytes(np.where(rows.drawn == 2, 9, rows.drawn).astype(np.uint8)))
    else:
        rows.write(image, nifti_bytes(rows.scan, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]))


@pytest.fixture
def thirteen(rows):
    rows.table.clear()
    for number in range(13):
        rows.good(f"case{number:02}")
    for name, kind in (("case03", 27), ("case06", 49), ("case09", 32)):
        spoil(rows, name, kind)
    rows.write(rows.folder / "imagesTr/case00_0000.nii.gz", nifti_bytes(rows.scan, xyzt_units=0))
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "spleen": 2},
        "numTraining": 13,
        "file_ending": ".nii.gz",
        "dataset": rows.table,
    }
    (rows.folder / "dataset.json").write_text(json.dumps(content))
    return rows


def test_row64_ten_of_thirteen(thirteen, capsys):
    """And row 63: the plan of another version is refused, by name."""
    command = ["-d", "Rows", "--root", str(thirteen.root), "--workers", "1"]
    assert main([*command, "--check"]) == 3
    prepared = thirteen.root / "prepared" / "Rows"
    assert [path.name for path in prepared.iterdir()] == ["check.json"]  # nothing else is written
    report = json.loads((prepared / "check.json").read_text())
    assert report["cases"] == 13
    assert [finding["case"] for finding in report["findings"]] == ["case00", "case03", "case06", "case09"]
    capsys.readouterr()
    assert main(command) == 3
    printed = capsys.readouterr()
    assert "case00: no unit of length; expected mm" in " ".join(printed.out.split())
    said = printed.err
    assert all(name in said for name in ("case03", "case06", "case09", "3 of 13 cases failed"))
    for configuration in load_plan(prepared / "plan.json").configurations:
        assert len(list(Store(prepared / configuration).names())) == 10
    plan = prepared / "plan.json"
    plan.write_text(plan.read_text().replace('"version": 1', '"version": 99', 1))
    assert train(["DualDecoder2D", "-d", "Rows", "--root", str(thirteen.root)]) == 4
    assert "key 'version'" in capsys.readouterr().err
