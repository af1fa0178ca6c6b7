"""flarenet_plan through a dask scheduler writes the same bytes as in one process."""

from __future__ import annotations

import shutil

import pytest

from flarenet.cli.plan import main
from flarenet.phantom import write_phantom_set

distributed = pytest.importorskip("distributed", reason="needs the extra `cluster`")


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_prepared_is_the_same(tmp_path):
    write_phantom_set(tmp_path / "raw" / "Set", cases=5, test_cases=0, seed=0, detail=0.2)
    words = ["-d", "Set", "--root", str(tmp_path)]
    assert main([*words, "--workers", "1"]) == 0
    here = tree(tmp_path / "prepared")
    shutil.rmtree(tmp_path / "prepared")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert main([*words, "--scheduler", cluster.scheduler_address]) == 0
    assert len(here) > 10
    assert tree(tmp_path / "prepared") == here
