"""Stored cases: what goes in comes out, whole or not at all, and damage is named."""

from __future__ import annotations

import json
import os
from random import Random

import numpy as np
import pytest

from flarenet.data.store import Store
from flarenet.errors import DatasetError, NoRoom, RunError, StorageError, UnsafeError
from flarenet.schema import digest
from flarenet.volume import Grid
from tests.full_disk import longest_file
from tests.unreadable import make_unreadable, refuse_to_open

SHAPE = (4, 5, 6)
GRID = Grid(SHAPE, np.diag([5.0, 1.5, 1.5, 1.0]))
ORIGINAL = Grid((8, 9, 10), np.array([[0, 0, 0.7, 1], [0, 0.7, 0, 2], [2.5, 0, 0, 3], [0, 0, 0, 1]]))
IMAGE = np.arange(120, dtype=np.int16).reshape(SHAPE) - 60
MAPS = {"organ": (IMAGE > 0).astype(np.uint8), "cancer": np.where(IMAGE > 50, 255, 0).astype(np.uint8)}


def put(store, name="a", key="k", image=IMAGE, maps=MAPS):
    return store.write(name, annotated={3, 1}, key=key, grid=GRID, original=ORIGINAL, image=image, maps=maps)


def test_what_goes_in_comes_out(tmp_path):
    store = Store(tmp_path / "3d")
    assert store.names() == []
    put(store)
    case = store.read("a")
    np.testing.assert_array_equal(case.image, IMAGE)
    assert list(case.maps) == ["organ", "cancer"]
    for group, array in MAPS.items():
        np.testing.assert_array_equal(case.maps[group], array)
    assert (case.record.name, case.record.annotated, case.record.key) == ("a", (1, 3), "k")
    assert case.record.grid.is_near(GRID, 0)
    assert case.record.original.is_near(ORIGINAL, 0)
    store.verify("a")


def test_maps_without_an_image(tmp_path):
    store = Store(tmp_path)
    put(store, image=None)
    assert store.read("a").image is None
    np.testing.assert_array_equal(store.read("a").maps["cancer"], MAPS["cancer"])


def test_maps_that_nothing_is_drawn_from_have_no_places(tmp_path):
    store = Store(tmp_path)
    written = store.write("a", annotated=(), key="k", grid=GRID, original=GRID, image=None, maps=MAPS, placed=False)
    assert set(written.files) == {"map_organ.b2nd", "map_cancer.b2nd"} and written.voxels == {}
    assert store.read("a").places == {}
    np.testing.assert_array_equal(store.read("a").maps["cancer"], MAPS["cancer"])
    store.verify("a")


def test_an_image_without_maps(tmp_path):
    store = Store(tmp_path)
    put(store, maps={})
    assert store.read("a").maps == {}


@pytest.mark.parametrize("step", [1, -1])
def test_a_turned_view_is_stored_as_it_looks(tmp_path, step):
    store = Store(tmp_path)
    turned = np.arange(120, dtype=np.int16).reshape(6, 5, 4).transpose(2, 1, 0)[::step]
    put(store, image=turned)
    np.testing.assert_array_equal(store.read("a").image, turned)
    np.testing.assert_array_equal(store.read("a").image[1, 2:4], turned[1, 2:4])


def test_current_means_the_same_key_and_whole_files(tmp_path):
    store = Store(tmp_path)
    assert not store.is_current("a", "k")
    put(store)
    assert store.is_current("a", "k")
    assert not store.is_current("a", "other")
    (tmp_path / "a" / "map_organ.b2nd").unlink()
    assert not store.is_current("a", "k")


def test_writing_again_replaces_the_case(tmp_path):
    store = Store(tmp_path)
    put(store)
    for leftover in (".0123.tmp.a", ".0123.old.a"):  # what a killed process leaves
        (tmp_path / leftover).mkdir()
    put(store, key="new", image=IMAGE + np.int16(1), maps={})
    case = store.read("a")
    assert case.record.key == "new" and case.image[0, 0, 0] == -59 and case.maps == {}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert store.names() == ["a"]


def test_the_same_case_gives_the_same_bytes(tmp_path):
    for root in ("one", "two"):
        put(Store(tmp_path / root))
    files = [{p.name: p.read_bytes() for p in (tmp_path / root / "a").iterdir()} for root in ("one", "two")]
    assert files[0] == files[1]
    assert sorted(files[0]) == [
        *("image.b2nd", "map_cancer.b2nd", "map_organ.b2nd"),
        *("places_cancer.npy", "places_organ.npy", "record.json"),
    ]


def test_names_are_sorted_and_half_written_folders_do_not_count(tmp_path):
    store = Store(tmp_path)
    for name in ("b", "a", "c[1]"):
        put(store, name)
    (tmp_path / "half").mkdir()
    (tmp_path / ".abc.tmp.d").mkdir()
    assert store.names() == ["a", "b", "c[1]"]


@pytest.mark.parametrize("size", [0, 50, 200, -1])
def test_a_truncated_array_is_named(tmp_path, size):
    store = Store(tmp_path)
    put(store)
    path = tmp_path / "a" / "image.b2nd"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DatasetError, match="image.b2nd"):
        store.read("a")


def test_bytes_too_many_are_named(tmp_path):
    store = Store(tmp_path)
    put(store)
    path = tmp_path / "a" / "image.b2nd"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DatasetError, match="image.b2nd"):
        store.read("a")


def test_verify_finds_one_changed_bit(tmp_path):
    store, random = Store(tmp_path), Random(0)
    put(store)
    files = sorted((tmp_path / "a").iterdir())
    for path in files * 8:
        content = bytearray(path.read_bytes())
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        whole = path.read_bytes()
        path.write_bytes(content)
        assert store.is_current("a", "k") == (path.name != "record.json")  # which is checked whenever it is read
        assert not store.is_current("a", "k", verify=True)
        with pytest.raises(DatasetError, match=path.name) as caught:
            store.verify("a")
        assert "prepare the case again" in caught.value.remedy
        path.write_bytes(whole)
    assert store.is_current("a", "k", verify=True)


@pytest.mark.parametrize(
    ("written", "flipped"),
    [
        ('"annotated": [1, 3]', '"annotated": [1, 2]'),
        ('"key": "k"', '"key": "o"'),
        ('"shape": [4, 5, 6]', '"shape": [4, 5, 7]'),
        ("[0.0, 0.7, 0.0, 2.0]", "[0.0, 0.7, 0.0, 3.0]"),
        ('"organ": {"1": 59}', '"organ": {"3": 59}'),
        ('"map_organ.b2nd"', '"map_orgaN.b2nd"'),
    ],
)
def test_one_bit_of_the_record_that_leaves_it_well_formed_is_found(tmp_path, written, flipped):
    store = Store(tmp_path)
    put(store)
    path = tmp_path / "a" / "record.json"
    text = path.read_text()
    assert text.count(written) == 1
    path.write_text(text.replace(written, flipped))
    for look in (store.record, store.read, store.verify):
        with pytest.raises(DatasetError, match="record.json\n.*other content") as caught:
            look("a")
        assert "prepare the case again" in caught.value.remedy
    assert not store.is_current("a", "k")


def test_a_record_that_cannot_be_read_is_not_taken_for_a_damaged_one(tmp_path):
    store = Store(tmp_path)
    put(store)
    make_unreadable(tmp_path / "a" / "record.json")
    for look in (store.record, store.read, store.verify, lambda name: store.is_current(name, "k")):
        with pytest.raises(StorageError, match="record.json\n  found: Input/output error") as caught:
            look("a")
        assert "same command again" in caught.value.remedy and caught.value.exit_code == 5


def test_an_array_that_cannot_be_read_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    store = Store(tmp_path)
    put(store)
    case = store.read("a")
    for array in (case.maps["organ"], case.places["organ"]):
        refuse_to_open(monkeypatch, array.path)
        with pytest.raises(StorageError, match=rf"{array.path.name}\n  found: Input/output error"):
            np.asarray(array)
        with pytest.raises(StorageError, match=rf"{array.path.name}\n  found: Input/output error"):
            store.is_current("a", "k", verify=True)
        monkeypatch.undo()


def test_a_record_without_a_digest_of_itself_is_stale(tmp_path):
    """As it was written once."""
    store = Store(tmp_path)
    put(store)
    path = tmp_path / "a" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text())["record"]))
    assert store.names() == ["a"] and not store.is_current("a", "k")
    with pytest.raises(DatasetError, match="key 'record'") as caught:
        store.read("a")
    assert "prepare the case again" in caught.value.remedy
    put(store)
    assert store.is_current("a", "k", verify=True)


def test_other_bytes_of_the_same_size_are_named_when_read(tmp_path):
    store = Store(tmp_path)
    put(store)
    for file in ("image.b2nd", "places_organ.npy"):
        path = tmp_path / "a" / file
        path.write_bytes(bytes(path.stat().st_size))
    case = store.read("a")
    with pytest.raises(DatasetError, match="places_organ.npy"):
        np.asarray(case.places["organ"])
    put(store)
    case = store.read("a")
    case.image.path.write_bytes(case.maps["organ"].path.read_bytes())
    os.utime(case.image.path, ns=(0, case.image.mtime_ns))  # as where a disk has lost what it held
    with pytest.raises(DatasetError, match=r"image.b2nd.*\n?.*uint8"):
        case.image[0]


def test_what_was_opened_is_not_read_from_a_case_that_took_its_place(tmp_path):
    store = Store(tmp_path)
    put(store)
    for path in (tmp_path / "a").iterdir():
        os.utime(path, ns=(0, 0))  # two cases may be written within one tick of the clock
    case = store.read("a")
    np.testing.assert_array_equal(case.image, IMAGE)
    put(store, image=IMAGE + np.int16(1))
    arrays = (case.image, case.maps["organ"], case.places["organ"])
    for array, file in zip(arrays, ("image.b2nd", "map_organ.b2nd", "places_organ.npy")):
        with pytest.raises(RunError, match=rf"{file}\n.*prepared again"):
            np.asarray(array)
    np.testing.assert_array_equal(store.read("a").image, IMAGE + 1)


def test_a_record_that_names_files_elsewhere_reads_nothing(tmp_path):
    store = Store(tmp_path)
    put(store)
    path = tmp_path / "a" / "record.json"
    content = json.loads(path.read_text())
    content["record"]["files"]["../../elsewhere.b2nd"] = {"size_bytes": 1, "sha256": "0" * 64}
    content["sha256"] = digest(content["record"])
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="record.json: key 'record.files"):
        store.read("a")


def test_a_missing_case_and_a_damaged_record_are_named(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(DatasetError, match="prepared case a"):
        store.read("a")
    put(store)
    (tmp_path / "a" / "record.json").write_text('{"record": {"name": "a"}}')
    with pytest.raises(DatasetError, match="key 'record.annotated'"):
        store.read("a")


@pytest.mark.parametrize("name", ["../a", "/a", "", ".a"])
def test_a_name_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(UnsafeError):
        put(Store(tmp_path / "s"), name)
    with pytest.raises(UnsafeError):
        Store(tmp_path / "s").read(name)


def test_wrong_arrays_and_a_folder_that_is_a_file_leave_nothing(tmp_path):
    store = Store(tmp_path / "s")
    with pytest.raises(ValueError, match="float32"):
        put(store, image=IMAGE.astype(np.float32))
    with pytest.raises(ValueError, match="organ"):
        put(store, maps={"organ": np.zeros((1, 1, 1), np.uint8)})
    assert not (tmp_path / "s").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(NoRoom):
        put(Store(tmp_path / "file"))


@pytest.mark.parametrize("size", [0, 100])
def test_a_full_disk_is_told_with_numbers_and_the_case_before_stays(tmp_path, size):
    store = Store(tmp_path)
    put(store)
    image_bytes = (tmp_path / "a" / "image.b2nd").stat().st_size
    with pytest.raises(NoRoom) as caught, longest_file(size):
        put(store, key="new")
    assert caught.value.exit_code == 5 and "bytes free" in caught.value.found
    assert f"room for {image_bytes} bytes" in caught.value.expected
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and store.is_current("a", "k", verify=True)
