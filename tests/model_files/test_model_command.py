"""flarenet_model: what is passed on arrives, says what it is, and predicts."""

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flarenet.cli.model import main
from flarenet.cli.predict import main as predict
from flarenet.inference.models import archive
from flarenet.inference.models import model_file as of_models
from flarenet.inference.models.about import ABOUT, PLAN, WEIGHTS, read_about
from flarenet.inference.models.found import find_models, models_in, newest_model
from flarenet.inference.predict import Predictor
from flarenet.lock import locked
from tests.model_files.small import digest, files_below, members_of, train

RUN = "runs/Toy/Toy2D"


@pytest.fixture
def elsewhere(tmp_path):
    """The root of somebody else."""
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def command(root, *words):
    return main(["--root", str(root), *map(str, words)])


def scan(path):
    data = np.random.default_rng(0).integers(-1000, 1000, (40, 36, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-1, -1, 3, 1])), path)
    return path


def answer(root, out, *words):
    """The label map of one scan."""
    image = scan(root / "scan.nii.gz")
    words = ["-i", image, "-o", out, "--root", root, "--device", "cpu", "--precision", "fp32", *words]
    assert predict([str(word) for word in words]) == 0
    return np.asarray(nibabel.load(out).dataobj)


def test_the_root_may_stand_on_either_side_of_the_action(root, elsewhere, monkeypatch, capsys):
    monkeypatch.chdir(elsewhere)
    listed = []
    for words in (["list"], ["--root", root, "list"], ["list", "--root", root]):
        assert main([str(word) for word in words]) == 0
        listed.append(capsys.readouterr().out)
    here, before, after = listed
    assert before == after and RUN in before and RUN not in here


def test_all_folds_are_passed_on_and_answer_as_at_home(root, elsewhere, tmp_path, capsys):
    file = tmp_path / "liver-v1.zip"
    assert command(root, "export", root / RUN, file) == 0
    assert command(elsewhere, "install", file) == 0
    said = capsys.readouterr().out
    assert "liver-v1: installed in" in said
    assert f"flarenet_predict -m liver-v1 -i IN -o OUT --root {elsewhere}\n" in said
    home = elsewhere / "models" / "liver-v1"
    assert sorted(path.relative_to(home).as_posix() for path in files_below(home)) == [
        "LICENCE.txt",
        *(f"fold_1/step_2/{name}" for name in ("about.json", "plan.json", "weights.safetensors")),
        "manifest.json",
        *(f"step_2/{name}" for name in ("about.json", "plan.json", "weights.safetensors")),
    ]
    at_home = answer(root, tmp_path / "a.nii.gz", "-m", root / RUN)
    assert at_home.any()
    np.testing.assert_array_equal(answer(elsewhere, tmp_path / "b.nii.gz", "-m", "liver-v1"), at_home)
    np.testing.assert_array_equal(answer(elsewhere, tmp_path / "c.nii.gz"), at_home)  # as the newest model


def test_a_predictor_takes_the_folder_of_a_trainer_as_the_command_does(root, tmp_path):
    answered = answer(root, tmp_path / "answer.nii.gz", "-m", root / RUN, "--engine", "torch")
    predictor = Predictor(root / RUN, device="cpu", precision="fp32", engine="torch")
    assert len(predictor.members) == 2
    assert (predictor.predict(root / "scan.nii.gz").labels.T == answered).all()


def test_one_step_of_one_fold_is_passed_on(root, elsewhere, tmp_path):
    assert command(root, "export", f"{RUN}/fold_1/step_2", tmp_path / "one.zip") == 0  # as `list` names it
    assert command(elsewhere, "install", tmp_path / "one.zip", "--name", "other.name_1") == 0
    (model,) = find_models("other.name_1", str(elsewhere))
    assert model == elsewhere / "models" / "other.name_1" / "fold_1" / "step_2"
    assert read_about(model) == read_about(root / RUN / "fold_1" / "step_2")


def test_the_same_models_give_the_same_bytes(root, elsewhere, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    assert command(root, "export", root / RUN, tmp_path / "a" / "toy.zip", "--licence", "CC BY 4.0") == 0
    command(elsewhere, "install", tmp_path / "a" / "toy.zip")
    assert command(elsewhere, "export", "toy", tmp_path / "b" / "toy.zip") == 0  # with its licence
    assert (tmp_path / "a" / "toy.zip").read_bytes() == (tmp_path / "b" / "toy.zip").read_bytes()


def test_a_second_installation_says_so_and_another_model_of_the_name_is_kept(root, elsewhere, model_file, capsys):
    assert command(elsewhere, "install", model_file) == 0
    before = files_below(elsewhere)
    assert command(elsewhere, "install", model_file) == 0
    assert "toy: is installed already" in capsys.readouterr().out
    train(root / RUN / "step_2", seed=5)
    model_file.unlink()
    command(root, "export", f"{RUN}/step_2", model_file)
    assert command(elsewhere, "install", model_file) == 2
    assert "another model of that name" in capsys.readouterr().err
    assert files_below(elsewhere) == before


def test_list_shows_what_m_takes(root, elsewhere, model_file, capsys):
    assert command(elsewhere, "list") == 0
    assert "no finished model" in capsys.readouterr().err
    command(root, "install", model_file)
    capsys.readouterr()
    train(root / "runs" / "Toy" / "Restoring" / "step_1", step=1, groups=())
    assert command(root, "list") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "trainer", "step", "folds", "data", "set", "MB"]
    assert [row.split()[:5] for row in rows] == [
        ["toy", "Toy2D", "2", "2", "Toy"],
        [f"{RUN}/fold_1/step_2", "Toy2D", "2", "1", "Toy"],
        [f"{RUN}/step_2", "Toy2D", "2", "1", "Toy"],
    ]
    for row in rows:
        assert find_models(row.split()[0], str(root))


def test_list_names_a_bad_folder_and_shows_the_others(root, capsys):
    (root / RUN / "fold_1" / "step_2" / "about.json").write_text("{")
    train(root / RUN / "step_3", step=2)
    (root / RUN / "step_3" / "weights.safetensors").unlink()
    assert command(root, "list") == 3
    out, err = capsys.readouterr()
    assert [row.split()[0] for row in out.splitlines()[1:]] == [f"{RUN}/step_2"]
    assert f"{RUN}/fold_1/step_2: " in err and "about.json" in err and "2 of 3 models" in err


@pytest.mark.parametrize("installed", [False, True])
def test_info_tells_what_one_asks_before_using_a_model(root, model_file, installed, capsys):
    if installed:
        command(root, "install", model_file)
        capsys.readouterr()
    assert command(root, "info", "toy" if installed else model_file) == 0
    said = " ".join(capsys.readouterr().out.split())
    for wanted in (
        "trainer: Toy2D, step 2 of 2",
        "data set: Toy",
        "organ: 1 liver",
        "cohorts: liver; unlabelled",
        "cases: 2: case_1, case_2",
        "dice organ: 0.5",
        "No licence was stated",
        "fingerprint: ",
        "weights.safetensors: 10668 bytes, sha256 ",
    ):
        assert wanted in said
    about = members_of(model_file)["step_2/about.json"]
    assert f"about.json: {len(about)} bytes, sha256 {digest(about)}" in said
    assert (root / "models").exists() == installed


def test_cases_can_be_left_out_and_folds_only_with_a_word(root, tmp_path, capsys):
    file = tmp_path / "toy.zip"
    (root / RUN / "fold_2" / "step_2").mkdir(parents=True)
    assert command(root, "export", root / RUN, file, "--without-cases") == 0
    assert f"warning: {root / RUN} answers without fold_2, where step_2 is not finished" in capsys.readouterr().err
    assert not any(b"case_1" in content for content in members_of(file).values())
    command(root, "info", file)
    assert "not stated" in capsys.readouterr().out


def test_no_member_names_a_folder_user_or_host(root, tmp_path):
    """S15 of what is passed on."""
    command(root, "export", root / RUN, tmp_path / "toy.zip")
    for content in members_of(tmp_path / "toy.zip").values():
        for word in (str(tmp_path), os.uname().nodename, str(root)):
            assert word.encode() not in content


def test_a_licence_is_a_text_or_a_file(root, tmp_path):
    (tmp_path / "terms.txt").write_text("For research only.\n")
    for number, words in enumerate(("CC BY 4.0", tmp_path / "terms.txt")):
        command(root, "export", root / RUN, tmp_path / f"m{number}.zip", "--license", words)
    assert members_of(tmp_path / "m0.zip")["LICENCE.txt"] == b"CC BY 4.0\n"
    assert members_of(tmp_path / "m1.zip")["LICENCE.txt"] == b"For research only.\n"


def test_what_steers_a_terminal_is_not_printed(root, tmp_path, capsys):
    command(root, "export", root / RUN, tmp_path / "toy.zip", "--licence", "\x1b]0;owned\x07 CC BY\rno\n")
    command(root, "info", tmp_path / "toy.zip")
    assert not set("\x1b\x07\r") & set(capsys.readouterr().out)


@pytest.mark.parametrize(
    "file, said", [("toy.tar", "ends in .zip"), ("there.zip", "a file that exists"), ("a b.zip", "letters, digits")]
)
def test_where_a_model_file_cannot_go(root, tmp_path, file, said, capsys):
    (tmp_path / "there.zip").write_bytes(b"mine")
    assert command(root, "export", root / RUN, tmp_path / file) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "there.zip").read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 2


def test_a_damaged_or_unfinished_model_is_not_passed_on(root, tmp_path, capsys):
    weights = root / RUN / "step_2" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert command(root, "export", root / RUN, tmp_path / "toy.zip") == 7
    assert "sha256" in capsys.readouterr().err
    (root / RUN / "step_2" / "about.json").unlink()
    assert command(root, "export", f"{RUN}/step_2", tmp_path / "toy.zip") == 4
    assert not (tmp_path / "toy.zip").exists()


def test_a_model_whose_plan_was_changed_is_listed_as_damaged(root, capsys):
    """Also where that of another fold is whole."""
    plan = root / RUN / "fold_1" / "step_2" / "plan.json"
    plan.write_text(plan.read_text().replace('"seed": 0', '"seed": 1'))
    assert command(root, "list") == 3
    said = capsys.readouterr()
    assert f"{RUN}/fold_1/step_2" in said.err and f"{RUN}/step_2" in said.out and "fold_1" not in said.out


def test_folds_that_no_file_can_hold_are_told_before_anything_is_gathered(root, tmp_path, monkeypatch, capsys):
    assert 1.05 * archive.MOST_BYTES < zipfile.ZIP64_LIMIT  # a member of all bytes is written without 64-bit fields
    one = sum((root / RUN / "step_2" / name).stat().st_size for name in (WEIGHTS, PLAN, ABOUT))
    monkeypatch.setattr(of_models, "MOST_BYTES", one + (2 << 20))  # and room for manifest and licence
    assert command(root, "export", f"{RUN}/step_2", tmp_path / "one.zip") == 0
    monkeypatch.setattr(of_models, "_gather", None)
    assert command(root, "export", RUN, tmp_path / "all.zip") == 2
    said = capsys.readouterr().err
    assert "2 models of 0 MB" in said and "export each fold by itself" in said
    assert not (tmp_path / "all.zip").exists()


def test_only_installed_models_are_removed_and_not_by_chance(root, model_file, monkeypatch, capsys):
    command(root, "install", model_file)
    before = files_below(root)
    for name in (f"{RUN}/step_2", "tyo", "../runs", ".", ""):
        assert command(root, "remove", name, "--yes") == 2
    assert "toy" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO("toy\n"))  # no terminal: nobody to ask
    assert command(root, "remove", "toy") == 2
    assert "--yes" in capsys.readouterr().err
    for answered in ("tyo\n", "y\n", ""):
        monkeypatch.setattr(sys, "stdin", Terminal(answered))
        assert command(root, "remove", "toy") == 2
    assert files_below(root) == before
    monkeypatch.setattr(sys, "stdin", Terminal("toy\n"))
    assert command(root, "remove", "toy") == 0
    assert list((root / "models").iterdir()) == []
    assert models_in(root / RUN) == [root / RUN / "fold_1" / "step_2", root / RUN / "step_2"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_what_a_killed_installation_left_goes_at_the_next_and_nothing_of_a_running_one(root, model_file, capsys):
    half = root / "models" / ".0123456789ab.tmp.model"
    half.mkdir(parents=True)
    (half / "weights.safetensors").write_bytes(b"half")
    with locked(root / "models"):  # as while it still ran
        assert command(root, "install", model_file) == 6
        assert "in use by process" in capsys.readouterr().err and half.is_dir()
    assert command(root, "install", model_file, "--name", "model") == 0
    assert not half.exists()
    half.mkdir()
    assert command(root, "remove", "model", "--yes") == 0
    assert list((root / "models").iterdir()) == [half]


def test_a_link_to_a_model_is_removed_without_what_it_points_to(root, tmp_path):
    (root / "models").mkdir()
    shutil.copytree(root / RUN, tmp_path / "shared")
    (root / "models" / "linked").symlink_to(tmp_path / "shared")
    assert len(find_models("linked", str(root))) == 2
    assert command(root, "remove", "linked", "--yes") == 0
    assert len(models_in(tmp_path / "shared")) == 2 and list((root / "models").iterdir()) == []


def test_the_newest_is_what_was_trained_or_installed_last(root, model_file):
    command(root, "install", model_file)
    assert newest_model(root) == root / "models" / "toy"
    os.utime(root / RUN / "step_2" / "about.json", (2e10, 2e10))
    assert newest_model(root) == root / RUN  # with its other fold, as when it is installed


def test_an_unknown_model_is_answered_with_the_nearest(root, model_file, capsys):
    command(root, "install", model_file)
    assert command(root, "info", "tyo") == 2
    said = capsys.readouterr().err
    assert f"expected: {RUN}/fold_1/step_2, {RUN}/step_2, toy" in said and "did you mean 'toy'?" in said


def test_the_python_of_the_page_about_models(root):
    sources = Path(__file__).resolve().parents[2]
    page = (sources / "docs" / "models.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    elsewhere = {**os.environ, "FLARENET_ROOT": str(root.parent)}  # where nothing is installed
    subprocess.run([sys.executable, "-c", block], cwd=root, env=elsewhere, check=True)
    assert (root / "models" / "toy").is_dir()
