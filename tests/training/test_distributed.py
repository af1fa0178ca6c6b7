"""Two processes train one network: as one does, the same again each time, and neither goes on without the other."""

import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from flarenet.training import distributed
from flarenet.training.distributed import joined, own_rows
from tests.training import together
from tests.training.together import end, on_two_machines, second, start


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """The folders of two runs of two processes each."""
    folders = [tmp_path_factory.mktemp("run") for _ in range(2)]
    for code, said in [ended for run in [start(folder) for folder in folders] for ended in end(run)]:
        assert code == 0, said
    return folders


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The weights by one process."""
    folder = tmp_path_factory.mktemp("alone")
    together.train(folder)
    return load_file(folder / "weights.safetensors")


def same(alone, folder):
    both = load_file(folder / "weights.safetensors")
    for name, tensor in alone.items():
        torch.testing.assert_close(both[name], tensor, rtol=1e-4, atol=1e-6)


def test_two_processes_learn_what_one_does(twice, alone):
    same(alone, twice[0])


def test_two_processes_in_turns_learn_what_one_does(alone, tmp_path):
    """The first has three rows of a batch and takes as many turns, the second has two."""
    folder = tmp_path / "run"
    for code, said in end(start(folder, accumulate=3)):
        assert code == 0, said
    same(alone, folder)


def test_two_processes_end_with_the_same_bytes_each_time(twice):
    one, other = ((folder / "weights.safetensors").read_bytes() for folder in twice)
    assert one == other


def test_two_machines_that_share_a_folder_learn_what_one_does(twice, alone, tmp_path):
    for code, said in on_two_machines(tmp_path):
        assert code == 0, said
    same(alone, tmp_path)
    assert (tmp_path / "weights.safetensors").read_bytes() == (twice[0] / "weights.safetensors").read_bytes()


def files_of(*states):
    return [f"state-{state}.{kind}" for state in states for kind in ("json", "safetensors")]


def test_the_first_process_alone_writes(twice):
    names = sorted(path.name for path in twice[0].iterdir())
    assert names == [*files_of("00001-00000", "00002-00000"), "weights.safetensors"]
    assert list(second(twice[0]).iterdir()) == []


def test_a_signal_to_one_process_is_one_to_all_and_they_go_on_to_the_same_bytes(twice, alone, tmp_path):
    """And one process goes on to the same weights."""
    folder, single = tmp_path / "run", tmp_path / "single"
    assert [code for code, _ in end(start(folder, harm="signals"))] == [-signal.SIGTERM] * 2
    names = sorted(path.name for path in folder.iterdir())
    assert names == files_of("00001-00001", "00001-00002")  # as the second was asked for a state, and for the end
    shutil.copytree(folder, second(folder), dirs_exist_ok=True)
    shutil.copytree(folder, single)
    together.train(single)
    same(alone, single)
    for code, said in end(start(folder)):
        assert code == 0, said
    assert (folder / "weights.safetensors").read_bytes() == (twice[0] / "weights.safetensors").read_bytes()
    assert sorted(path.name for path in second(folder).iterdir()) == names


def test_two_processes_go_on_with_what_one_has_begun(alone, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    together.train(folder)
    for path in (*folder.glob("state-00002-*"), folder / "weights.safetensors"):
        path.unlink()  # as after the third of six batches
    shutil.copytree(folder, second(folder))
    for code, said in end(start(folder)):
        assert code == 0, said
    same(alone, folder)


@pytest.mark.parametrize(("harm", "victim"), [("killed", 0), ("killed", 1), ("nan", 1)])
def test_one_that_fails_ends_both_and_both_go_on_to_the_same_bytes(twice, tmp_path, harm, victim):
    folder = tmp_path / "run"
    (first, said), (other, also_said) = end(start(folder, harm=harm, victim=victim))
    assert first and other  # a code, and not 0
    if harm == "nan":
        for told in (said, also_said):
            assert "epoch 2, batch 2" in told and "cases of this batch: c0, c1, c2, c3" in told
    assert sorted(path.name for path in folder.iterdir()) == files_of("00001-00000")
    shutil.copytree(folder, second(folder), dirs_exist_ok=True)
    for code, said in end(start(folder)):
        assert code == 0, said
    assert (folder / "weights.safetensors").read_bytes() == (twice[0] / "weights.safetensors").read_bytes()


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
