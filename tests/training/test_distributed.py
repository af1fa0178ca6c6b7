"""Two processes train one network: as one does, the same again each time, and neither goes on without the other."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from flarenet.errors import PlanError
from flarenet.training import distributed
from flarenet.training.distributed import own_rows
from tests.training import together


def start(folder, *words, count=2):
    """`count` processes with what torchrun tells its own; each with its output in a pipe."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count, "TORCHELASTIC_RUN_ID": "test"}
    command, started = [sys.executable, "-m", "tests.training.together", str(folder), *words], []
    for number in range(count):
        own = {name: str(value) for name, value in {**told, "RANK": number, "LOCAL_RANK": number}.items()}
        started.append(subprocess.Popen(command, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True))
    return started


def end(processes):
    """[(exit code, what it said)]; an error where the first has not ended a minute after the second."""
    try:
        processes[1].wait(timeout=300)
        said = [process.communicate(timeout=60)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, said)]


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """The folders of two runs of two processes each."""
    folders = [tmp_path_factory.mktemp("run") for _ in range(2)]
    for code, said in [ended for run in [start(folder) for folder in folders] for ended in end(run)]:
        assert code == 0, said
    return folders


def test_two_processes_learn_what_one_does(twice, tmp_path):
    together.train(tmp_path)
    one, both = (load_file(folder / "weights.safetensors") for folder in (tmp_path, twice[0]))
    for name, tensor in one.items():
        torch.testing.assert_close(both[name], tensor, rtol=1e-4, atol=1e-6)


def test_two_processes_end_with_the_same_bytes_each_time(twice):
    one, other = ((folder / "weights.safetensors").read_bytes() for folder in twice)
    assert one == other


def test_the_first_process_alone_writes(twice):
    names = sorted(path.name for path in twice[0].iterdir())
    states = [f"state-{epoch:05}-00000" for epoch in (1, 2)]
    assert names == [*(f"{name}.{kind}" for name in states for kind in ("json", "safetensors")), "weights.safetensors"]


@pytest.mark.parametrize("harm", ["killed", "nan"])
def test_one_that_fails_ends_both(tmp_path, harm):
    (first, said), (second, also_said) = end(start(tmp_path, harm))
    assert first != 0 and second != 0
    if harm == "nan":
        assert "epoch 2, batch 2" in said and "epoch 2, batch 2" in also_said and "on cases c" in also_said
    tensors = load_file(tmp_path / "state-00001-00000.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_rows_are_dealt_out_and_there_must_be_enough(monkeypatch):
    monkeypatch.setattr(distributed, "processes", lambda: 3)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert list(own_rows(7)) == [1, 4]
    with pytest.raises(PlanError, match="batch_size"):
        own_rows(2)
