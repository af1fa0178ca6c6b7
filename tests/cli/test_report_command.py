import json
import shutil

import nibabel
import numpy as np
import pytest

from flarenet.cli.evaluate import main as evaluate
from flarenet.cli.plan import main as plan
from flarenet.cli.report import main
from flarenet.cli.report import make_parser as report_parser
from flarenet.lock import locked
from flarenet.phantom import write_phantom_set
from tests.unsure import move_the_qform


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A root with two phantom test cases, and two models: the truth itself, and the truth moved by a voxel."""
    root = tmp_path_factory.mktemp("root")
    write_phantom_set(root / "raw" / "P", cases=1, test_cases=2, seed=3, detail=0.6)
    for path in (root / "raw" / "P" / "labelsTs").iterdir():
        drawn = nibabel.load(path)
        for name, moved in (("right", 0), ("beside", 1)):
            (root / name).mkdir(exist_ok=True)
            data = np.roll(np.asarray(drawn.dataobj), moved, axis=0)
            nibabel.save(nibabel.Nifti1Image(data, drawn.affine, drawn.header), root / name / path.name)
    return root


def _report(root, *models, out="report", more=()):
    raw = root / "raw" / "P"
    places = ["-g", str(raw / "labelsTs"), "-d", "P", "--root", str(root), "-o", str(root / out)]
    return main(["-p", *models, *places, "--workers", "1", *more])


def test_two_models_side_by_side(made, capsys):
    assert _report(made, f"A & B={made / 'right'}", str(made / "beside"), more=["--published"]) == 0
    page = (made / "report" / "report.html").read_text()
    for words in ("A &amp; B", "beside", "100.00 ± 0.00", "published, Table 6", "too few"):
        assert words in page
    files = {path.name for path in (made / "report" / "files").iterdir()}
    assert {"scores.csv", "scores.tex", "boxes.svg", "boxes.png", "differences.csv"} <= files
    assert (made / "report" / "scores" / "beside" / "metrics.json").is_file()
    assert "report.html" in capsys.readouterr().out


def test_one_report_at_a_time_is_written_and_what_a_killed_one_left_goes(made, capsys):
    out = made / "killed"
    places = [out, out / "files", out / "scores" / "A", out / "scores" / "A" / "cases"]
    left = [folder / ".0123456789ab.tmp.boxes.svg" for folder in places]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("<svg")
    with locked(out):
        assert _report(made, f"A={made / 'right'}", out="killed") == 6
    assert "in use by process" in capsys.readouterr().err and all(path.is_file() for path in left)
    assert _report(made, f"A={made / 'right'}", out="killed") == 0
    assert not list(out.rglob(".*"))


def test_folders_that_were_scored_are_not_scored_again(made):
    words = ["-g", str(made / "raw" / "P" / "labelsTs"), "-d", "P", "--root", str(made), "-o", str(made / "scored")]
    assert evaluate(["-p", str(made / "beside"), *words, "--workers", "1"]) == 0
    metrics = json.loads((made / "scored" / "metrics.json").read_text())
    metrics["classes"]["liver"]["dsc"] = 0.1234
    (made / "scored" / "metrics.json").write_text(json.dumps(metrics))
    assert _report(made, f"A={made / 'scored'}", out="again") == 0
    assert "12.34" in (made / "again" / "report.html").read_text()
    assert _report(made, f"A={made / 'scored'}", out="again", more=["--official"]) == 4


def test_images_add_pictures_and_slices(made, tmp_path):
    """Before there is more than scores, which would be drawn too."""
    images = ["--images", str(made / "raw" / "P" / "imagesTs")]
    one, other = f"A={made / 'right'}", f"B={made / 'beside'}"
    assert _report(made, one, other, out="pictures", more=[*images, "--browse", "1"]) == 0
    page = (made / "pictures" / "report.html").read_text()
    assert page.count("data:image/webp") == 1 and page.count('"case": ') == 1 and "1 of 2 cases" in page
    assert {"best_and_worst.png", "best_and_worst.svg"} <= {path.name for path in (made / "pictures/files").iterdir()}
    assert _report(made, one, out="pictures", more=[*images, "--browse", "0"]) == 0
    assert 'class="browser"' not in (made / "pictures" / "report.html").read_text()
    assert _report(made, one, out="pictures", more=["--images", str(tmp_path)]) == 4


def test_a_missing_prediction_is_told_after_the_page_is_written(made, capsys):
    (made / "lacking").mkdir()
    kept, *_ = (made / "right").iterdir()
    (made / "lacking" / kept.name).write_bytes(kept.read_bytes())
    assert _report(made, f"L={made / 'lacking'}", out="failed") == 3
    assert "L: 1 failed, which count as 0" in (made / "failed" / "report.html").read_text()
    assert "1 of 2 predictions" in capsys.readouterr().err


def test_names_are_told_apart(made, capsys):
    assert _report(made, f"A={made / 'right'}", f"A={made / 'beside'}") == 2
    assert "two models" in capsys.readouterr().err
    assert _report(made, f".A={made / 'right'}") == 7


def test_folders_typed_as_seen_from_here_are_told_to_the_workers_as_seen_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = ["-g", "truth", "-o", "out", "--images", "scans", "--model", "M=run", "-d", "P"]
    told = report_parser().parse_args(["-p", "a", "B=b", *places])
    assert told.predictions == [("a", tmp_path / "a"), ("B", tmp_path / "b")]
    assert told.model == [("M", tmp_path / "run")]
    assert (told.truth, told.out, told.images) == (tmp_path / "truth", tmp_path / "out", tmp_path / "scans")


@pytest.mark.parametrize(
    "typed, name, folder",
    [
        ("ours=/runs/lr=0.1/pred", "ours", "/runs/lr=0.1/pred"),
        ("/runs/lr=0.1", "lr=0.1", "/runs/lr=0.1"),
        ("./lr=0.1", "lr=0.1", "lr=0.1"),
        ("lr=0.1", "lr", "0.1"),
    ],
)
def test_the_path_of_a_folder_may_hold_an_equals_sign(tmp_path, monkeypatch, typed, name, folder):
    monkeypatch.chdir(tmp_path)
    told = report_parser().parse_args(["-p", typed, "-g", "truth", "-o", "out", "-d", "P", "--model", typed])
    assert told.predictions == told.model == [(name, tmp_path / folder)]


@pytest.mark.parametrize("typed", ["A=", "=a", " =a", ""])
def test_a_name_without_a_folder_or_the_reverse_is_refused(typed, capsys):
    with pytest.raises(SystemExit):
        report_parser().parse_args(["-p", typed, "-g", "truth", "-o", "out", "-d", "P"])
    assert "is not NAME=DIR" in capsys.readouterr().err


def test_what_lies_beside_becomes_sections(made):
    cost = dict(size=[90, 70, 50], seconds=3.0, gpu_peak_mb=None, gpu_area_mb_s=None, cpu_percent=99.0, peak_rss_mb=7.0)
    case = sorted(path.name for path in (made / "right").iterdir())[0].removesuffix(".nii.gz")
    (made / "right" / "efficiency.json").write_text(json.dumps({"device": "a processor", "cases": {case: cost}}))
    (made / "run").mkdir()
    epoch = {"epoch": 1, "learning_rate": 0.1, "losses": {"loss": 0.25}, "timing": {"seconds": 36.0}}
    (made / "run" / "log.jsonl").write_text(json.dumps(epoch) + "\n")
    assert plan(["-d", "P", "--root", str(made), "--fingerprint"]) == 0
    assert _report(made, f"A={made / 'right'}", out="all", more=["--model", f"A={made / 'run'}", "--published"]) == 0
    page = (made / "all" / "report.html").read_text()
    for words in ('id="efficiency"', 'id="training"', 'id="dataset"', "published, Table 7", "0.2500", "C1"):
        assert words in page
    assert 'id="plan"' not in page  # it was only measured
    files = {path.name for path in (made / "all" / "files").iterdir()}
    assert {"efficiency.csv", "training_loss.svg", "annotated.tex", "spacing.png"} <= files


def test_a_broken_log_is_told_before_anything_is_scored(made, capsys):
    (made / "broken").mkdir()
    (made / "broken" / "log.jsonl").write_text("{}\n")
    assert _report(made, f"A={made / 'right'}", out="none", more=["--model", f"A={made / 'broken'}"]) == 4
    assert "log.jsonl, line 1" in capsys.readouterr().err
    assert not (made / "none").exists()


def test_files_whose_forms_disagree_are_scored_and_shown_as_was_asked(made, tmp_path):
    for folder in ("raw", "right"):
        shutil.copytree(made / folder, tmp_path / folder)
    for path in tmp_path.rglob("*.nii.gz"):
        move_the_qform(path)
    more = ["--images", str(tmp_path / "raw" / "P" / "imagesTs"), "--browse", "1"]
    assert _report(tmp_path, f"A={tmp_path / 'right'}", more=[*more, "--affine", "qform"]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "100.00 ± 0.00" in page and page.count('"case": ') == 1 and "Could not be drawn" not in page
