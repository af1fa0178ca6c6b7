"""Where things lie, and what is said where they do not."""

from __future__ import annotations

import pytest

from flarenet.errors import DatasetError, UsageError
from flarenet.workspace import Workspace, cache_folder, find_root, only_planned, open_planned, open_workspace, root_flag


def test_paths(tmp_path):
    work = Workspace(tmp_path, "A")
    paths = [work.raw, work.plan, work.fingerprint, work.settled, work.store("3d"), work.run("MAE", 1)]
    paths.append(work.pseudo("X", 2 * "0123456789ab"))
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "raw/A",
        "prepared/A/plan.json",
        "prepared/A/fingerprint.json",
        "prepared/A/dataset.json",
        "prepared/A/3d",
        "runs/A/MAE/step_1",
        "pseudo/A/X-0123456789ab",
    ]


def test_root_is_the_flag_then_the_variable_then_here(tmp_path, monkeypatch):
    for name in ("flag", "variable", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("FLARENET_ROOT", raising=False)
    assert find_root() == tmp_path / "here"
    monkeypatch.setenv("FLARENET_ROOT", str(tmp_path / "variable"))
    assert find_root() == tmp_path / "variable"
    assert find_root(str(tmp_path / "flag")) == tmp_path / "flag"
    with pytest.raises(UsageError, match="no such folder"):
        find_root(str(tmp_path / "none"))


def test_a_command_to_type_names_the_root_that_it_would_not_find(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "over there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("FLARENET_ROOT", raising=False)
    assert (root_flag(here), root_flag(there)) == ("", f" --root '{there}'")
    monkeypatch.setenv("FLARENET_ROOT", str(there))
    assert (root_flag(here), root_flag(there)) == (f" --root {here}", "")
    assert Workspace(here, "My Set").flags == f"-d 'My Set' --root {here}"
    (here / "raw" / "A").mkdir(parents=True)
    with pytest.raises(DatasetError) as caught:
        open_planned(here, "A")
    assert caught.value.remedy == f"flarenet_plan -d A --root {here}"


def test_the_cache_is_the_one_named_else_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FLARENET_CACHE", "")
    assert cache_folder() is None
    monkeypatch.setenv("FLARENET_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("FLARENET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "flarenet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "flarenet"


def test_an_unknown_set_lists_the_real_ones(tmp_path):
    (tmp_path / "raw" / "FLAREmini").mkdir(parents=True)
    assert open_workspace(tmp_path, "FLAREmini").raw == tmp_path / "raw" / "FLAREmini"
    with pytest.raises(UsageError) as caught:
        open_workspace(tmp_path, "flaremin")
    assert caught.value.expected == "FLAREmini"
    assert caught.value.remedy == "did you mean 'FLAREmini'?"
    with pytest.raises(UsageError) as caught:
        open_workspace(tmp_path, "KiTS")
    assert caught.value.found == f"no folder {tmp_path / 'raw' / 'KiTS'}"
    assert caught.value.remedy == "--root or FLARENET_ROOT if it is below another root"


def test_a_root_without_data_sets_is_named(tmp_path):
    """As the current folder in a shell where FLARENET_ROOT is not set."""
    with pytest.raises(UsageError) as caught:
        open_workspace(tmp_path, "KiTS")
    assert caught.value.expected == f"a data set in {tmp_path / 'raw'}"
    assert "FLARENET_ROOT" in caught.value.remedy


def test_the_only_planned_set_is_taken(tmp_path):
    (tmp_path / "prepared" / "unplanned").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no planned data set") as caught:
        only_planned(tmp_path)
    assert "--root or FLARENET_ROOT" in caught.value.remedy
    for name in ("A", "B"):
        (tmp_path / "prepared" / name).mkdir()
        (tmp_path / "prepared" / name / "plan.json").touch()
        if name == "A":
            assert only_planned(tmp_path).dataset == "A"
    with pytest.raises(UsageError, match="A, B"):
        only_planned(tmp_path)
