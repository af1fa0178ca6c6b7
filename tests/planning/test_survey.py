"""measure_cases: no case is read that does not fit in memory."""

from __future__ import annotations

from flarenet.data import cases
from flarenet.data.dataset_file import read_dataset
from flarenet.errors import StorageError
from flarenet.phantom import write_phantom_set
from flarenet.planning.measuring.cache import Cache
from flarenet.planning.measuring.survey import PROCESS_MB, measure_cases


def test_a_case_that_does_not_fit_in_memory_is_refused_by_its_header(tmp_path, monkeypatch):
    write_phantom_set(tmp_path / "Set", cases=2, test_cases=0, seed=0, detail=0.3)
    dataset, cache = read_dataset(tmp_path / "Set"), Cache(tmp_path / "cache")
    monkeypatch.setattr(cases, "available_mb", lambda: PROCESS_MB)
    measured, failures = measure_cases(dataset, cache)
    assert measured == []
    assert [name for name, _ in failures] == [case.name for case in dataset.cases]
    assert all(isinstance(error, StorageError) and error.found == f"{PROCESS_MB} MB of memory" for _, error in failures)
    monkeypatch.setattr(cases, "available_mb", lambda: PROCESS_MB + 10)  # 9000 voxels
    assert len(measure_cases(dataset, cache)[0]) == 2
