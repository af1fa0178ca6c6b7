"""Bad inputs, the rows about the data set as a whole: one small set per row, refused, handled or warned about."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from flarenet.data.dataset_file import STRICT, dataset_findings
from flarenet.data.reading import Reading

LABELS = {"background": 0, "liver": 1, "tumor": 2}


class Set:
    """A set of two cases in a folder; `content` is its dataset.json, written by `findings`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True)
        self.content = {"channel_names": {"0": "CT"}, "labels": dict(LABELS), "file_ending": ".nii.gz", "dataset": {}}
        for name in ("a1", "a2"):
            self.add(name)

    def add(self, name, **changes):
        self.content["dataset"][name] = self.entry(f"c{len(self.content['dataset'])}") | changes
        return self

    def entry(self, file):
        """The entry of a case whose files are called `file`, and the files, empty: nobody looks into them here."""
        image, label = f"imagesTr/{file}_0000.nii.gz", f"labelsTr/{file}.nii.gz"
        for path in (image, label):
            (self.folder / path).touch()
        return {"images": [image], "label": label}

    def without_tables(self):
        del self.content["dataset"]
        self.content["numTraining"] = 2
        return self

    def findings(self, reading=STRICT):
        content = {"numTraining": len(self.content.get("dataset", ())), **self.content}
        return self.findings_of(json.dumps(content).encode(), reading)

    def findings_of(self, text, reading=STRICT):
        (self.folder / "dataset.json").write_bytes(text)
        return dataset_findings(self.folder, reading)


@pytest.fixture
def data(tmp_path):
    return Set(tmp_path / "S")


def assert_refused(result, *words, code=4):
    """All findings refuse; one of them holds all `words`. Returns the names of the cases that are left."""
    dataset, findings = result
    assert findings and {finding.severity for finding in findings} == {"refuse"}
    told = [" ".join((f.case, f.file, f.found, f.expected)) for f in findings]
    assert any(all(word in line for word in words) for line in told), told
    assert {finding.exit_code for finding in findings} == {code}
    assert all(finding.found and finding.expected for finding in findings)
    return [case.name for case in dataset.cases] if dataset else []


def assert_warned(result, *words):
    dataset, findings = result
    assert dataset is not None and {finding.severity for finding in findings} == {"warn"}
    assert any(all(word in finding.found for word in words) for finding in findings), findings


def assert_handled(result):
    dataset, findings = result
    assert findings == []
    return dataset


class TestRow55:
    """Bytes are compared where files are read: the fingerprint names two cases of one image."""

    def test_duplicate_id(self, data):
        entry = json.dumps(data.entry("a1"))
        text = f'{{"dataset": {{"a1": {entry}, "a1": {entry}}}}}'
        assert_refused(data.findings_of(text.encode()), "dataset.a1", "the same key twice")

    def test_the_same_image_twice(self, data):
        assert_refused(data.add("a3", images=["imagesTr/c0_0000.nii.gz"]).findings(), "a1 and a3")

    @pytest.mark.parametrize("name", ["other", "a1"])
    def test_training_case_in_test(self, data, name):
        data.content["test"] = {name: data.content["dataset"]["a1"]}
        assert_refused(data.findings(), "a1", name)


@pytest.mark.parametrize("first, second", [("b", "B"), *[[unicodedata.normalize(f, "Jürg") for f in ("NFC", "NFD")]]])
def test_row56_ids_that_differ_in_spelling_only(data, first, second):
    assert first != second
    assert_refused(data.add(first).add(second).findings(), f"cases {first}, {second}")


@pytest.mark.parametrize(
    "name",
    ["../x", "..", "a/b", "a\\b", "a:b", "-x", ".x", "x ", "a\nb", "a\0b", "x" * 201, "x" * 300, "é" * 150],
)
def test_row57_ids_that_are_no_file_names(data, name):
    assert assert_refused(data.add(name).findings(), code=7) == ["a1", "a2"]


def test_row57_an_empty_id(data):
    """A case that cannot be named cannot be left out either."""
    assert assert_refused(data.add("").findings(), "a name of 0 bytes", code=7) == []


class TestRow58:
    def test_labels_without_image_are_listed(self, data):
        for stray in ("s1", "s2"):
            (data.folder / f"labelsTr/{stray}.nii.gz").touch()
        assert_refused(data.without_tables().findings(), "labelsTr", "s1.nii.gz, s2.nii.gz without an image")

    def test_images_without_label_are_unlabelled_cases_and_listed(self, data):
        (data.folder / "labelsTr/c1.nii.gz").unlink()
        assert_warned(data.without_tables().findings(), "no label for 1 images: c1")

    def test_an_image_that_is_said_to_be_annotated_needs_a_label(self, data):
        data.content["dataset"]["a2"] = {"images": ["imagesTr/c1_0000.nii.gz"], "annotated": ["liver"]}
        assert assert_refused(data.findings(), "a2", "dataset.a2.annotated", "no 'label'") == ["a1"]


class TestRow59:
    @pytest.mark.parametrize(
        "text, words",
        [
            (b'{"labels": ', ["line 1, column 12"]),
            (b'\xef\xbb\xbf{"labels": {}}', ["line 1, column 1", "BOM"]),
            (b'{"labels": {"liver": 1, "liver": 2}}', ["key 'labels.liver'", "the same key twice"]),
            (b'{"tolerance_mm": {"liver": NaN}}', ["key 'tolerance_mm.liver'", "NaN"]),
        ],
        ids=["bad JSON", "BOM", "duplicate keys", "NaN"],
    )
    def test_json(self, data, text, words):
        assert_refused(data.findings_of(text), "dataset.json", *words)

    def test_wrong_types_all_at_once(self, data):
        data.content |= {"file_ending": 7, "numTraining": "2"}
        data.add("a3", images="a string", label=1)
        result = data.findings()
        values = {"file_ending": "7", "numTraining": "'2'", "dataset.a3.images": "'a string'", "dataset.a3.label": "1"}
        for key, found in values.items():
            assert_refused(result, f"key '{key}'", found)

    def test_a_wrong_type_of_a_case_costs_that_case_only(self, data):
        assert assert_refused(data.add("a3", label=1).findings(), "a3", "key 'dataset.a3.label'") == ["a1", "a2"]

    def test_missing_key(self, data):
        del data.content["labels"]
        assert_refused(data.findings(), "key 'labels'", "nothing")


class TestRow60:
    def test_gaps(self, data):
        data.content["labels"] = {"background": 0, "liver": 3, "tumor": 7}
        dataset = assert_handled(data.findings())
        assert dataset.labels.names == ("background", "liver", "tumor")
        assert dataset.cases[0].values == {3: 1, 7: 2}

    @pytest.mark.parametrize(
        "labels, words",
        [
            ({"background": 0, "liver": "1"}, ["'liver'", "'1'", "a whole number"]),
            ({"liver": 1, "tumor": 2}, ["'liver' with value 1", "'background' with value 0"]),
            ({"liver": 0, "tumor": 1}, ["'liver' with value 0", "'background' with value 0"]),
            ({"background": 0, "liver": 1, "tumor": 1}, ["liver 1, tumor 1"]),
        ],
        ids=["strings", "no background", "another background", "overlap"],
    )
    def test_tables(self, data, labels, words):
        data.content["labels"] = labels
        assert_refused(data.findings(), "key 'labels'", *words)


class TestRow61:
    @pytest.mark.parametrize(
        "path",
        ["/etc/hostname", "$HOME/x.nii.gz", "~/x.nii.gz", "../x.nii.gz", "imagesTr/../../x.nii.gz", "C:\\x", "..\\x"],
    )
    @pytest.mark.parametrize("key", ["images", "label"])
    def test_paths(self, data, key, path):
        data.add("a3", **{key: [path] if key == "images" else path})
        assert assert_refused(data.findings(), "a3", f"key 'dataset.a3.{key}'", path, code=7) == ["a1", "a2"]
        assert len(assert_handled(data.findings(Reading(allow_external=True))).cases) == 3

    @pytest.mark.parametrize("path", ["", "x" * 256])
    @pytest.mark.parametrize("key", ["images", "label"])
    def test_what_nobody_can_allow(self, data, key, path):
        data.add("a3", **{key: [path] if key == "images" else path})
        for reading in (STRICT, Reading(allow_external=True)):
            assert assert_refused(data.findings(reading), "a3", f"key 'dataset.a3.{key}'", code=7) == ["a1", "a2"]

    @pytest.mark.parametrize(
        "link, target, path",
        [("linked", "outside", "linked/x.nii.gz"), ("x.nii.gz", "outside/x.nii.gz", "x.nii.gz")],
        ids=["folder", "file"],
    )
    def test_symlink(self, data, tmp_path, link, target, path):
        outside = tmp_path / "outside"
        outside.mkdir()
        os.symlink(tmp_path / target, data.folder / link)
        data.add("a3", images=[path])
        assert assert_refused(data.findings(), "a3", str(outside), code=7) == ["a1", "a2"]
        assert len(assert_handled(data.findings(Reading(allow_external=True))).cases) == 3

    def test_a_file_cannot_allow_itself(self, data):
        data.content["reading"] = {"allow_external": True}
        data.add("a3", images=["/etc/hostname"])
        codes = {finding.file.split()[-1]: finding.exit_code for finding in data.findings()[1]}
        assert codes == {"'reading'": 0, "'dataset.a3.images'": 7}  # a key that nobody reads, and what it would allow


class TestRow62:
    def test_one_class(self, data):
        data.content["labels"] = {"background": 0, "liver": 1}
        assert assert_handled(data.findings()).labels.values == (1,)

    def test_a_class_that_nobody_looked_for(self, data):
        for entry in data.content["dataset"].values():
            entry["annotated"] = ["liver"]
        assert_warned(data.findings(), "annotated in no case: tumor")

    def test_no_case(self, data):
        data.content["dataset"] = {}
        assert_refused(data.findings(), "no training case")

    def test_one_case(self, data):
        del data.content["dataset"]["a2"]
        assert_warned(data.findings(), "one training case")


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"labels":' * 100_000, b'{"numTraining": 1' + b"0" * 400 + b"}"])
def test_s13_json_that_would_take_long_is_refused(data, text):
    assert_refused(data.findings_of(text), "dataset.json")


def test_s13_a_file_of_50_mb_is_refused_unread(data):
    with open(data.folder / "dataset.json", "wb") as stream:
        stream.truncate(50 << 20)
    assert_refused(dataset_findings(data.folder), "52428800 bytes")
