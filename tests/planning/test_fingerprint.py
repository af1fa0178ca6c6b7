import hashlib
import json
import os
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from flarenet.data.cases import Pool
from flarenet.data.dataset import Case, Dataset
from flarenet.data.labels import HIDDEN, LabelSet
from flarenet.errors import DatasetError
from flarenet.planning.measuring import survey
from flarenet.planning.measuring.fingerprint import Fingerprint, fingerprint, settle
from flarenet.planning.measuring.inferred import Inferred
from flarenet.planning.summary import remarks
from flarenet.schema import BYTES_OF_A_VALUE, as_saved, load, save

LABELS = LabelSet(names=("background", "liver", "spleen"), groups={"organ": (1, 2)})


def write(path, array_zyx, spacing_zyx, *, codes=("R", "A", "S")):
    """A NIfTI file that holds the canonical `array_zyx`, stored with the axes `codes`."""
    affine = np.diag([*spacing_zyx[::-1], 1.0])
    image = nibabel.Nifti1Image(array_zyx.transpose(2, 1, 0), affine)
    turned = nibabel.orientations.axcodes2ornt(codes)
    image = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), turned))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Case a: liver at 50 and 60 HU, no spleen. Case b: spleen at 100 and 110 HU, stored turned. Case c: no label."""
    a, b, c = (np.full(shape, -1000, dtype=np.int16) for shape in ((2, 3, 4), (3, 2, 4), (4, 4, 4)))
    liver, spleen = np.zeros(a.shape, dtype=np.uint8), np.zeros(b.shape, dtype=np.uint8)
    a[0, 1, 1:3], liver[0, 1, 1:3] = (50, 60), 1
    b[0, 0, 0], b[2, 1, 0], b[1, 1, 1] = 100, 110, 900
    spleen[0, 0, 0] = spleen[2, 1, 0] = 2
    c[1:3, 1, 1] = 30
    images, masks = tmp_path / "imagesTr", tmp_path / "labelsTr"
    cases = (
        Case("c", write(images / "c_0000.nii.gz", c, (1, 1, 1)), None, frozenset()),
        Case(
            "a",
            write(images / "a_0000.nii.gz", a, (5, 1.5, 1)),
            write(masks / "a.nii.gz", liver, (5, 1.5, 1)),
            frozenset({1, 2}),
        ),
        Case(
            "b",
            write(images / "b_0000.nii.gz", b, (3, 2, 0.5), codes=("P", "S", "L")),
            write(masks / "b.nii.gz", spleen, (3, 2, 0.5), codes=("P", "S", "L")),
            frozenset({2}),
        ),
    )
    return Dataset("tiny", tmp_path, LABELS, cases, ())


def test_every_number_of_three_small_cases(dataset):
    found, failures = fingerprint(dataset)
    assert failures == []
    a, b, c = found.cases
    assert (a.name, a.shape, a.spacing_mm, a.body_shape) == ("a", (2, 3, 4), (5, 1.5, 1), (1, 1, 2))
    assert (b.name, b.shape, b.spacing_mm, b.body_shape) == ("b", (3, 2, 4), (3, 2, 0.5), (3, 2, 2))
    assert (c.name, c.shape, c.spacing_mm, c.body_shape) == ("c", (4, 4, 4), (1, 1, 1), (2, 1, 1))
    assert (a.min_hu, a.max_hu, b.max_hu) == (-1000, 60, 900)
    assert (a.voxels, b.voxels, c.voxels) == ({1: 2, 2: 0}, {2: 2}, {})
    assert (a.histogram_of, b.histogram_of, c.histogram_of) == ("foreground", "foreground", "body")
    assert [(co.pattern, co.cases, co.floor_hu, co.ceiling_hu) for co in found.cohorts] == [
        ((1, 2), 1, -1000, 60),
        ((2,), 1, -1000, 900),
        ((), 1, -1000, 30),
    ]
    assert found.spacing_mm.median == (3, 1.5, 1) and found.shape.largest == (4, 4, 4)
    assert found.body_mm.median == (5, 1.5, 1)  # a 5 x 1.5 x 2, b 9 x 4 x 1, c 2 x 1 x 1
    assert found.absent == {"a": (2,)}


def test_foreground_statistics_are_those_of_the_drawn_voxels(dataset):
    found = fingerprint(dataset)[0].intensities  # 50, 60, 100, 110
    assert (found.source, found.voxels, found.mean_hu) == ("foreground", 4, 80)
    assert found.sd_hu == pytest.approx(25.4951, abs=1e-4)  # the root of (900 + 400 + 400 + 900) / 4
    assert (found.percentile_00_5_hu, found.median_hu, found.percentile_99_5_hu) == (50, 60, 110)


def test_a_fingerprint_has_room_for_thousands_of_cases_with_hundreds_of_labels(dataset):
    case = fingerprint(dataset)[0].cases[0]
    full = {value: case.labels[1].model_copy(update={"voxels": 100_000}) for value in range(1, 201)}
    text = as_saved(case.model_copy(update={"labels": full, "voxels": dict.fromkeys(full, 100_000)}))
    assert len(text) > 35_000
    assert 10_000 * len(text) < Fingerprint.largest_bytes
    assert 10_000 * sum(map(text.count, "[{,")) < Fingerprint.largest_bytes // BYTES_OF_A_VALUE


def test_without_any_label_the_inside_of_the_body_stands_in(dataset):
    only = Dataset("tiny", dataset.folder, LABELS, dataset.cases[:1], ())
    found = fingerprint(only)[0]
    assert (found.intensities.source, found.intensities.voxels, found.intensities.mean_hu) == ("body", 2, 30)
    assert found.never_annotated == (1, 2)


def test_the_number_of_workers_and_the_order_of_cases_change_nothing(dataset):
    turned = Dataset("tiny", dataset.folder, LABELS, dataset.cases[::-1], ())
    one, two = fingerprint(dataset)[0], fingerprint(turned, pool=Pool(2))[0]
    assert one == two and one.hash == two.hash


def measured_by(monkeypatch) -> list[str]:
    """The names of the cases that are read from now on."""
    names, real = [], survey.read_case
    monkeypatch.setattr(survey, "read_case", lambda case, *a, **k: names.append(case.name) or real(case, *a, **k))
    return names


def test_only_cases_whose_bytes_changed_are_read_again(dataset, tmp_path, monkeypatch):
    memory = tmp_path / "measured"
    first, read = fingerprint(dataset, cached=memory)[0], measured_by(monkeypatch)
    assert fingerprint(dataset, cached=memory)[0] == fingerprint(dataset, cached=memory, rehash=True)[0] == first
    for case in dataset.cases:  # another time and inode, the same bytes: a copied set
        copy = case.image.read_bytes()
        case.image.unlink()
        case.image.write_bytes(copy)
    assert fingerprint(dataset, cached=memory)[0] == first and read == []
    brighter = np.full((4, 4, 4), -1000, dtype=np.int16)
    brighter[1:3, 1, 1] = 31
    write(dataset.cases[0].image, brighter, (1, 1, 1))
    assert fingerprint(dataset, cached=memory)[0].cases[2].max_hu == 31
    assert read == ["c"]


def test_a_change_that_keeps_size_and_time_is_found_by_rehash(dataset, tmp_path, monkeypatch):
    image = dataset.cases[0].image
    plain = image.with_suffix("")  # uncompressed: one changed voxel leaves the size as it is
    nibabel.save(nibabel.load(image), plain)
    only = replace(dataset, cases=(replace(dataset.cases[0], image=plain),))
    first, read = fingerprint(only, cached=tmp_path / "m")[0], measured_by(monkeypatch)
    before = plain.stat()
    with open(plain, "r+b") as file:
        file.seek(-2, 2)
        file.write(b"\x64\x00")
    os.utime(plain, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fingerprint(only, cached=tmp_path / "m")[0] == first and read == []
    assert fingerprint(only, cached=tmp_path / "m", rehash=True)[0].cases[0].max_hu == 100 and read == ["c"]


def test_cases_that_are_added_are_the_only_ones_read(dataset, tmp_path, monkeypatch):
    fewer = replace(dataset, cases=dataset.cases[:2])
    fingerprint(fewer, cached=tmp_path / "m")
    read = measured_by(monkeypatch)
    assert fingerprint(dataset, cached=tmp_path / "m")[0] == fingerprint(dataset)[0]
    assert read == ["b", "c", "a", "b"]  # b into the memory, then everything without one


def test_what_an_older_version_measured_is_measured_again(dataset, tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr("flarenet.planning.measuring.cache.MEASURE_VERSION", 3)
        fingerprint(dataset, cached=tmp_path / "m")
    read = measured_by(monkeypatch)
    fingerprint(dataset, cached=tmp_path / "m")
    assert sorted(read) == ["a", "b", "c"]


def test_a_damaged_memory_counts_as_none(dataset, tmp_path):
    memory = tmp_path / "measured"
    first = fingerprint(dataset, cached=memory)[0]
    (memory / "a.json").write_text('{"version": 0}')
    (memory / "b.json").write_bytes((memory / "b.json").read_bytes()[:-9])
    assert fingerprint(dataset, cached=memory)[0] == first


def test_a_fingerprint_is_read_back_as_it_was_written(dataset, tmp_path):
    first = fingerprint(dataset)[0]
    save(first, tmp_path / "fingerprint.json")
    assert load(Fingerprint, tmp_path / "fingerprint.json", DatasetError) == first


def test_patterns_are_inferred_where_nobody_stated_them(dataset, tmp_path):
    told, memory = dataset.cases[1], tmp_path / "measured"  # a: liver and spleen, the spleen absent
    asked = {1, 2}
    undeclared = [replace(case, declared=False, annotated=frozenset(asked)) for case in dataset.cases[1:]]
    whole = replace(dataset, cases=(dataset.cases[0], *undeclared))
    found = fingerprint(whole, cached=memory)[0]
    assert {case.name: case.annotated for case in found.cases} == {"a": (1,), "b": (2,), "c": ()}
    assert {case.name: case.inferred for case in found.cases} == {"a": True, "b": True, "c": False}
    assert [(cohort.pattern, cohort.inferred) for cohort in found.cohorts] == [((1,), 1), ((2,), 1), ((), 0)]
    # a declaration wins, and needs no image to be read again
    again = fingerprint(replace(whole, cases=(dataset.cases[0], told, undeclared[1])), cached=memory)[0]
    assert again.cases[0].annotated == (1, 2) and not again.cases[0].inferred
    assert again.absent["a"] == (2,)


def test_nobody_looked_for_a_label_that_the_file_has_no_value_for(dataset, monkeypatch):
    """Whatever the inference says: a source whose table lacks the spleen was not searched for it."""
    case = replace(dataset.cases[1], declared=False, values={1: 1}, annotated=frozenset({1}))
    inferred = Inferred({"a": (1, 2)}, {})
    monkeypatch.setattr("flarenet.planning.measuring.fingerprint.infer_patterns", lambda *_, **__: inferred)
    found, _ = fingerprint(replace(dataset, cases=(case,)))
    assert found.cases[0].annotated == (1,)


def test_a_declaration_that_the_mask_contradicts_is_an_error_though_the_case_is_known(dataset, tmp_path):
    memory = tmp_path / "measured"
    fingerprint(dataset, cached=memory)
    wrong = replace(dataset.cases[1], annotated=frozenset({2}))
    found, failures = fingerprint(replace(dataset, cases=(dataset.cases[0], wrong)), cached=memory)
    assert [case.name for case in found.cases] == ["c"]
    assert [name for name, _ in failures] == ["a"] and "liver (2 voxels)" in str(failures[0][1])


def test_an_empty_map_is_remarked_on_until_it_is_stated_what_was_looked_for(dataset, tmp_path):
    empty = write(dataset.folder / "labelsTr" / "e.nii.gz", np.zeros((4, 4, 4), dtype=np.uint8), (1, 1, 1))
    blank = replace(dataset.cases[0], name="e", label=empty, annotated=frozenset({1, 2}))
    for declared in (False, True, False):
        whole = replace(dataset, cases=(replace(blank, declared=declared),))
        found = fingerprint(whole, cached=tmp_path / "measured")[0]
        assert any("an empty label map" in sentence for sentence in found.suspicious) == (not declared)
        assert found == fingerprint(whole)[0]


def test_a_settled_set_has_the_patterns_and_only_usable_cases(dataset):
    empty = write(dataset.folder / "labelsTr" / "e.nii.gz", np.zeros((4, 4, 4), dtype=np.uint8), (1, 1, 1))
    blank = replace(dataset.cases[0], name="e", label=empty, annotated=frozenset({1, 2}), declared=False)
    dataset.cases[2].image.write_bytes(b"no image")
    whole = replace(dataset, cases=(blank, *dataset.cases[1:]))
    settled = settle(whole, fingerprint(whole)[0])
    assert [(case.name, set(case.annotated), case.label is None) for case in settled.cases] == [
        ("e", set(), True), ("a", {1, 2}, False),
    ]  # fmt: skip


def test_labels_are_measured_by_case_and_by_cohort(dataset):
    found = fingerprint(dataset)[0]
    liver = found.cases[0].labels[1]  # two voxels, 50 and 60 HU, at x = 1 and 2
    assert (liver.voxels, liver.mean_hu, liver.sd_hu, liver.median_hu, liver.centre_x) == (2, 55, 5, 50, 1.5)
    assert found.cases[0].labels[2].voxels == 0 and found.cases[0].labels[2].mean_hu is None
    spleen = found.cohorts[1].labels[2]
    assert (found.cohorts[1].pattern, spleen.present, spleen.voxels, spleen.mean_hu) == ((2,), 1, 2, 105)
    assert set(found.cohorts[0].labels) == {1}


def test_a_broken_case_is_named_and_the_others_go_on(dataset):
    image = dataset.cases[1].image
    image.write_bytes(image.read_bytes()[:-20])
    found, failures = fingerprint(dataset)
    assert [name for name, _ in failures] == ["a"]
    assert "a_0000.nii.gz" in str(failures[0][1])
    assert [case.name for case in found.cases] == ["b", "c"]


def test_a_set_of_broken_cases_only_is_an_error_that_names_them(dataset):
    for case in dataset.cases:
        case.image.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"(?s)3 broken cases.*c_0000.*a_0000.*b_0000"):
        fingerprint(dataset)


def test_a_test_case_whose_image_is_trained_on_is_named(dataset):
    leaked = replace(dataset.cases[0], name="t", label=None, annotated=frozenset())
    found, failures = fingerprint(replace(dataset, test=(leaked,)))
    assert [name for name, _ in failures] == ["t"] and "not trained on" in str(failures[0][1])
    assert len(found.cases) == 3


def test_the_same_image_under_two_names_is_suspicious(dataset):
    c = dataset.cases[0]
    twice = Dataset("tiny", dataset.folder, LABELS, (c, Case("d", c.image, None, frozenset())), ())
    assert "d: the same image as c" in fingerprint(twice)[0].suspicious


def test_copies_of_an_image_are_settled_as_one_patient(dataset):
    c, a, b = dataset.cases
    copies = [
        replace(a, name=name, label=None, annotated=frozenset(), patient=said)
        for name, said in (("d", "x"), ("e", None))
    ]
    whole = replace(dataset, cases=(c, a, replace(b, patient="y"), *copies, replace(b, name="f")))
    found = {case.name: case.patient for case in settle(whole, fingerprint(whole)[0]).cases}
    assert found == {"a": "x", "b": "y", "c": None, "d": "x", "e": "x", "f": "y"}


def test_copies_join_the_patients_that_are_stated_for_them(dataset):
    """b and c are P's, and b's image is a's too: all three are P's. d and e have one image and nobody stated whose."""
    whole = fingerprint(replace(dataset, cases=dataset.cases[:1]))[0]
    said = {"a": (None, "1"), "b": ("P", "1"), "c": ("P", "2"), "d": (None, "3"), "e": (None, "3"), "f": (None, "4")}
    [case], [measured] = dataset.cases[:1], whole.cases
    cases = tuple(replace(case, name=name, patient=patient) for name, (patient, _) in said.items())
    copies = tuple(measured.model_copy(update={"name": n, "image_sha256": image}) for n, (_, image) in said.items())
    found = settle(replace(dataset, cases=cases), whole.model_copy(update={"cases": copies}))
    assert {case.name: case.patient for case in found.cases} == {
        "a": "P", "b": "P", "c": "P", "d": "d", "e": "d", "f": None,
    }  # fmt: skip


def test_what_nobody_annotated_is_in_no_number(dataset):
    """Case a with the second of its two liver voxels ignored, and with it a voxel of air."""
    c, a, b = dataset.cases
    liver = np.zeros((2, 3, 4), dtype=np.uint8)
    liver[0, 1, 1], liver[0, 1, 2], liver[1, 0, 0] = 1, 9, 9
    write(a.label, liver, (5, 1.5, 1))
    ignoring = replace(dataset, cases=(c, replace(a, values={1: 1, 2: 2, 9: HIDDEN}), b), ignore=9)
    found, failures = fingerprint(ignoring)
    assert failures == []
    case = found.cases[0]
    assert case.voxels == {1: 1, 2: 0} and case.ignored == pytest.approx(2 / 24)
    assert (case.labels[1].mean_hu, case.labels[1].centre_x) == (50, 1)
    assert (found.intensities.voxels, found.intensities.mean_hu) == (3, pytest.approx((50 + 100 + 110) / 3, abs=1e-4))
    assert found.absent == {}  # the spleen may be where nobody annotated anything
    assert "label ignore: 8.33% of the voxels of 1 cases, on average" in remarks(found)


def test_the_share_that_is_ignored_has_no_part_in_the_hash(dataset):
    """So that plans fit fingerprints that were written before there was such a share."""
    found = fingerprint(dataset)[0]
    content = found.model_dump(mode="json")
    for case in content["cases"]:
        assert case.pop("ignored") == 0
    assert found.hash == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
