import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from flarenet.cli.evaluate import main
from flarenet.data.cases import map_cases
from flarenet.data.dataset_file import read_dataset
from flarenet.data.settled import save_settled
from tests.unsure import move_the_qform

TABLE = {"first": [1, 2], "second": [1]}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with a set of two test cases; the predictions equal the truth, but for one more label in "second"."""
    monkeypatch.delenv("FLARENET_ROOT", raising=False)
    raw = tmp_path / "raw" / "Tiny"
    image, drawn = np.arange(1680, dtype=np.int16).reshape(10, 12, 14), np.zeros((10, 12, 14), dtype=np.uint8)
    drawn[2:6, 2:9, 2:9], drawn[3:5, 3:6, 3:6] = 1, 2
    for name in TABLE:
        _save(raw / "imagesTs" / f"{name}_0000.nii.gz", image)
        _save(raw / "labelsTs" / f"{name}.nii.gz", drawn if name == "first" else np.minimum(drawn, 1))
        _save(tmp_path / "predicted" / f"{name}.nii.gz", drawn)
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "tumor": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "dataset": {"other": {"images": ["imagesTr/other_0000.nii.gz"], "annotated": []}},
        "test": {name: _entry(name, annotated) for name, annotated in TABLE.items()},
    }
    (raw / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def _entry(name, annotated):
    images, label = [f"imagesTs/{name}_0000.nii.gz"], f"labelsTs/{name}.nii.gz"
    return {"images": images, "label": label, "annotated": annotated}


def _save(path, array_zyx):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array_zyx.transpose(2, 1, 0), np.diag([2.0, 2.0, 3.0, 1.0])), path)


def _evaluate(root, *words, dataset="Tiny"):
    truth = root / "raw" / "Tiny" / "labelsTs"
    places = ["-p", str(root / "predicted"), "-g", str(truth), "-o", str(root / "out"), "--root", str(root)]
    return main([*places, "-d", dataset, "--workers", "1", *words])


def _metrics(root):
    return json.loads((root / "out" / "metrics.json").read_text())


def _means(metrics, label):
    return {key: metrics["classes"][label][key] for key in ("dsc", "nsd", "n")}


def test_what_was_not_annotated_is_left_out(root, capsys):
    assert _evaluate(root) == 0
    metrics = _metrics(root)
    assert metrics["mode"] == "plain"
    assert _means(metrics, "tumor") == {"dsc": 1.0, "nsd": 1.0, "n": 1}
    assert metrics["classes"]["liver"]["n"] == 2
    assert set(metrics["cases"]["second"]) == {"liver"}
    assert metrics["cases"]["second"]["liver"]["dsc"] == 2 * 178 / (196 + 178)  # 4*7*7 voxels, 18 of them tumor
    assert metrics["groups"]["cancer"] == {"dsc": 1.0, "nsd": 1.0}
    assert (root / "out" / "scores.csv").read_text().splitlines()[1].startswith("first,liver,1.0,1.0,0.0,")
    assert "2 of 2 cases scored, mode plain" in capsys.readouterr().out
    assert not (root / "out" / "report.html").exists()


def test_what_planning_inferred_is_scored_and_where_it_did_not_that_is_said(root):
    path = root / "raw" / "Tiny" / "dataset.json"
    content = json.loads(path.read_text())
    content["dataset"] = {"second": content["test"].pop("second")}
    del content["dataset"]["second"]["annotated"]
    path.write_text(json.dumps(content))
    assert _evaluate(root) == 0
    assert set(_metrics(root)["cases"]["second"]) == {"liver", "tumor"}
    assert [note.endswith("every label: second (1)") for note in _metrics(root)["notes"]] == [True]
    listed = read_dataset(path.parent)
    inferred = replace(listed.cases[0], annotated=frozenset({1}))
    save_settled(replace(listed, cases=(inferred,)), root / "prepared" / "Tiny" / "dataset.json")
    assert _evaluate(root) == 0
    assert set(_metrics(root)["cases"]["second"]) == {"liver"} and _metrics(root)["notes"] == []


def test_official_scores_every_label(root):
    assert _evaluate(root, "--official") == 0
    metrics = _metrics(root)
    assert metrics["mode"] == "official"
    assert _means(metrics, "tumor") == {"dsc": 0.5, "nsd": 0.5, "n": 2}
    assert metrics["cases"]["second"]["liver"]["dsc"] == 0.9519


def test_a_missing_prediction_is_exit_code_3_after_everything_is_written(root, capsys):
    (root / "predicted" / "first.nii.gz").unlink()
    assert _evaluate(root, "--report") == 3
    cases = _metrics(root)["cases"]
    assert {label: (score["dsc"], score["nsd"]) for label, score in cases["first"].items()} == {
        "liver": (0.0, 0.0),
        "tumor": (0.0, 0.0),
    }
    assert _metrics(root)["lesion_counts"]["tumor"]["below 0.5 ml"] == {"found": 0, "missed": 1, "false": 0}
    assert "first" in _metrics(root)["failed"]
    assert "1 of 2 cases" in capsys.readouterr().err
    assert "first" in (root / "out" / "report.html").read_text()


def test_folders_typed_as_seen_from_here_are_told_to_the_workers_as_seen_from_anywhere(root, monkeypatch, capsys):
    told = []

    def noting(score, pairs, **words):
        told.extend(file for pair in pairs for file in (pair.truth, pair.prediction))
        return map_cases(score, pairs, **words)

    monkeypatch.setattr("flarenet.evaluation.pairs.map_cases", noting)
    monkeypatch.chdir(root)
    assert main(["-p", "predicted", "-g", "raw/Tiny/labelsTs", "-o", "out", "-d", "Tiny", "--workers", "1"]) == 0
    folders = (root / "raw" / "Tiny" / "labelsTs", root / "predicted")
    assert told == [folder / f"{name}.nii.gz" for name in TABLE for folder in folders]
    assert f"written: {root / 'out'}" in capsys.readouterr().out


def test_s15_what_is_written_tells_no_folders(root):
    (root / "predicted" / "first.nii.gz").unlink()
    (root / "raw" / "Tiny" / "labelsTs" / "second.nii.gz").write_bytes(b"this is no image")
    assert _evaluate(root, "--report") == 3
    failed = _metrics(root)["failed"]
    assert failed["first"] == "no prediction first.nii.gz"
    assert failed["second"].startswith("ground truth: second.nii.gz\n")
    (root / "predicted" / "second.nii.gz").unlink()
    assert _evaluate(root, "--report") == 3
    assert _metrics(root)["notes"] == ["no label map in predicted"]
    for path in (root / "out").rglob("*"):
        assert path.is_dir() or str(root).encode() not in path.read_bytes(), path


def test_a_missing_prediction_is_left_out_where_that_is_asked(root):
    (root / "predicted" / "first.nii.gz").unlink()
    assert _evaluate(root, "--skip-missing") == 0
    metrics = _metrics(root)
    assert list(metrics["cases"]) == ["second"] and metrics["expected"] == metrics["scored"] == 1
    assert metrics["notes"] == ["without a prediction, left out as requested: first (1)"]


def test_pictures_and_report(root):
    images = root / "raw" / "Tiny" / "imagesTs"
    assert _evaluate(root, "--images", str(images), "--workers", "2") == 0
    for name in TABLE:
        assert (root / "out" / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (root / "out" / "report.html").read_text().count("data:image/png;base64,") == 2


@pytest.mark.parametrize("channel, shown", [("CT", True), ("T1", False)])
def test_pictures_are_drawn_as_of_the_kind_of_scan(root, monkeypatch, channel, shown):
    asked, path = [], root / "raw" / "Tiny" / "dataset.json"
    path.write_text(path.read_text().replace('"CT"', f'"{channel}"'))

    def draw(*_, path, is_ct, **__):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        asked.append(is_ct)

    monkeypatch.setattr("flarenet.evaluation.gallery.overlay", draw)
    assert _evaluate(root, "--images", str(path.parent / "imagesTs")) == 0
    assert asked == [shown] * 2


def test_an_image_that_cannot_be_drawn_is_named_and_the_scores_stand(root, capsys):
    images = root / "raw" / "Tiny" / "imagesTs"
    (images / "first_0000.nii.gz").write_bytes(b"no image")
    assert _evaluate(root, "--images", str(images)) == 0
    assert "no picture of first" in capsys.readouterr().err
    assert (root / "out" / "report.html").read_text().count("data:image/png;base64,") == 1


def test_pictures_are_not_drawn_where_there_is_no_memory_for_them(root, monkeypatch, capsys):
    """Of 250 MB scoring takes 200 here, drawing 300."""
    monkeypatch.setattr("flarenet.data.cases.available_mb", lambda: 250.0)
    assert _evaluate(root, "--images", str(root / "raw" / "Tiny" / "imagesTs")) == 0
    assert capsys.readouterr().err.count("about 300 MB for this case") == 2


def test_files_whose_forms_disagree_are_scored_and_drawn_as_was_asked(root):
    for path in root.rglob("*.nii.gz"):
        move_the_qform(path)
    assert _evaluate(root) == 3
    assert "--affine sform" in _metrics(root)["failed"]["first"]
    images = root / "raw" / "Tiny" / "imagesTs"
    assert _evaluate(root, "--affine", "sform", "--images", str(images)) == 0
    assert {path.stem for path in (root / "out" / "pictures").iterdir()} == set(TABLE)


def test_a_folder_in_which_another_run_is_at_work_is_left_alone(root, capsys, monkeypatch):
    monkeypatch.setattr("flarenet.lock._PATIENCE_S", 0.05)
    (root / "out" / "pictures").mkdir(parents=True)
    left = [root / "out" / ".lock", root / "out" / "pictures" / ".0123456789ab.tmp.first.png"]
    for path in left:
        path.write_text("4711\nanother-host\n")
    assert _evaluate(root) == 6
    assert "process 4711 on another-host" in capsys.readouterr().err
    assert [path for path in sorted((root / "out").rglob("*")) if path.is_file()] == left


def test_unknown_set_and_missing_folder(root, capsys):
    assert _evaluate(root, dataset="Tiyn") == 2
    assert "Tiny" in capsys.readouterr().err
    (root / "predicted").rename(root / "gone")
    assert _evaluate(root) == 4
    assert "predicted" in capsys.readouterr().err
