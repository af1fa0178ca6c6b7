import pytest

from tests.trainers import tiny


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory):
    """The workspace of a planned tiny set, which no test may change but below ablations/."""
    return tiny.planned(tmp_path_factory.mktemp("ablations"))
