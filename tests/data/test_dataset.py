"""dataset.json: what is read from it, and that every mistake in it is named."""

from __future__ import annotations

import json
import unicodedata

import pytest

from flarenet.data.dataset import Case
from flarenet.data.dataset_file import dataset_findings, read_dataset
from flarenet.data.label_table import default_groups
from flarenet.data.labels import HIDDEN
from flarenet.data.names import check_name
from flarenet.data.reading import Reading
from flarenet.errors import DatasetError, UnsafeError


def test_reads_labels_cases_and_what_was_looked_for(small_set):
    dataset = read_dataset(small_set)
    assert dataset.name == "Small"
    assert dataset.labels.names == ("background", "liver", "spleen", "tumor")
    assert dataset.labels.groups == {"organ": (1, 2), "cancer": (3,)}
    assert dataset.labels.tolerance_of(1) == 5.0
    looked_for = [(case.name, sorted(case.annotated)) for case in dataset.cases]
    assert looked_for == [("full", [1, 2, 3]), ("part", [1]), ("bare", [])]
    assert dataset.cases[0].image == small_set / "imagesTr/full_0000.nii.gz"
    assert dataset.cases[2].label is None
    assert dataset.test == ()


def test_a_linked_set_has_the_name_of_the_link(small_set, tmp_path):
    """By which commands know it, whatever nnU-Net calls the folder."""
    (tmp_path / "LIVER").symlink_to(small_set)
    assert read_dataset(tmp_path / "LIVER").name == "LIVER"
    assert read_dataset(small_set / "imagesTr" / "..").name == "Small"


def test_order_of_given_groups_is_kept(small_set, edit_json):
    edit_json(small_set, lambda d: d.update(groups={"b": [3], "a": [2, 1]}))
    assert list(read_dataset(small_set).labels.groups.items()) == [("b", (3,)), ("a", (2, 1))]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (("background", "liver", "liver tumour"), {"organ": (1,), "cancer": (2,)}),
        (("background", "Lesion", "kidney", "Pancreatic Cancer"), {"organ": (2,), "cancer": (1, 3)}),
        (("background", "liver"), {"organ": (1,)}),
        (("background", "tumor"), {"cancer": (1,)}),
    ],
)
def test_default_groups_come_from_names(names, groups):
    assert list(default_groups(names).items()) == list(groups.items())


def test_folders_alone_make_a_set(small_set, edit_json, save_nifti):
    def without_tables(content):
        del content["dataset"]

    edit_json(small_set, without_tables)
    (small_set / "imagesTs").mkdir()
    (small_set / "imagesTr/full_0000.nii.gz").rename(small_set / "imagesTs/held_0000.nii.gz")
    (small_set / "labelsTr/full.nii.gz").unlink()
    (small_set / "imagesTr/bare_0000.nii.gz").rename(small_set / "imagesTr/bare.nii.gz")  # as it may be called too
    (small_set / "imagesTr/._part_0000.nii.gz").write_text("what a Mac leaves behind")
    edit_json(small_set, lambda d: d.update(numTraining=2))
    dataset = read_dataset(small_set)
    assert [(c.name, sorted(c.annotated)) for c in dataset.cases] == [("bare", []), ("part", [1, 2, 3])]
    assert [(c.name, c.label) for c in dataset.test] == [("held", None)]
    assert [c.image.name for c in dataset.cases] == ["bare.nii.gz", "part_0000.nii.gz"]
    edit_json(small_set, lambda d: d.update(file_ending=".nrrd"))
    assert [finding.found for finding in dataset_findings(small_set)[1]] == [".nrrd"]


@pytest.mark.parametrize("listed", [True, False])
def test_images_and_labels_are_paired_however_their_accents_are_spelled(small_set, edit_json, listed):
    """An image that a Mac has named, u and its dots apart; its label, and the cohort, by the usual name."""
    mac, usual = (unicodedata.normalize(form, "Jürg") for form in ("NFD", "NFC"))
    image = (small_set / "imagesTr/part_0000.nii.gz").rename(small_set / f"imagesTr/{mac}_0000.nii.gz")
    label = (small_set / "labelsTr/part.nii.gz").rename(small_set / f"labelsTr/{usual}.nii.gz")

    def change(content):
        del content["dataset"]["part"]
        content["dataset"][mac] = {"images": [f"imagesTr/{image.name}"], "label": f"labelsTr/{label.name}"}
        content["patterns"] = {"a": {"annotated": ["liver"], "cases": [usual]}}
        if not listed:
            del content["dataset"]

    edit_json(small_set, change)
    case = next(case for case in read_dataset(small_set).cases if case.name == usual)
    assert (case.image, case.label, case.annotated) == (image, label, {1})


def test_other_keys_of_nnunet_are_allowed(small_set, edit_json):
    edit_json(small_set, lambda d: d.update(overwrite_image_reader_writer="x", numTest=2, licence="CC BY"))
    assert len(read_dataset(small_set).cases) == 3


def test_further_keys_are_not_used_and_said(small_set, edit_json):
    edit_json(small_set, lambda d: d.update(modality={"0": "CT"}, dataset_id=7, training=[{"image": "a"}]))
    dataset, findings = dataset_findings(small_set)
    assert len(dataset.cases) == 3
    assert [(finding.severity, finding.file.partition(": ")[2]) for finding in findings] == [
        ("warn", "key 'modality'"),
        ("warn", "key 'dataset_id'"),
        ("warn", "key 'training'"),
    ]


def test_a_file_of_the_decathlon_is_told_how_it_is_read(small_set):
    content = {"name": "S", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "numTraining": 1}
    content |= {"training": [{"image": "./a.nii.gz", "label": "./b.nii.gz"}]}
    (small_set / "dataset.json").write_text(json.dumps(content))
    _, findings = dataset_findings(small_set)
    assert any("--from" in finding.remedy for finding in findings if "'training'" in finding.file)


def set_key(*path_and_value):
    """A change of dataset.json that assigns the last argument at the path of the others."""
    *path, last, value = path_and_value

    def change(content):
        for key in path:
            content = content[key]
        content[last] = value

    return change


def cohort(annotated, *cases):
    """A change of dataset.json that gives it one cohort."""
    return set_key("patterns", {"a": {"annotated": annotated, "cases": list(cases)}})


MISTAKES = {
    "unknown key": (set_key("tolerance", {}), "key 'tolerance'", "tolerance_mm"),
    "required key misspelt": (lambda d: d.update(label=d.pop("labels")), "key 'label'", "mean 'labels'"),
    "wrong count": (set_key("numTraining", 4), "key 'numTraining'", "expected: 3"),
    "background alone": (set_key("labels", {"background": 0}), "key 'labels'", "background 0, then a different value"),
    "region": (set_key("labels", {"background": 0, "all": [1, 2], "x": 2}), "'all'", "region"),
    "ignore below a label": (set_key("labels", "ignore", 2), "key 'labels': 'ignore'", "every label: 4 or more"),
    "ignore with a value of a label": (set_key("labels", "ignore", 3), "'ignore'", "'values' of their cases"),
    "ignore twice": (lambda d: d["labels"].update(ignore=4, Ignore=5), "key 'labels': 'ignore'", "one 'ignore'"),
    "nothing but ignore": (set_key("labels", {"background": 0, "ignore": 1}), "key 'labels'", "background 0, then"),
    "ignore as annotated": (
        lambda d: (set_key("labels", "ignore", 4)(d), set_key("dataset", "part", "annotated", [1, "ignore"])(d)),
        "part.annotated",
        "of 1 liver, 2 spleen, 3 tumor",
    ),
    "ignore in a group": (
        lambda d: (set_key("labels", "ignore", 4)(d), set_key("groups", {"organ": [1, 2, 3, "ignore"]})(d)),
        "key 'groups'",
        "of 1 liver, 2 spleen, 3 tumor",
    ),
    "tolerance of nothing": (set_key("tolerance_mm", {"livre": 5}), "key 'tolerance_mm'", "did you mean 'liver'?"),
    "tolerance of zero": (set_key("tolerance_mm", {"liver": 0}), "key 'tolerance_mm.liver'", "greater than 0"),
    "value without group": (set_key("groups", {"organ": [1, 2]}), "key 'groups'", "no group with tumor"),
    "value in two groups": (set_key("groups", {"organ": [1, 2, 3], "c": [3]}), "key 'groups'", "tumor in 2 groups"),
    "group of unknown value": (set_key("groups", {"organ": [1, 2, 3, 4]}), "key 'groups'", "[1, 2, 3, 4]"),
    "empty group": (set_key("groups", {"organ": [1, 2, 3], "c": []}), "'c'", "no value"),
    "group named as a path": (set_key("groups", {"../organ": [1, 2, 3]}), "key 'groups'", "../organ"),
    "two channels": (set_key("channel_names", {"0": "CT", "1": "PET"}), "key 'channel_names'", "one channel"),
    "two images": (set_key("dataset", "bare", "images", ["a.nii.gz", "b.nii.gz"]), "dataset.bare.images", "2 images"),
    "other format": (set_key("file_ending", ".nrrd"), "key 'file_ending'", ".nii.gz or .nii"),
    "unknown key of a case": (set_key("dataset", "bare", "anotated", []), "dataset.bare.anotated", "[]"),
    "values of nothing": (set_key("dataset", "part", "values", {"6": 4}), "dataset.part.values.6", "found: 4"),
    "values of words": (set_key("dataset", "part", "values", {"six": 1}), "dataset.part.values.six", "valid integer"),
    "cohort of nobody": (cohort([1], "x*"), "patterns.a.cases", "'x*'"),
    "cohort of unknown labels": (cohort([4], "part"), "patterns.a.annotated", "[4]"),
    "cohort of unlabelled cases": (
        lambda d: (d["dataset"]["bare"].pop("annotated"), cohort([1], "bare")(d)),
        "patterns.a.annotated",
        "no 'label'",
    ),
    "label without annotated": (set_key("dataset", "part", "annotated", []), "dataset.part.annotated", "looked for"),
    "annotated background": (set_key("dataset", "part", "annotated", [0, 1]), "dataset.part.annotated", "[0, 1]"),
    "annotated outside": (set_key("dataset", "part", "annotated", [4]), "part.annotated", "of 1 liver, 2 spleen, 3"),
    "annotated as a word": (set_key("dataset", "part", "annotated", ["livre"]), "part.annotated", "mean 'liver'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_key_and_what_was_expected(small_set, edit_json, mistake):
    change, place, words = MISTAKES[mistake]
    edit_json(small_set, change)
    with pytest.raises(DatasetError) as caught:
        read_dataset(small_set)
    assert place in caught.value.thing
    assert words in str(caught.value)
    assert caught.value.found is not None and caught.value.expected is not None


@pytest.mark.parametrize("name", ["btcv04", "FLARE22_Tr_0001", "case-1.2", "Müller", "x" * 200])
def test_ordinary_names_are_accepted(name):
    assert check_name(name, "a case") is None


def test_labels_with_gaps_are_numbered_anew(small_set, edit_json):
    def change(content):
        content["labels"] = {"tumor": 9, "Background": 0, "liver": 2, "spleen": 4}
        content["groups"] = {"organ": [2, "Spleen"], "cancer": ["tumor"]}
        content["dataset"]["part"].update(annotated=["liver", 9], values={"1": 2, "7": 9, "8": 0})

    edit_json(small_set, change)
    dataset = read_dataset(small_set)
    assert dataset.labels.names == ("background", "liver", "spleen", "tumor")
    assert dataset.labels.groups == {"organ": (1, 2), "cancer": (3,)}
    full, part, bare = dataset.cases
    assert full.values == {2: 1, 4: 2, 9: 3} and bare.values == {}
    assert (part.values, part.annotated) == ({1: 1, 7: 3, 8: 0}, {1, 3})


def test_what_was_looked_for_is_declared_by_case_by_cohort_or_not_at_all(small_set, edit_json):
    def change(content):
        for name in ("full", "more"):
            content["dataset"][name] = {"images": [f"imagesTr/{name}_0000.nii.gz"], "label": f"labelsTr/{name}.nii.gz"}
        content["dataset"]["open"] = {"images": ["imagesTr/open_0000.nii.gz"], "label": "labelsTr/open.nii.gz"}
        content["patterns"] = {
            "organs": {"annotated": ["liver", "spleen"], "cases": ["part", "[fm][uo]*"]},
            "again": {"annotated": [2, 1], "cases": ["full"]},
        }
        content["numTraining"] = 5

    edit_json(small_set, change)
    assert {case.name: (set(case.annotated), case.declared) for case in read_dataset(small_set).cases} == {
        "full": ({1, 2}, True),
        "more": ({1, 2}, True),
        "part": ({1}, True),
        "open": ({1, 2, 3}, False),
        "bare": (set(), True),
    }


def test_a_pattern_of_names_leaves_cases_without_a_label_unlabelled(small_set, edit_json):
    """The one line for a set that is annotated evenly; a case called by its name was meant, and is an error."""
    change = set_key("patterns", {"all": {"annotated": ["liver", 2, 3], "cases": ["*"]}})
    edit_json(small_set, lambda d: (d["dataset"]["bare"].pop("annotated"), d["dataset"]["part"].pop("annotated")))
    edit_json(small_set, change)
    assert {case.name: (set(case.annotated), case.declared) for case in read_dataset(small_set).cases} == {
        "full": ({1, 2, 3}, True),
        "part": ({1, 2, 3}, True),
        "bare": (set(), True),
    }
    edit_json(small_set, set_key("patterns", "all", "cases", ["*", "bare"]))
    with pytest.raises(DatasetError, match="because the case has no 'label'"):
        read_dataset(small_set)


def test_two_cohorts_that_disagree_about_a_case_refuse_it(small_set, edit_json):
    patterns = {"a": {"annotated": [1], "cases": ["*l*"]}, "b": {"annotated": [1, 2], "cases": ["full"]}}
    edit_json(small_set, set_key("patterns", patterns))
    dataset, findings = dataset_findings(small_set)
    [refused] = [finding for finding in findings if finding.severity == "refuse"]
    assert refused.case == "full" and refused.file.endswith("key 'patterns.b.cases'")
    assert [case.name for case in dataset.cases] == ["part", "bare"]


def test_everything_that_is_wrong_is_found_at_once_and_the_other_cases_stay(small_set, edit_json):
    def change(content):
        content["dataset"]["-x"] = {"images": ["../x.nii.gz"], "label": "/y.nii.gz", "annotated": [7]}
        content["dataset"]["typo"] = {"images": ["z.nii.gz"], "lable": "z"}
        content["numTraining"] = 5

    edit_json(small_set, change)
    dataset, findings = dataset_findings(small_set)
    assert [case.name for case in dataset.cases] == ["full", "part", "bare"]
    keys = ["dataset.typo.lable", "dataset.-x", "dataset.-x.images", "dataset.-x.label", "dataset.-x.annotated"]
    assert [(f.case, f.file) for f in findings] == [
        (key.split(".")[1], f"{small_set / 'dataset.json'}: key '{key}'") for key in keys
    ]
    assert [f.exit_code for f in findings] == [4, 7, 7, 7, 4]
    edit_json(small_set, set_key("numTraining", 3))
    dataset, findings = dataset_findings(small_set)
    assert dataset is None and len(findings) == 6


def test_labels_channels_and_file_ending_are_each_looked_at(small_set, edit_json):
    def change(content):
        content["labels"]["all"] = [1, 2]
        content |= {"channel_names": {"0": "CT", "1": "PET"}, "file_ending": ".mha"}

    edit_json(small_set, change)
    dataset, findings = dataset_findings(small_set)
    assert dataset is None
    assert [finding.file.partition(": ")[2] for finding in findings] == [
        "key 'labels': 'all'",
        "key 'channel_names'",
        "key 'file_ending'",
    ]


def test_paths_may_leave_the_folder_where_a_person_allows_it(small_set, edit_json, tmp_path):
    image = (small_set / "imagesTr/part_0000.nii.gz").rename(tmp_path / "part.nii.gz")
    for path in (str(image), "../part.nii.gz"):
        edit_json(small_set, set_key("dataset", "part", "images", [path]))
        with pytest.raises(UnsafeError, match="--allow-external"):
            read_dataset(small_set)
        for allowed in ({"reading": Reading(allow_external=True)}, {"sources": [tmp_path]}):
            assert read_dataset(small_set, **allowed).cases[1].image.resolve() == image
    with pytest.raises(UnsafeError):
        read_dataset(small_set, sources=[tmp_path / "other"])


def test_the_cases_carry_how_they_are_to_be_read(small_set):
    reading = Reading(affine="sform", volume=1)
    assert {case.reading for case in read_dataset(small_set, reading).cases} == {reading}


def test_a_folder_without_dataset_json_says_so_and_how_to_get_one(tmp_path):
    with pytest.raises(DatasetError, match="no such file") as caught:
        read_dataset(tmp_path)
    assert "docs/dataset-json.md" in caught.value.remedy and "--from FOLDER" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"labels": {}, "labels": {}}', '{"numTraining": NaN}'])
def test_json_that_is_none_is_a_dataset_error(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match="dataset.json"):
        read_dataset(tmp_path)


def test_a_label_without_image_and_a_second_channel_are_named_when_scanning(small_set, edit_json):
    edit_json(small_set, lambda d: d.pop("dataset"))
    stray = small_set / "labelsTr/stray.nii.gz"
    stray.write_bytes(b"")
    with pytest.raises(DatasetError, match="stray.nii.gz without an image"):
        read_dataset(small_set)
    stray.unlink()
    (small_set / "imagesTr/full_0001.nii.gz").write_bytes(b"")
    with pytest.raises(DatasetError, match="further channel"):
        read_dataset(small_set)


def test_the_real_set_has_the_cohorts_its_makers_name(flaremini):
    dataset = read_dataset(flaremini)
    full = frozenset(range(1, 14)) - {12}
    assert len(dataset.cases) == json.loads((flaremini / "dataset.json").read_text())["numTraining"] == 35
    counts = {len(p): sum(c.annotated == p for c in dataset.cases) for p in {c.annotated for c in dataset.cases}}
    assert counts == {12: 10, 5: 8, 2: 4, 1: 4, 0: 9}
    assert all(isinstance(c, Case) and c.annotated in (full, {1, 14}) for c in dataset.test)
    assert dataset.labels.groups == {"organ": tuple(range(1, 14)), "cancer": (14,)}


@pytest.mark.parametrize("value", [4, 255, 300])
def test_ignore_is_no_label_but_a_value_of_the_label_files(small_set, edit_json, value):
    edit_json(small_set, set_key("labels", "ignore", value))
    edit_json(small_set, set_key("dataset", "part", "values", {"7": 1, "9": value}))
    dataset = read_dataset(small_set)
    full, part, bare = dataset.cases
    assert dataset.labels.names == ("background", "liver", "spleen", "tumor") and dataset.ignore == value
    assert full.values == dataset.values_elsewhere == {1: 1, 2: 2, 3: 3, value: HIDDEN}
    assert (full.annotated, full.declared, bare.values) == ({1, 2, 3}, False, {})
    assert part.values == {7: 1, 9: HIDDEN} and part.annotated == {1}
    link = small_set / "link.nii.gz"
    link.symlink_to(part.label)
    assert dataset.values_of(link) == part.values
    assert dataset.values_of(small_set / "elsewhere" / part.label.name) == dataset.values_elsewhere
    edit_json(small_set, lambda d: d["dataset"]["part"].pop("annotated"))
    assert read_dataset(small_set).cases[1].annotated == {1}  # all that its file can hold
