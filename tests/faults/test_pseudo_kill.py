"""Pseudo-labelling that is killed at any write and started again leaves the files of an unbroken run."""

import multiprocessing
import os
import shutil
import signal

import pytest

from flarenet.errors import StorageError
from flarenet.pseudo.teachers import Teachers
from flarenet.whole import sha256_of
from flarenet.workspace import Workspace
from tests.full_disk import longest_file
from tests.pseudo.conftest import RULES, make_blocks, make_teachers, plan_of, step_of

ASKED = [9, 6]  # three passes of three cases that lack organs, and of two that lack lesions


def complete(workspace, cases):
    """How often each teacher was asked."""
    teachers = make_teachers()
    Teachers(teachers, step_of(RULES), plan_of(RULES), workspace).complete(cases, "3d")
    return [len(teacher.asked) for teacher in teachers.values()]


def content_of(workspace):
    """Every file and folder below pseudo/, hidden ones too, with the SHA-256 of files."""
    pseudo = workspace.root / "pseudo"
    return {str(p.relative_to(pseudo)): sha256_of(p) if p.is_file() else "" for p in pseudo.rglob("*")}


def renamings(monkeypatch, at):
    """Count the renamings, by which everything appears; `at` gets the number before (2n) and after (2n + 1) each."""
    count = 0

    def counted(rename):
        def do(*paths):
            nonlocal count
            at(2 * count)
            rename(*paths)
            at(2 * count + 1)
            count += 1

        return do

    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """(workspace before any pseudo label, its cases, what a run writes, how many moments a kill may come at)"""
    workspace, cases = make_blocks(tmp_path_factory.mktemp("blocks"))
    moments = []
    with pytest.MonkeyPatch.context() as patch:
        renamings(patch, moments.append)
        assert complete(workspace, cases) == ASKED
    wanted = content_of(workspace)
    shutil.rmtree(workspace.root / "pseudo")
    return workspace, cases, wanted, len(moments)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.45, 0.6, 0.8, 0.99])
def test_killed_and_run_again(unbroken, tmp_path, monkeypatch, share):
    prepared, cases, wanted, moments = unbroken
    workspace = Workspace(tmp_path / "root", prepared.dataset)
    shutil.copytree(prepared.root, workspace.root)

    def die_at(moment):
        if moment == int(share * moments):
            os.kill(os.getpid(), signal.SIGKILL)

    def run():
        renamings(monkeypatch, die_at)
        complete(workspace, cases)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    done = sum(len(list(folder.glob("[!.]*/record.json"))) for folder in workspace.root.glob("pseudo/*/*/pass_*"))
    assert sum(complete(workspace, cases)) == sum(ASKED) - done  # no case is predicted twice
    assert content_of(workspace) == wanted


def test_a_full_disk_and_run_again(unbroken, tmp_path):
    prepared, cases, wanted, _ = unbroken
    workspace = Workspace(tmp_path / "root", prepared.dataset)
    shutil.copytree(prepared.root, workspace.root)
    with pytest.raises(StorageError, match="bytes free"), longest_file(100):
        complete(workspace, cases)
    assert complete(workspace, cases) == ASKED  # nothing half-written counts
    assert content_of(workspace) == wanted
