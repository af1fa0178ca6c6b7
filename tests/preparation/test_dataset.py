"""Preparing a data set: one read for all configurations, only what is stale is redone."""

import os
from dataclasses import replace

import nibabel
import numpy as np
import pytest

import flarenet.preparation.dataset as preparing
from flarenet.data.dataset_file import read_dataset
from flarenet.data.labels import HIDDEN, split
from flarenet.data.nifti import read_image, read_labels
from flarenet.data.reading import Reading
from flarenet.data.store import Store
from flarenet.phantom import write_phantom_set
from flarenet.planning.measuring.fingerprint import fingerprint
from flarenet.planning.plan import Configuration, Plan
from flarenet.preparation.prepare import prepare_image, prepare_map
from flarenet.workspace import Workspace


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root") / "raw" / "P"
    write_phantom_set(folder, cases=4, test_cases=0, seed=0, detail=0.4)
    return folder


@pytest.fixture
def workspace(raw, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "P").symlink_to(raw)
    return Workspace(tmp_path, "P")


@pytest.fixture
def reads(monkeypatch):
    """The images that were read."""
    seen = []

    def counted(path, *reading):
        seen.append(path)
        return read_image(path, *reading)

    monkeypatch.setattr(preparing, "read_image", counted)
    return seen


def plan_of(dataset, **changes):
    def numbers(spacing, patch):
        base = {"spacing_mm": spacing, "inference_spacing_mm": spacing, "patch": patch, "clip_hu": (-160.0, 240.0)}
        return Configuration(**{**base, **changes})

    return Plan(
        recipe="auto",
        dataset=dataset.name,
        labels=dataset.labels,
        fingerprint_hash="",
        configurations={"3d": numbers((6.0, 8.0, 8.0), (16, 16, 16)), "2d": numbers((None, 6.0, 6.0), (32, 32))},
        trainers={},
    )


def written(workspace):
    return {path.parent: path.stat().st_ino for path in workspace.prepared.glob("*/*/record.json")}


def test_each_case_is_read_once_and_never_again(workspace, reads):
    dataset = read_dataset(workspace.raw)
    assert preparing.prepare_dataset(dataset, plan_of(dataset), workspace) == []
    assert reads == [case.image for case in dataset.cases]
    before = written(workspace)
    assert len(before) == 8
    assert preparing.prepare_dataset(dataset, plan_of(dataset), workspace) == []
    assert len(reads) == 4 and written(workspace) == before


def test_files_that_planning_measured_are_not_opened_again(workspace, monkeypatch):
    dataset = read_dataset(workspace.raw)
    fingerprint(dataset, cached=workspace.measured)
    preparing.prepare_dataset(dataset, plan_of(dataset), workspace)
    half = workspace.measured / ".0123456789ab.tmp.a.json"  # of a planning that was killed
    half.write_text("{")
    before, opened = written(workspace), []
    monkeypatch.setattr(preparing, "map_cases", lambda work, items, **_: (opened.extend(items), ()))
    assert preparing.prepare_dataset(dataset, plan_of(dataset), workspace) == []
    assert opened == [] and written(workspace) == before and not half.exists()

    touched = dataset.cases[1]
    os.utime(touched.image, ns=(1, 1))
    preparing.prepare_dataset(dataset, plan_of(dataset), workspace)
    assert [item.name for item in opened] == [touched.name]


def test_a_case_that_lost_its_label_file_after_it_was_measured_is_not_opened_again(workspace, monkeypatch):
    """As settle leaves a case with an empty label map, in which nothing was looked for."""
    measured = read_dataset(workspace.raw)
    fingerprint(measured, cached=workspace.measured)
    first = next(case for case in measured.cases if case.label is not None)
    bare = replace(first, label=None, annotated=frozenset())
    settled = replace(measured, cases=tuple(bare if case is first else case for case in measured.cases))
    assert preparing.prepare_dataset(settled, plan_of(settled), workspace) == []
    opened = []
    monkeypatch.setattr(preparing, "map_cases", lambda work, items, **_: (opened.extend(items), ()))
    assert preparing.prepare_dataset(settled, plan_of(settled), workspace) == []
    assert opened == []
    os.utime(first.image, ns=(2, 2))
    preparing.prepare_dataset(settled, plan_of(settled), workspace)
    assert [item.name for item in opened] == [first.name]


def test_what_is_stored_is_what_the_parts_give(workspace):
    dataset = read_dataset(workspace.raw)
    plan = plan_of(dataset)
    preparing.prepare_dataset(dataset, plan, workspace)
    for name, numbers in plan.configurations.items():
        for case in dataset.cases:
            stored = Store(workspace.store(name)).read(case.name)
            prepared = prepare_image(read_image(case.image), numbers)
            np.testing.assert_array_equal(stored.image, prepared.image)
            assert stored.record.grid.is_near(prepared.frame.grid, 0)
            if case.label is None:
                assert stored.maps == {}
                continue
            drawn = read_labels(case.label, dataset.labels).data
            maps = split(drawn, dataset.labels, case.annotated)  # split before or after: the same
            assert list(stored.maps) == list(maps)
            for group, array in maps.items():
                np.testing.assert_array_equal(stored.maps[group], prepare_map(array, prepared.frame))


def test_only_what_changed_is_redone(workspace, reads):
    dataset = read_dataset(workspace.raw)
    plan = plan_of(dataset)
    preparing.prepare_dataset(dataset, plan, workspace)
    before = written(workspace)
    cubic = plan.configurations["2d"].model_copy(update={"interpolation": "cubic", "overlap": 0.5})
    changed = plan.model_copy(update={"configurations": {**plan.configurations, "2d": cubic}})
    (workspace.store("3d") / dataset.cases[1].name / "image.b2nd").unlink()
    assert preparing.prepare_dataset(dataset, changed, workspace) == []
    redone = {folder for folder, inode in written(workspace).items() if before[folder] != inode}
    wanted = {workspace.store("2d") / case.name for case in dataset.cases}
    assert redone == wanted | {workspace.store("3d") / dataset.cases[1].name}
    assert len(reads) == 8


def with_other_voxel(source, target):
    """A copy of an image whose first voxel is one more."""
    image = nibabel.load(source)
    data = np.asanyarray(image.dataobj).copy()
    data[0, 0, 0] += 1
    nibabel.save(nibabel.Nifti1Image(data, image.affine, image.header), target)
    return target


def test_a_case_that_is_or_is_read_otherwise_is_redone_alone(workspace, tmp_path):
    dataset = read_dataset(workspace.raw)
    first = next(case for case in dataset.cases if len(case.annotated) > 1)
    others = [case for case in dataset.cases if case is not first]
    preparing.prepare_dataset(dataset, plan_of(dataset), workspace)
    for change in (
        {"image": with_other_voxel(first.image, tmp_path / "image.nii.gz")},
        {"label": with_other_voxel(first.label, tmp_path / "label.nii.gz")},
        {"annotated": first.annotated - {max(first.annotated)}},
        {"values": {value: value for value in range(1, len(dataset.labels.names))}},
        {"reading": Reading(affine="sform")},
    ):
        before, first = written(workspace), replace(first, **change)  # one thing more each time
        changed = replace(dataset, cases=(first, *others))
        assert preparing.prepare_dataset(changed, plan_of(dataset), workspace) == []
        redone = {folder for folder, inode in written(workspace).items() if before[folder] != inode}
        assert redone == {workspace.store(name) / first.name for name in ("2d", "3d")}, change


def test_a_flipped_bit_is_found_where_every_byte_is_read(workspace, reads):
    dataset = read_dataset(workspace.raw)
    fingerprint(dataset, cached=workspace.measured)
    preparing.prepare_dataset(dataset, plan_of(dataset), workspace)
    before, damaged = written(workspace), workspace.store("3d") / dataset.cases[2].name
    image, whole = damaged / "image.b2nd", (damaged / "image.b2nd").read_bytes()
    middle = len(whole) // 2
    image.write_bytes(whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
    assert preparing.prepare_dataset(dataset, plan_of(dataset), workspace) == [] and len(reads) == 4
    assert preparing.prepare_dataset(dataset, plan_of(dataset), workspace, verify=True) == []
    assert reads[4:] == [dataset.cases[2].image] and image.read_bytes() == whole
    assert {folder for folder, inode in written(workspace).items() if before[folder] != inode} == {damaged}


def test_a_preparation_that_changed_makes_every_case_stale(workspace, reads, monkeypatch):
    dataset = read_dataset(workspace.raw)
    preparing.prepare_dataset(dataset, plan_of(dataset), workspace)
    monkeypatch.setattr(preparing, "PREPARATION_VERSION", preparing.PREPARATION_VERSION + 1)
    preparing.prepare_dataset(dataset, plan_of(dataset), workspace)
    assert len(reads) == 8


def test_a_broken_case_is_named_and_the_others_are_done(workspace, raw, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    dataset = read_dataset(workspace.raw)
    first, *others = dataset.cases
    broken.write_bytes(first.image.read_bytes()[:-100])
    mixed = replace(dataset, cases=(replace(first, image=broken), *others))
    [(name, error)] = preparing.prepare_dataset(mixed, plan_of(dataset), workspace)
    assert name == first.name and "broken.nii.gz" in str(error)
    assert len(written(workspace)) == 6
    assert not list(workspace.prepared.rglob(".*"))


def test_what_nobody_annotated_is_hidden_in_every_map_and_has_no_places(workspace, tmp_path):
    dataset = read_dataset(workspace.raw)
    case = next(case for case in dataset.cases if case.label is not None)
    drawn = nibabel.load(case.label)
    array = np.asanyarray(drawn.dataobj).copy()
    array[: array.shape[0] // 2] = 99
    label = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, drawn.affine, drawn.header), label)
    values = {value: value for value in dataset.labels.values} | {99: HIDDEN}
    plan, partly = plan_of(dataset), replace(case, label=label, values=values)
    assert preparing.prepare_dataset(replace(dataset, cases=(case,)), plan, workspace) == []
    whole = Store(workspace.store("3d")).read(case.name)
    whole_maps = {group: np.asarray(found) for group, found in whole.maps.items()}
    assert preparing.prepare_dataset(replace(dataset, cases=(partly,)), plan, workspace) == []
    stored = Store(workspace.store("3d")).read(case.name)
    ignored = prepare_map((array == 99).T, prepare_image(read_image(case.image), plan.configurations["3d"]).frame)
    assert ignored.any() and not ignored.all()
    for group, found in stored.maps.items():
        np.testing.assert_array_equal(np.asarray(found), np.where(ignored, HIDDEN, whole_maps[group]))
        assert not ignored.ravel()[np.asarray(stored.places[group])[:, 1]].any()
