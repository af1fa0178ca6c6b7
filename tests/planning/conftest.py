"""Where the facts of the real FLARE23 set lie."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def test_data() -> Path:
    """The folder that holds flare23/."""
    root = Path(os.environ.get("FLARENET_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (root / "flare23" / "geometry.csv").is_file():
        pytest.skip(f"no flare23 below {root}; set FLARENET_TEST_DATA to the folder that holds it")
    return root
