"""flarenet_plan --from: one phantom set, laid out in every way that is known, gives one and the same plan."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest

from flarenet.cli.plan import main
from flarenet.data.dataset_file import read_dataset
from flarenet.data.layouts.flare import FLARE23
from flarenet.data.nifti import read_labels
from flarenet.data.settled import load_settled
from flarenet.data.verify import Check
from flarenet.errors import DatasetError
from flarenet.phantom import write_phantom_set
from flarenet.planning.measuring.fingerprint import Fingerprint
from flarenet.schema import load

ALL = list(FLARE23.values)
TABLE = {"labels": {name: value for value, name in enumerate(FLARE23.names) if value}}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Four cases as flarenet's own set, of which the second, third and fourth lack labels."""
    folder = tmp_path_factory.mktemp("phantoms") / "P"
    write_phantom_set(folder, cases=4, test_cases=1, seed=0, detail=0.3)
    return folder


def folders_only(phantoms, folder):
    shutil.copytree(phantoms, folder)
    (folder / "dataset.json").unlink()


def decathlon(phantoms, folder):
    shutil.copytree(phantoms, folder)
    labels = {str(value): name for value, name in enumerate(FLARE23.names)}
    listed = [
        {"image": f"./imagesTr/{case.image.name}", "label": f"./labelsTr/{case.label.name}"}
        for case in read_dataset(phantoms).cases
        if case.label
    ]
    content = {"name": "P", "modality": {"0": "CT"}, "labels": labels, "training": listed, "test": []}
    (folder / "dataset.json").write_text(json.dumps(content))


def flare(phantoms, folder):
    for case in read_dataset(phantoms).cases:
        part = "imagesTr2200" if case.label else "unlabeledTr1800"
        (folder / part).mkdir(parents=True, exist_ok=True)
        shutil.copy(case.image, folder / part)
    shutil.copytree(phantoms / "labelsTr", folder / "labelsTr2200")
    shutil.copytree(phantoms / "imagesTs", folder / "validation")


def plan(root, *words):
    return main(["-d", "N", "--root", str(root), "--workers", "1", "--dry-run", *map(str, words)])


def shared(folder):
    return {path.name for path in folder.rglob("*.nii.gz")}


@pytest.mark.parametrize("lay_out", [shutil.copytree, folders_only, decathlon, flare])
def test_every_layout_is_planned_from_where_it_lies(phantoms, tmp_path, capsys, lay_out):
    (tmp_path / "map.json").write_text(json.dumps({"table": TABLE}))
    lay_out(phantoms, tmp_path / "S")
    before = shared(tmp_path / "S")
    words = ("--labels", tmp_path / "map.json") if lay_out is folders_only else ()
    assert plan(tmp_path, "--from", tmp_path / "S", *words) == 0
    told = capsys.readouterr().out
    cases, labelled = (3, 3) if lay_out is decathlon else (4, 3)
    assert f"{cases} cases ({labelled} labelled)" in told and "14 tumor" in told
    assert not (tmp_path / "raw").exists() and shared(tmp_path) == before


def test_what_is_written_is_read_again_by_those_who_consent(phantoms, tmp_path, capsys):
    content = ("-d", "N", "--root", str(tmp_path), "--workers", "1", "--set", "folds=3")
    assert main([*content, "--from", str(phantoms)]) == 0
    settled = load_settled(tmp_path / "prepared" / "N" / "dataset.json")
    assert [case.image.parent for case in settled.cases] == [phantoms / "imagesTr"] * 4
    assert main(content) == 7
    told = capsys.readouterr().err
    assert "the same --from as before" in told and "--allow-external" in told
    assert main([*content, "--allow-external"]) == 0
    assert main([*content, "--from", str(phantoms)]) == 0
    (tmp_path / "raw/N/dataset.json").write_text("{}")
    assert main([*content, "--from", str(phantoms)]) == 4
    told = capsys.readouterr().err
    assert "--replace" in told and "leave --from out and give --allow-external" in told
    assert main([*content, "--from", str(phantoms), "--replace"]) == 0
    assert sorted(p.name for p in (tmp_path / "raw/N").iterdir()) == ["dataset.json", "dataset.previous.json"]


def test_a_source_whose_files_lie_elsewhere_is_taken_by_those_who_consent(phantoms, tmp_path, capsys):
    content = json.loads((phantoms / "dataset.json").read_text())
    for entry in (*content["dataset"].values(), *content["test"].values()):
        entry["images"] = [str(phantoms / entry["images"][0])]
        entry |= {"label": str(phantoms / entry["label"])} if "label" in entry else {}
    (tmp_path / "S").mkdir()
    (tmp_path / "S" / "dataset.json").write_text(json.dumps(content))
    assert plan(tmp_path, "--from", tmp_path / "S") == 7
    assert "--allow-external" in capsys.readouterr().err
    assert plan(tmp_path, "--from", tmp_path / "S", "--allow-external") == 0


def test_liver_is_1_here_and_6_there(tmp_path, capsys):
    """Two sources of one case each; the voxels of the liver are counted under the merged table's value."""
    random = np.random.default_rng(0)
    for source, table, value, voxels in (("A", {"liver": 1}, 1, 8), ("B", {"spleen": 2, "LIVER": 6}, 6, 27)):
        image = random.normal(60, 20, (12, 12, 12)).astype(np.int16)
        drawn = np.zeros(image.shape, dtype=np.uint8)
        side = round(voxels ** (1 / 3))
        drawn[:side, :side, :side] = value
        for part, array in (("imagesTr/x_0000", image), ("labelsTr/x", drawn)):
            path = tmp_path / source / f"{part}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2, 2, 1])), path)
        content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, **table}, "numTraining": 1}
        content |= {"file_ending": ".nii.gz", "dataset": {"x": {"images": ["imagesTr/x_0000.nii.gz"]}}}
        content["dataset"]["x"] |= {"label": "labelsTr/x.nii.gz", "annotated": list(table.values())}
        (tmp_path / source / "dataset.json").write_text(json.dumps(content))
    words = ["-d", "N", "--root", str(tmp_path), "--workers", "1", "--from", str(tmp_path / "A"), str(tmp_path / "B")]
    begun = f"root: {tmp_path}, which holds no data set yet"
    assert main(words) == 0 and begun in capsys.readouterr().out
    assert main([*words, "--fingerprint"]) == 0 and begun not in capsys.readouterr().out
    found = load(Fingerprint, tmp_path / "prepared/N/fingerprint.json", DatasetError)
    assert found.labels.names == ("background", "liver", "spleen")
    assert {case.name: case.voxels for case in found.cases} == {"x": {1: 8}, "B_x": {1: 27, 2: 0}}
    case = load_settled(tmp_path / "prepared/N/dataset.json").cases[1]
    assert case.values == {2: 2, 6: 1}
    assert int((read_labels(case.label, found.labels, values=case.values).data == 1).sum()) == 27
    capsys.readouterr()
    assert main([*words[:-2], *reversed(words[-2:]), "--replace"]) == 4  # what is planned keeps its name
    assert "planned cases by other names: x, now A_x (" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--replace"], ["--check"], ["--dry-run"]])
def test_a_linked_set_is_not_written_over_by_what_is_made_of_it(phantoms, tmp_path, capsys, more):
    """nnU-Net reads the file behind the link, and would train both cohorts by it."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/N").symlink_to(phantoms)
    other, before = shutil.copytree(phantoms, tmp_path / "Q"), (phantoms / "dataset.json").read_bytes()
    words = ["-d", "N", "--root", str(tmp_path), "--workers", "1", *more]
    for source in (phantoms, tmp_path / "raw/N"):
        for sources in ([source], [other, source]):
            assert main([*words, "--from", *map(str, sources)]) == 2
            told = capsys.readouterr().err
            assert f"--from {source}" in told and "another name after -d" in told
    assert (phantoms / "dataset.json").read_bytes() == before
    assert not list(phantoms.glob("*.previous.json"))


def test_a_folder_in_its_place_without_dataset_json_gets_one_if_it_is_alone(phantoms, tmp_path, capsys):
    (tmp_path / "map.json").write_text(json.dumps({"table": TABLE}))
    folders_only(phantoms, tmp_path / "raw/N")
    own, words = str(tmp_path / "raw/N"), ["--labels", str(tmp_path / "map.json"), "--fingerprint"]
    words = ["-d", "N", "--root", str(tmp_path), "--workers", "1", *words]
    assert main([*words, "--from", own, str(phantoms)]) == 2
    assert main([*words, "--from", own]) == 0
    assert (tmp_path / "raw/N/dataset.json").is_file()
    capsys.readouterr()
    assert main([*words, "--from", own, "--replace"]) == 2
    assert "leave --from out" in capsys.readouterr().err


def test_a_check_says_that_it_does_not_read_what_was_changed_in_the_file_of_before(phantoms, tmp_path, capsys):
    (tmp_path / "raw/N").mkdir(parents=True)
    (tmp_path / "raw/N/dataset.json").write_bytes("größer".encode("cp1252"))
    assert main(["-d", "N", "--root", str(tmp_path), "--workers", "1", "--check", "--from", str(phantoms)]) == 0
    told = capsys.readouterr().err
    assert "this file is not used" in told and "leave --from out and give --allow-external" in told


def test_words_that_belong_to_from_alone(tmp_path, capsys):
    (tmp_path / "raw/N").mkdir(parents=True)
    for words in (["--replace"], ["--labels", "map.json"]):
        assert plan(tmp_path, *words) == 2
        assert "--from" in capsys.readouterr().err
    assert plan(tmp_path, "--from", tmp_path) == 4
    assert "FLARE23" in capsys.readouterr().err


def test_a_check_of_folders_writes_no_dataset_json(phantoms, tmp_path, capsys):
    words = ["-d", "N", "--root", str(tmp_path), "--workers", "1", "--check", "--from", str(phantoms)]
    assert main(words) == 0
    assert "dataset.json (not written): 4 cases" in capsys.readouterr().out
    assert not (tmp_path / "raw").exists() and (tmp_path / "prepared/N/check.json").is_file()


@pytest.mark.parametrize("how", ["--check", "--report"])
@pytest.mark.parametrize(
    "more", ["--dry-run", "--fingerprint", "--set seed=1", "--recipe paper", "--size m", "--gpu-memory-gb 0"]
)
def test_what_a_check_would_leave_aside_is_refused_and_nothing_is_written(phantoms, tmp_path, capsys, how, more):
    assert main(["-d", "N", "--root", str(tmp_path), how, *more.split(), "--from", str(phantoms)]) == 2
    assert f"{more.split()[0]}\n  found: beside {how}, which plans nothing" in capsys.readouterr().err
    assert not (tmp_path / "prepared").exists() and not (tmp_path / "raw").exists()


@pytest.mark.parametrize("how", ["--check", "--report"])
def test_a_check_of_sources_tells_all_that_is_wrong_with_them(phantoms, tmp_path, capsys, how):
    content = json.loads((phantoms / "dataset.json").read_text())
    for name, wrong in (
        ("A", {"labels": content["labels"] | {"all": [1, 2]}, "file_ending": ".mha"}),
        ("B", {"channel_names": {"0": "CT", "1": "PET"}}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").write_text(json.dumps(content | wrong))
    words = ["-d", "N", "--root", str(tmp_path), how, "--from", str(tmp_path / "A"), str(tmp_path / "B")]
    assert main(words) == 4
    told = capsys.readouterr().out
    found = load(Check, tmp_path / "prepared/N/check.json", DatasetError).findings
    keys = {"A/dataset.json: key 'labels': 'all'", "A/dataset.json: key 'file_ending'"}
    assert {finding.file_name for finding in found} == keys | {"B/dataset.json: key 'channel_names'"}
    assert "A/dataset.json" in told and "B/dataset.json" in told
    assert not (tmp_path / "raw").exists()
    assert (tmp_path / "prepared/N/report/report.html").exists() == (how == "--report")
