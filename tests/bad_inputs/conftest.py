"""The data set that the rows about images and labels spoil."""

from __future__ import annotations

import pytest

from tests.bad_inputs.case_set import Set


@pytest.fixture
def rows(tmp_path, monkeypatch) -> Set:
    monkeypatch.delenv("FLARENET_ROOT", raising=False)
    return Set(tmp_path)
