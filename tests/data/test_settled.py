"""The settled data set: what planning writes is what training reads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from flarenet.data.dataset import Case
from flarenet.data.dataset_file import read_dataset
from flarenet.data.reading import Reading
from flarenet.data.settled import load_settled, read_with_inferred, save_settled, with_inferred
from flarenet.errors import DatasetError, UnsafeError


def test_what_is_saved_is_loaded(small_set, tmp_path):
    dataset = read_dataset(small_set)
    other = Case(
        name="other",
        image=tmp_path / "elsewhere" / "x.nii.gz",
        label=tmp_path / "elsewhere" / "y.nii.gz",
        annotated=frozenset({2, 3}),
        declared=False,
        values={6: 1, 7: 0},
        reading=Reading(affine="sform", volume=2, allow_external=True),
    )
    dataset = replace(dataset, cases=(*dataset.cases, other), test=(replace(other, name="held"),), ignore=9)
    path = tmp_path / "prepared" / "Small" / "dataset.json"
    save_settled(dataset, path)
    assert load_settled(path) == dataset
    stored = json.loads(path.read_text())
    assert stored["folder"] == "../../Small"
    assert [case["image"] for case in stored["cases"]] == [
        *(f"imagesTr/{name}_0000.nii.gz" for name in ("full", "part", "bare")),
        (tmp_path / "elsewhere" / "x.nii.gz").as_posix(),
    ]


def test_a_moved_root_takes_its_data_along(small_set, tmp_path):
    root = tmp_path / "root"
    (root / "raw").mkdir(parents=True)
    shutil.move(small_set, root / "raw" / "Small")
    save_settled(read_dataset(root / "raw" / "Small"), root / "prepared" / "Small" / "dataset.json")
    root.rename(tmp_path / "moved")
    dataset = load_settled(tmp_path / "moved" / "prepared" / "Small" / "dataset.json")
    assert dataset.cases[0].image == tmp_path / "moved" / "raw" / "Small" / "imagesTr" / "full_0000.nii.gz"


def test_what_planning_inferred_counts_where_nobody_said_what_was_looked_for(small_set, tmp_path, edit_json):
    path = tmp_path / "prepared" / "Small" / "dataset.json"
    dataset = read_dataset(small_set)
    assert with_inferred(dataset, path) == dataset  # never planned
    full, *others = dataset.cases
    inferred = replace(full, annotated=frozenset({1, 3}))
    save_settled(replace(dataset, cases=(inferred, *others)), path)
    held = replace(full, name="held")
    found = with_inferred(replace(dataset, test=(held,)), path)
    assert found.cases == (replace(inferred, declared=True), *others)
    assert found.test == (held,)  # of test cases nothing is inferred
    save_settled(replace(dataset, cases=(replace(inferred, declared=True), *others)), path)
    assert with_inferred(dataset, path) == dataset  # stated then, and no longer
    save_settled(replace(dataset, cases=(inferred, *others)), path)
    edit_json(path.parent, lambda content: content["labels"].update(names=["background", "liver", "tumor", "spleen"]))
    assert with_inferred(dataset, path) == dataset  # planned by another table


def test_scoring_reads_what_was_looked_for_wherever_the_files_lie(small_set, tmp_path, edit_json):
    path = tmp_path / "prepared" / "Small" / "dataset.json"
    full, *others = read_dataset(small_set).cases
    save_settled(replace(read_dataset(small_set), cases=(replace(full, annotated=frozenset({1, 3})), *others)), path)
    edit_json(small_set, lambda content: content["dataset"]["part"].update(images=["../elsewhere/part_0000.nii.gz"]))
    with pytest.raises(UnsafeError):
        read_dataset(small_set)
    found = read_with_inferred(small_set, path, Reading(affine="sform"))
    assert [case.annotated for case in found.cases] == [{1, 3}, {1}, set()]
    assert {case.reading.affine for case in found.cases} == {"sform"}


def test_a_set_that_was_never_settled_says_what_to_type(tmp_path):
    with pytest.raises(DatasetError) as caught:
        load_settled(tmp_path / "prepared" / "Small" / "dataset.json")
    assert caught.value.remedy == f"flarenet_plan -d Small --root {tmp_path}"


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [("version", 2, DatasetError), ("colour", 1, DatasetError), ("name", "../x", UnsafeError)],
)
def test_what_is_not_settled_is_refused(small_set, tmp_path, edit_json, key, value, error):
    save_settled(read_dataset(small_set), tmp_path / "dataset.json")
    edit_json(tmp_path, lambda d: (d["cases"][0] if key == "name" else d).update({key: value}))
    with pytest.raises(error):
        load_settled(tmp_path / "dataset.json")
