"""Two processes train one network: as one does, the same again each time, and neither goes on without the other."""

import multiprocessing
import socket

import pytest
import torch
from safetensors.torch import load_file

from flarenet.training import distributed
from flarenet.training.distributed import joined, own_rows
from tests.training import together

PRELOADED = [together.__name__, "torch._dynamo", "batchgenerators.augmentations.color_augmentations"]
"""All that a process needs; torch's optimizers import the second at their first step, what augments the third."""


def start(folder, *words, count=2):
    """[(process, its log)] of `count`, each told what torchrun tells; all copies of one that has imported all."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count, "TORCHELASTIC_RUN_ID": "test"}
    context, started = multiprocessing.get_context("forkserver"), []
    context.set_forkserver_preload(PRELOADED)
    for number in range(count):
        own = {name: str(value) for name, value in {**told, "RANK": number, "LOCAL_RANK": number}.items()}
        log = folder.with_name(f"{folder.name}-{number}.txt")
        process = context.Process(target=together.work, args=(folder, own, log, *words))
        process.start()
        started.append((process, log))
    return started


def end(started):
    """[(exit code, what it said)]; None for a code where the first has not ended a minute after the second."""
    for (process, _), patience_s in zip(started[::-1], (300, 60)):
        process.join(patience_s)
    ended = [(process.exitcode, log.read_text()) for process, log in started]
    for process, _ in started:
        process.kill()
    return ended


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
    assert first and second  # a code, and not 0
    if harm == "nan":
        assert "epoch 2, batch 2" in said and "epoch 2, batch 2" in also_said and "on cases c" in also_said
    tensors = load_file(tmp_path / "state-00001-00000.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_the_group_of_a_process_that_fails_is_left_as_it_is(monkeypatch):
    """To take it apart waits for the others, and they for this process: none would end."""
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0, "RANK": 0, "WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    with joined(together.CPU):
        assert torch.distributed.is_initialized()
    assert not torch.distributed.is_initialized()
    with pytest.raises(ZeroDivisionError), joined(together.CPU):
        1 / 0  # noqa: B018
    assert torch.distributed.is_initialized()
    torch.distributed.destroy_process_group()


def test_rows_are_dealt_out(monkeypatch):
    monkeypatch.setattr(distributed, "processes", lambda: 3)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert list(own_rows(7)) == [1, 4]
