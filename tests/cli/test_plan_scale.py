"""Planning sets of many cases (L03): what was measured is not measured again. FLARENET_FULL=1 plans 4000 cases too."""

import os

import pytest

from benchmarks.scale.plan_4000 import NAME, measure, prepared_since, write_set
from flarenet.cli.plan import main
from flarenet.data.nifti import read

FULL = os.environ.get("FLARENET_FULL") == "1"


@pytest.fixture
def opened(monkeypatch):
    """The names of the NIfTI files that were opened, in this process."""
    seen, real = [], read.opened

    def noted(path):
        seen.append(path.name)
        return real(path)

    monkeypatch.setattr(read, "opened", noted)
    return seen


def test_a_set_that_is_planned_again_is_not_opened_again_and_of_one_that_grew_the_new_case_alone(tmp_path, opened):
    raw, words = tmp_path / "raw" / NAME, ["-d", NAME, "--root", str(tmp_path), "--workers", "1"]
    write_set(raw, 100)
    assert main(words) == 0
    assert set(opened) == {path.name for path in raw.rglob("*.nii.gz")}
    assert prepared_since(tmp_path / "prepared", 0) == 100
    opened.clear()
    assert main(words) == 0
    assert opened == []
    write_set(raw, 101)
    assert main(words) == 0
    assert set(opened) == {"case00100_0000.nii.gz", "case00100.nii.gz"}
    assert prepared_since(tmp_path / "prepared", 0) == 101


@pytest.mark.skipif(not FULL, reason="takes minutes; set FLARENET_FULL=1")
def test_l03_four_thousand_cases(tmp_path):
    """On one core of two; the memory is that of all processes together."""
    rows = {row.what: row for row in measure(tmp_path, 4000, workers=1)}
    nothing, again, grown = rows["from nothing"], rows["nothing changed"], rows["ten cases more"]
    assert nothing.seconds <= 300 and nothing.tree_mb <= 500
    assert again.seconds <= 20 and again.tree_mb <= 500
    assert (nothing.prepared, again.prepared, grown.prepared) == (4000, 0, 10)
