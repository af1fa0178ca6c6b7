"""flarenet_predict: what it writes, what it says, how it ends."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from pydicom import dcmread

from flarenet.cli.predict import main
from flarenet.data.labels import LabelSet
from flarenet.errors import StorageError
from flarenet.inference import opening
from flarenet.inference.models.model import save_model
from flarenet.inference.outputs.label_file import LabelFile
from flarenet.inference.outputs.run_report import BEGUN, RunReport
from flarenet.inference.predict import Predictor
from flarenet.networks import build
from flarenet.networks.traced import CONVERTED
from flarenet.planning.plan import Configuration, NetworkSpec, Plan, Step, Subset, TrainerPlan
from flarenet.whole import sha256_of, temporary_of
from tests.data.dicom_series import with_study, write_series
from tests.unreadable import make_unreadable

pytestmark = pytest.mark.usefixtures("torch_alone")

LABELS = LabelSet(names=("background", "liver"), groups={"organ": (1,)})


@pytest.fixture
def root(tmp_path):
    """A root with one finished model (random weights) and a folder of two scans."""
    torch.manual_seed(0)
    network = NetworkSpec(kind="unet", dimensions=2, features=(2,) * 6, groups=("organ",))
    step = Step(
        subset=Subset(patterns=((1,),)),
        groups=("organ",),
        batch_size=1,
        batches_per_epoch=1,
        epochs=1,
        learning_rate=1.0,
    )
    spacing = (None, 1.0, 1.0)
    plan = Plan(
        recipe="auto",
        dataset="Toy",
        labels=LABELS,
        fingerprint_hash="0",
        configurations={
            "2d": Configuration(
                spacing_mm=spacing, inference_spacing_mm=spacing, patch=(32, 32), clip_hu=(-200.0, 300.0)
            )
        },
        trainers={"Toy2D": TrainerPlan(configuration="2d", network=network, steps=(step,))},
    )
    folder = tmp_path / "runs" / "Toy" / "Toy2D" / "step_1"
    save_model(folder, build(network, LABELS.outputs), plan=plan, trainer="Toy2D", step=1, summary={})
    scans = tmp_path / "scans"
    scans.mkdir()
    data = np.random.default_rng(0).integers(-1000, 1000, (20, 21, 5)).astype(np.int16)
    for name in ("a_0000.nii.gz", "b.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(data, np.diag([-1, -1, 3, 1])), scans / name)
    return tmp_path


def predict(root, *more, scans="scans"):
    return main(["-i", str(root / scans), "-o", str(root / "out"), "--root", str(root), "--device", "cpu", *more])


def written(root):
    return sorted(path.name for path in (root / "out").glob("*.nii*")) if (root / "out").exists() else []


def is_as_unbroken(root):
    """Whether the label maps are, byte for byte, those of a run in a folder of its own."""
    place = root / "unbroken"
    assert main(["-i", str(root / "scans"), "-o", str(place), "--root", str(root), "--device", "cpu"]) == 0
    names = {path.name for path in place.glob("*.nii.gz")}
    return set(written(root)) == names and all(
        (root / "out" / name).read_bytes() == (place / name).read_bytes() for name in names
    )


def test_an_ambiguous_scan_needs_a_word_and_is_told_of(root, capsys):
    data = np.random.default_rng(0).integers(-1000, 1000, (20, 21, 5)).astype(np.int16)
    image = nibabel.Nifti1Image(data, np.diag([-1, -1, 3, 1]))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    (root / "odd").mkdir()
    nibabel.save(image, root / "odd" / "c.nii.gz")
    assert predict(root, scans="odd") == 4
    assert "--assume-affine" in capsys.readouterr().err
    assert predict(root, "--assume-affine", scans="odd") == 0
    said = capsys.readouterr().err
    assert "c.nii.gz: warning" in said and "taken as RAS" in said
    assert int(nibabel.load(root / "out" / "c.nii.gz").header["sform_code"]) == 0


def test_a_folder_with_the_newest_model(root, capsys, monkeypatch):
    monkeypatch.setattr("flarenet.inference.engines.engine.CONVERTED", CONVERTED)  # by the engine that a user gets
    assert predict(root) == 0
    assert written(root) == ["a.nii.gz", "b.nii.gz"]
    printed = capsys.readouterr()
    assert "step_1" in printed.err
    assert [line.split()[0] for line in printed.out.splitlines()] == ["a_0000.nii.gz", "b.nii.gz"]
    assert " s " in printed.out and " MB" in printed.out


def test_a_name_that_is_no_utf8_is_a_name_like_any_other(root, capsys):
    name = os.fsdecode(b"M\xfcller.nii.gz")
    (root / "scans" / "b.nii.gz").rename(root / "scans" / name)
    for more in ([], ["--continue"]):
        assert predict(root, *more) == 0
        assert written(root) == ["a.nii.gz", name] or written(root) == [name, "a.nii.gz"]
        (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(r"M\udcfcller.nii.gz -> ")]
        assert said.endswith("done before") == bool(more)
        assert sorted(report(root)["cases"]) == [r"M\udcfcller", "a"]


def test_one_file_to_one_file(root):
    out = root / "deep" / "answer.nii.gz"
    assert main(["-i", str(root / "scans" / "b.nii.gz"), "-o", str(out), "--root", str(root), "--batch-size", "1"]) == 0
    assert nibabel.load(out).shape == (20, 21, 5) and nibabel.load(out).get_data_dtype() == np.uint8


def test_a_name_of_another_kind_of_file_is_no_folder_unless_it_is_one(root, capsys):
    words = ["-i", str(root / "scans" / "b.nii.gz"), "-o", str(root / "b.PNG"), "--root", str(root)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "b.PNG\n  found: the name of another kind of file\n  expected: a folder, or a name that ends in" in said
    assert not (root / "b.PNG").exists()
    (root / "b.PNG").mkdir()
    assert main(words) == 0 and (root / "b.PNG" / "b.nii.gz").is_file()


def test_some_failed_then_all_failed(root, capsys):
    (root / "scans" / "a_0000.nii.gz").write_bytes(b"this is no image")
    assert predict(root) == 3
    assert written(root) == ["b.nii.gz"]
    assert "a_0000.nii.gz" in capsys.readouterr().err
    (root / "scans" / "b.nii.gz").unlink()
    assert predict(root) == 4


def test_where_nothing_can_be_written_the_scans_are_not_to_blame(root, capsys):
    (root / "notes").write_text("no folder")
    words = ["-i", str(root / "scans" / "b.nii.gz"), "-o", str(root / "notes" / "b.nii.gz"), "--root", str(root)]
    assert main(words) == 5
    assert "no image could be predicted\n  found: failures in b.nii.gz" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told_before_any_work(root, capsys, monkeypatch):
    monkeypatch.setattr("flarenet.inference.predict.Predictor", lambda *_, **__: pytest.fail("a model is read"))
    (root / "notes").write_text("no folder")
    assert main(["-i", str(root / "scans"), "-o", str(root / "notes" / "out"), "--root", str(root)]) == 5
    said = capsys.readouterr().err
    assert str(root / "notes" / "out") in said and "expected: a folder that can be written" in said


def test_one_who_interrupts_is_told_how_the_rest_is_done(root, capsys, monkeypatch):
    words = ["-i", str(root / "scans"), "-o", str(root / "out"), "--root", str(root)]

    def interrupted(*said, say=print, **where):
        if "a.nii.gz" in str(said):
            raise KeyboardInterrupt
        say(*said, **where)

    monkeypatch.setattr("builtins.print", interrupted)
    code = main(words)
    monkeypatch.undo()
    assert code == 130 and "the same command with --continue resumes" in capsys.readouterr().err
    assert sorted(os.listdir(root / "out")) == ["a.nii.gz", "report.json"]
    assert main([*words, "--continue"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "a.nii.gz" in first and first.endswith("done before") and "b.nii.gz" in second
    # of one file there is no rest, and --continue is refused
    monkeypatch.setattr("builtins.print", interrupted)
    code = main(["-i", str(root / "scans" / "b.nii.gz"), "-o", str(root / "data.nii.gz"), "--root", str(root)])
    monkeypatch.undo()
    assert code == 130 and "the same command resumes" in capsys.readouterr().err


def test_an_empty_folder(root, capsys):
    (root / "empty").mkdir()
    assert predict(root, scans="empty") == 4
    said = capsys.readouterr().err
    assert str(root / "empty") in said and "empty folder" in said and not (root / "out").exists()


def test_a_trainer_s_folder_is_its_folds_and_the_fusion_is_what_is_said(root, capsys):
    trainer = root / "runs" / "Toy" / "Toy2D"
    shutil.copytree(trainer / "step_1", trainer / "fold_2" / "step_1")
    (trainer / "fold_3" / "step_1").mkdir(parents=True)
    assert predict(root, "-m", str(trainer)) == 0
    said = capsys.readouterr().err
    assert f"{trainer / 'fold_2' / 'step_1'} + {trainer / 'step_1'} on cpu" in said
    assert f"flarenet_predict: warning: {trainer} answers without fold_3, where step_1 is not finished" in said
    shutil.copytree(root / "runs" / "Toy", root / "runs" / "Other")
    assert predict(root, "-d", "Toy", "--set", 'fusion.least_ml={"liver": 1000}') == 0
    said = capsys.readouterr().err
    assert f"{trainer / 'fold_2' / 'step_1'} + {trainer / 'step_1'} on cpu" in said and "-d NAME" not in said
    assert not nibabel.load(root / "out" / "b.nii.gz").get_fdata().any()
    assert predict(root, "--set", "fusion.largest=[liver]") == 4
    assert "is the newest; -d NAME chooses that of a data set: Other, Toy" in capsys.readouterr().err
    assert predict(root, "-d", "Tox") == 2
    assert "did you mean 'Toy'?" in capsys.readouterr().err


def test_an_unknown_model_lists_the_real_ones(root, capsys):
    assert predict(root, "-m", str(root / "runs" / "Toy" / "Toy2D" / "step_2")) == 2
    message = capsys.readouterr().err
    assert f"did you mean '{root / 'runs' / 'Toy' / 'Toy2D' / 'step_1'}'" in message and "Traceback" not in message


def test_an_unfinished_model(root, capsys):
    folder = root / "runs" / "Toy" / "Toy2D" / "step_1"
    (folder / "about.json").unlink()
    assert predict(root, "-m", str(folder)) == 4
    assert predict(root) == 2
    assert "no finished model" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--device", "gpu"], ["--precision", "int3"]])
def test_words_that_name_nothing(root, words, capsys):
    assert predict(root, *words) == 2
    assert words[1] in capsys.readouterr().err and written(root) == []


def test_a_folder_whose_scans_would_be_replaced_is_refused_before_any_work(root, capsys, monkeypatch):
    monkeypatch.setattr("flarenet.inference.predict.Predictor", lambda *_, **__: pytest.fail("a model is read"))
    scans = root / "scans"
    assert main(["-i", str(scans), "-o", str(scans), "--root", str(root)]) == 2
    assert f"output {scans / 'b.nii.gz'}\n  found: an input image of that name" in capsys.readouterr().err
    assert sorted(os.listdir(scans)) == ["a_0000.nii.gz", "b.nii.gz"]


def test_a_file_name_for_a_folder_of_images(root):
    assert main(["-i", str(root / "scans"), "-o", str(root / "out.nii.gz"), "--root", str(root)]) == 2


def test_a_series_goes_to_one_file_unless_images_or_series_lie_in_its_folder(root):
    """Next to an image the series is ignored, as the warning says: it is not predicted in the image's place."""
    series, out = root / "series", root / "out.nii.gz"
    words = ["-i", str(series), "-o", str(out), "--root", str(root), "--device", "cpu"]
    data = np.random.default_rng(0).integers(-1000, 1000, (4, 20, 21)).astype(np.int16)
    write_series(series, data)
    shutil.copy(root / "scans" / "b.nii.gz", series / "b.nii.gz")
    assert main(words) == 2 and not out.exists()
    (series / "b.nii.gz").unlink()
    write_series(series / "two", data)
    assert main(words) == 2 and not out.exists()
    shutil.rmtree(series / "two")
    assert main(words) == 0 and nibabel.load(out).shape == (21, 20, 4)


def report(root):
    return json.loads((root / "out" / "report.json").read_text())


def test_statistics_and_previews_lie_beside_the_label_maps(root, capsys):
    (root / "scans" / "c.nii.gz").write_bytes(b"this is no image")
    assert predict(root, "--statistics", "--preview") == 3
    assert written(root) == ["a.nii.gz", "b.nii.gz"]
    rows = list(csv.DictReader((root / "out" / "statistics.csv").read_text().splitlines()))
    drawn = np.asarray(nibabel.load(root / "out" / "a.nii.gz").dataobj)
    image = nibabel.load(root / "scans" / "a_0000.nii.gz").get_fdata()[drawn == 1]
    assert [(row["case"], row["label"]) for row in rows] == [("a", "liver"), ("b", "liver")]
    assert float(rows[0]["volume_ml"]) == pytest.approx(3 * len(image) / 1000) and len(image) > 0
    assert float(rows[0]["mean_hu"]) == pytest.approx(image.mean())
    assert sorted(path.name for path in (root / "out" / "previews").iterdir()) == ["a.png", "b.png"]
    said = report(root)
    assert list(said["cases"]) == ["a", "b", "c"] and "no gzip" not in said["cases"]["c"]["error"]
    assert said["cases"]["c"]["files"] == {} and "c.nii.gz" in said["cases"]["c"]["error"]
    assert set(said["cases"]["a"]["files"]) == {"a.nii.gz", "previews/a.png", "statistics/a.json"}
    assert (
        said["cases"]["a"]["seconds"] > 0
        and said["cases"]["a"]["stage_s"]["network"] >= 0
        and said["settings"]["labels"] == ["liver"]
    )
    assert said["settings"]["engine"].startswith("torch ") and said["settings"]["device"] == "cpu"


def test_the_tables_lack_a_case_whose_statistics_are_moved_away(root, capsys, monkeypatch):
    told = RunReport.told

    def move_then_be_told(self, image, result):
        if image.name == "b.nii.gz":
            (root / "out" / "statistics" / "b.json").unlink()
        told(self, image, result)

    monkeypatch.setattr(RunReport, "told", move_then_be_told)
    assert predict(root, "--statistics") == 0
    rows = list(csv.DictReader((root / "out" / "statistics.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == ["a"]
    assert "the tables lack cases whose statistics were moved away: b" in capsys.readouterr().err


def test_continue_leaves_out_only_what_is_verified(root, capsys):
    def again(*more):
        capsys.readouterr()
        assert predict(root, "--continue", *more) == 0
        return {line.split()[0]: "done before" in line for line in capsys.readouterr().out.splitlines()}

    both = {"a_0000.nii.gz": True, "b.nii.gz": True}
    (root / "out").mkdir()
    (root / "out" / ".0123456789ab.tmp.a.nii.gz").write_bytes(b"of a killed run")
    assert not any(again().values())  # nothing to go on from
    assert [path.name for path in (root / "out").glob(".*")] == []
    assert again() == both
    assert list(report(root)["cases"]) == ["a", "b"]
    # the file of the answer
    content = (root / "out" / "a.nii.gz").read_bytes()
    (root / "out" / "a.nii.gz").write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    assert again() == {**both, "a_0000.nii.gz": False}
    assert (root / "out" / "a.nii.gz").read_bytes() == content
    (root / "out" / "b.nii.gz").unlink()
    assert again() == {**both, "b.nii.gz": False}
    # the scan: another time alone changes nothing, other bytes do
    os.utime(root / "scans" / "a_0000.nii.gz", (1, 1))
    assert again() == both
    data = np.random.default_rng(1).integers(-1000, 1000, (20, 21, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-1, -1, 3, 1])), root / "scans" / "a_0000.nii.gz")
    assert again() == {**both, "a_0000.nii.gz": False}
    # the settings and the outputs
    assert not any(again("--set", "fusion.flips=true").values())
    assert not any(again().values())
    assert not any(again("--statistics").values())
    assert again("--statistics") == both
    assert len((root / "out" / "statistics.csv").read_text().splitlines()) == 3
    (root / "out" / "statistics" / "b.json").unlink()
    assert again("--statistics") == {**both, "b.nii.gz": False}


def test_what_moves_away_or_changes_meanwhile_ends_nothing_and_is_predicted_again(root, capsys, monkeypatch):
    """When its label map is there, the scan a is moved away, and b is replaced; in the next run the answer to a is."""
    a, b = root / "scans" / "a_0000.nii.gz", root / "scans" / "b.nii.gz"
    other = np.random.default_rng(1).integers(-1000, 1000, (20, 21, 5)).astype(np.int16)
    changes = [
        lambda: a.rename(root / a.name),
        lambda: nibabel.save(nibabel.Nifti1Image(other, np.diag([-1, -1, 3, 1])), b),
        lambda: (root / "out" / "a.nii.gz").unlink(),
    ]
    told = RunReport.told

    def change_then_be_told(self, image, result):
        if changes:
            changes.pop(0)()
        told(self, image, result)

    monkeypatch.setattr(RunReport, "told", change_then_be_told)
    assert predict(root) == 0 and written(root) == ["a.nii.gz", "b.nii.gz"]
    assert [case["input"] for case in report(root)["cases"].values()] == [None, None]
    (root / a.name).rename(a)
    assert predict(root, "--continue") == 0 and report(root)["cases"]["a"]["files"] == {"a.nii.gz": None}
    assert report(root)["cases"]["b"]["input"]["sha256"] == sha256_of(b)
    assert predict(root, "--continue") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0][0] for line in lines] == ["a", "b", "a", "b", "b", "a"]
    assert [line.endswith("done before") for line in lines] == [False, False, False, False, True, False]
    assert is_as_unbroken(root)


def test_a_scan_or_an_answer_that_cannot_be_read_ends_no_run_that_goes_on(root, capsys):
    """The scan a is a link to a file that has been moved; the answer to b cannot be read."""
    a, target = root / "scans" / "a_0000.nii.gz", root / "a_0000.nii.gz"
    a.rename(target)
    a.symlink_to(target)
    assert predict(root) == 0
    target.rename(root / "moved.nii.gz")
    make_unreadable(root / "out" / "b.nii.gz")
    assert predict(root, "--continue") == 3
    cases = report(root)["cases"]
    assert "a broken link" in cases["a"]["error"] and cases["b"]["error"] is None
    assert written(root) == ["b.nii.gz"]


def test_continue_keeps_the_cases_of_earlier_calls(root, capsys):
    """b alone, then a alone: report and table hold both, and neither is predicted again."""
    (root / "later").mkdir()
    (root / "scans" / "a_0000.nii.gz").rename(root / "later" / "a_0000.nii.gz")
    assert predict(root, "--statistics") == 0
    assert predict(root, "--statistics", "--continue", scans="later") == 0
    assert sorted(report(root)["cases"]) == ["a", "b"]
    table = (root / "out" / "statistics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in table] == ["case", "a", "b"]
    capsys.readouterr()
    assert predict(root, "--statistics", "--continue") == 0
    assert capsys.readouterr().out.strip().endswith("done before")
    # a case whose files are gone has not been answered
    (root / "out" / "b.nii.gz").unlink()
    (root / "later" / "a_0000.nii.gz").touch()
    (root / "out" / "a.nii.gz").unlink()
    assert predict(root, "--statistics", "--continue", scans="later") == 0
    assert list(report(root)["cases"]) == ["a"]
    # nor has one of other settings
    assert predict(root, "--continue") == 0
    assert list(report(root)["cases"]) == ["b"]


def test_a_scan_that_gets_the_process_killed_is_named_and_keeps_no_other_from_being_done(root, capsys):
    """Killed while it writes the answer to a: b is done first, then a, alone."""
    line = [sys.executable, "-m", "flarenet.cli.predict", "-i", root / "scans", "-o", root / "out", "--device", "cpu"]
    line += ["--engine", "torch"]  # as the rest of this file predicts
    killed = {**os.environ, "FLARENET_FAILPOINT": "a.nii.gz:half"}
    done = subprocess.run([*map(str, line), "--root", str(root)], env=killed, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert "the process ended before it was done" in report(root)["cases"]["a"]["error"]
    assert [name for name in sorted(os.listdir(root / "out")) if name[0] != "."] == ["report.json"]
    assert predict(root, "--continue") == 0
    said = capsys.readouterr()
    assert "begun before but not finished, so these come last: a_0000.nii.gz" in said.err
    assert [line.split()[0] for line in said.out.splitlines()] == ["b.nii.gz", "a_0000.nii.gz"]
    assert written(root) == ["a.nii.gz", "b.nii.gz"] and report(root)["cases"]["a"]["error"] is None
    assert is_as_unbroken(root)


def test_sigterm_in_the_middle_of_a_scan_leaves_nothing_of_it_and_the_rest_is_done_later(root, capsys, monkeypatch):
    take, taken = LabelFile.take, []

    def told_to_end(self, finished):
        take(self, finished)
        taken.append(finished.z)
        if len(taken) == 5 + 2:  # the second slice of b
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(LabelFile, "take", told_to_end)
    assert predict(root) == 75
    monkeypatch.undo()
    assert "ended by SIGTERM; the same command with --continue resumes from here" in capsys.readouterr().err
    assert sorted(os.listdir(root / "out")) == ["a.nii.gz", "report.json"]
    assert predict(root, "--continue") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("a_0000.nii.gz") and first.endswith("done before") and second.startswith("b.nii.gz")
    assert is_as_unbroken(root)


def test_leftovers_of_this_runs_files_are_removed_and_another_runs_file_is_left_alone(root):
    (root / "out" / "statistics").mkdir(parents=True)
    for leftover in ("out/.0123456789ab.tmp.a.nii.gz", "out/.0123456789ab.tmp.report.json", "out/.ab.tmp.other.nii.gz"):
        (root / leftover).write_bytes(b"half")
    (root / "out" / "statistics" / ".0123456789ab.tmp.b.json").write_bytes(b"half")
    assert predict(root, "--statistics") == 0
    assert [path.name for path in sorted((root / "out").rglob(".*"))] == [".ab.tmp.other.nii.gz"]


def test_leftovers_of_one_named_file_are_removed_and_those_of_other_cases_are_left_alone(root):
    out = root / "out"
    (out / "statistics").mkdir(parents=True)
    ours = (out / ".0123456789ab.tmp.b.nii.gz", out / "statistics" / ".0123456789ab.tmp.b.json")
    others = (out / ".0123456789ab.tmp.bb.nii.gz", out / ".0123456789ab.tmp.report.json")
    for leftover in ours + others:
        leftover.write_bytes(b"half")
    one = ["-i", str(root / "scans" / "b.nii.gz"), "-o", str(out / "b.nii.gz"), "--root", str(root), "--statistics"]
    assert main(one) == 0
    assert sorted(out.rglob(".*")) == sorted(others) and (out / "b.nii.gz").is_file()


def test_a_scan_that_fails_leaves_no_answer_of_an_earlier_run(root, capsys):
    assert predict(root, "--statistics") == 0
    one = ["-i", str(root / "scans" / "b.nii.gz"), "-o", str(root / "alone.nii.gz"), "--root", str(root)]
    assert main(one) == 0
    assert predict(root, "--dicom-seg") == 4  # no series at all: refused before any work
    assert written(root) == ["a.nii.gz", "b.nii.gz"]
    (root / "scans" / "b.nii.gz").write_bytes(b"cut")
    capsys.readouterr()
    assert predict(root, "--statistics", "--set", "fusion.flips=true") == 3
    assert f"removed, since it was from an earlier run: {root / 'out' / 'b.nii.gz'}" in capsys.readouterr().err
    assert written(root) == ["a.nii.gz"]
    assert [path.name for path in (root / "out" / "statistics").iterdir()] == ["a.json"]
    assert main(one) == 4 and not (root / "alone.nii.gz").exists()


def test_a_scan_that_lacked_room_leaves_the_answer_of_an_earlier_run(root, monkeypatch):
    def without_room(self, openers, image, *more):
        raise StorageError("a label file", found="no room", expected="room")

    assert predict(root) == 0
    before = {name: (root / "out" / name).read_bytes() for name in written(root)}
    monkeypatch.setattr(Predictor, "predict_into", without_room)
    assert predict(root) == 5
    assert {name: (root / "out" / name).read_bytes() for name in written(root)} == before and len(before) == 2
    assert all("no room" in case["error"] and case["files"] == {} for case in report(root)["cases"].values())


def test_a_disk_that_fills_up_ends_the_run_at_once(root, capsys, monkeypatch):
    """It takes the first of three label maps. The third scan is not begun: its answer would find no room either."""
    shutil.copy(root / "scans" / "b.nii.gz", root / "scans" / "c.nii.gz")

    full = []

    def on_a_full_disk(target):
        temporary = temporary_of(target)
        full.extend([target] * (target.name == "b.nii.gz"))
        if full:  # from then on, for the report too
            temporary.symlink_to("/dev/full")
        return temporary

    monkeypatch.setattr("flarenet.whole.temporary_of", on_a_full_disk)
    assert predict(root) == 5
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["a_0000.nii.gz"]
    assert f"{root / 'out' / 'b.nii.gz'}\n  found: No space left on device" in said.err and "bytes free" in said.err
    assert report(root)["cases"]["a"]["error"] is None and report(root)["cases"]["b"]["error"] is not None
    assert sorted(os.listdir(root / "out")) == ["a.nii.gz", "report.json"]
    monkeypatch.undo()
    assert predict(root, "--continue") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("done before") for line in lines] == [True, False, False] and is_as_unbroken(root)


def test_f12_a_scan_whose_read_never_ends_costs_itself_alone_and_a_signal_ends_the_run(root, capsys, monkeypatch):
    ended, signals = threading.Event(), []

    def opened(image, *more, real=opening._opened):
        if image.name == "b.nii.gz":
            for number in signals:
                signal.pthread_kill(threading.main_thread().ident, number)
            ended.wait(40)
        return real(image, *more)

    monkeypatch.setattr(opening, "_opened", opened)
    monkeypatch.setattr("flarenet.inference.prefetch.CLOSING_S", 0.1)
    try:
        assert predict(root, "--timeout-s", "5") == 3
        assert written(root) == ["a.nii.gz"] and "not read after 5 s" in report(root)["cases"]["b"]["error"]
        assert predict(root, "--timeout-s", "5", "--continue") == 3
        assert "a.nii.gz  done before" in capsys.readouterr().out
        signals.append(signal.SIGTERM)
        began = time.monotonic()
        assert predict(root) == 75 and time.monotonic() - began < 30
    finally:
        ended.set()


def test_the_report_is_written_once_a_case_and_always_names_the_case_that_is_predicted(root, monkeypatch):
    write, errors = RunReport.write, []

    def seen(self):
        write(self)
        errors.append({name: case["error"] for name, case in report(root)["cases"].items()})

    monkeypatch.setattr(RunReport, "write", seen)
    assert predict(root) == 0
    assert errors == [{"a": BEGUN}, {"a": None, "b": BEGUN}, {"a": None, "b": None}]
    assert predict(root, "--continue") == 0 and len(errors) == 3  # nothing is left to do


def test_the_report_tells_no_folders(root, monkeypatch):
    """Of a scan that fails and of one with a remark (no unit of length) it has the names alone, however these were
    given."""
    (root / "scans" / "b.nii.gz").write_bytes(b"this is no image")
    monkeypatch.chdir(root)
    for start in (root, Path()):
        words = ["-i", str(start / "scans"), "-o", str(start / "out"), "--root", str(start), "--device", "cpu"]
        assert main(words) == 3
        said = report(root)["cases"]
        assert said["b"]["error"].startswith("b.nii.gz\n")
        assert said["a"]["remarks"][0]["file"].startswith("a_0000.nii.gz")
        assert str(root) not in (root / "out" / "report.json").read_text()


@pytest.mark.parametrize("words", [[], ["--continue"]])
def test_a_folder_in_which_another_run_is_at_work_is_left_alone(root, capsys, words):
    (root / "out").mkdir()
    (root / "out" / ".0123456789ab.tmp.a.nii.gz").write_bytes(b"of the other run")
    (root / "out" / ".lock").write_text("4711\nanother-host\n")
    assert predict(root, *words) == 6
    assert "process 4711 on another-host" in capsys.readouterr().err
    assert sorted(os.listdir(root / "out")) == [".0123456789ab.tmp.a.nii.gz", ".lock"]
    one = ["-i", str(root / "scans" / "b.nii.gz"), "-o", str(root / "out" / "b.nii.gz"), "--root", str(root)]
    assert main(one) == 0  # a file needs no folder of its own


def test_probabilities_agree_with_the_label_map(root):
    assert predict(root, "--probabilities") == 0
    shares = nibabel.load(root / "out" / "probabilities" / "a_organ.nii.gz").get_fdata()
    drawn = np.asarray(nibabel.load(root / "out" / "a.nii.gz").dataobj)
    assert shares.shape == (*drawn.shape, 2) and abs(shares.sum(-1) - 1).max() < 0.005
    sure = abs(shares[..., 1] - 0.5) > 0.003  # what rounding to 1/255 leaves no doubt about
    np.testing.assert_array_equal(drawn[sure], shares[..., 1][sure] > 0.5)
    assert 0 < drawn[sure].mean() < 1 and "probabilities/a_organ.nii.gz" in report(root)["cases"]["a"]["files"]


def test_series_become_dicom_segmentations(root, capsys):
    data = np.random.default_rng(0).integers(-1000, 1000, (4, 20, 21)).astype(np.int16)
    write_series(root / "series" / "one", data, change=with_study)
    write_series(root / "series" / "two", data)  # belongs to no study
    (root / "series" / "bad").mkdir()
    (root / "series" / "bad" / "slice").touch()
    make_unreadable(root / "series" / "bad" / "slice")
    assert predict(root, "--dicom-seg", scans="series") == 3
    assert "Input/output error" in report(root)["cases"]["bad"]["error"]
    assert "no StudyInstanceUID" in report(root)["cases"]["two"]["error"]
    assert [path.name for path in (root / "out" / "dicom_seg").iterdir()] == ["one.dcm"]
    assert written(root) == ["one.nii.gz"]
    frames = dcmread(root / "out" / "dicom_seg" / "one.dcm").pixel_array
    assert frames.sum() == np.count_nonzero(nibabel.load(root / "out" / "one.nii.gz").dataobj) > 0
    write_series(root / "scans" / "one", data)
    assert predict(root, "--dicom-seg") == 4
    assert f"ignored next to images: DICOM slices in {root / 'scans' / 'one'}" in capsys.readouterr().err


def test_without_the_extra_for_series_earlier_answers_to_them_stay(root, capsys, monkeypatch):
    write_series(root / "series" / "one")
    (root / "out").mkdir()
    (root / "out" / "one.nii.gz").write_bytes(b"of a run with the extra")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert predict(root, scans="series") == 2
    assert "pip install 'flarenet[dicom]'" in capsys.readouterr().err
    assert os.listdir(root / "out") == ["one.nii.gz"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_cannot_be_read_next_to_images_is_told_of_and_ends_nothing(root, capsys, monkeypatch, kind):
    place = root / "scans" / "other"
    if kind == "file":
        place.touch()
        make_unreadable(place)
    else:
        place.mkdir()
        whole = Path.iterdir

        def failing(folder):
            if folder == place:
                raise PermissionError(errno.EACCES, "Permission denied", str(folder))
            return whole(folder)

        monkeypatch.setattr(Path, "iterdir", failing)
    assert predict(root) == 0
    assert written(root) == ["a.nii.gz", "b.nii.gz"]
    said = capsys.readouterr().err
    assert "warning: ignored next to images: DICOM slices, which could not be looked for: " in said
    assert str(place) in said


def test_continue_wants_a_folder_and_a_report_that_is_one(root, capsys):
    out = ["-o", str(root / "answer.nii.gz"), "--root", str(root), "--continue"]
    assert main(["-i", str(root / "scans" / "b.nii.gz"), *out]) == 2
    (root / "out").mkdir()
    (root / "out" / "report.json").write_text("{")
    assert predict(root, "--continue") == 4
    assert "report.json" in capsys.readouterr().err


def test_a_wrong_label_is_told_with_the_nearest(root, capsys):
    assert predict(root, "--roi", "livr") == 2
    assert "did you mean 'liver'" in capsys.readouterr().err and written(root) == []


def test_batch_size_is_a_count(root, capsys):
    with pytest.raises(SystemExit, match="2"):
        predict(root, "--batch-size", "0")
    assert "at least 1" in capsys.readouterr().err
