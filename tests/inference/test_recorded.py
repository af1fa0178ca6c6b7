"""A recorded network, on a card that is played by the CPU: where it is recorded, and threads that share it."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import pytest
import torch

from flarenet.inference.engines.recorded import Recorded

SHAPE = (2, 1, 4, 4)


class Doubling:
    """A network that doubles, and the graph of it: a replay reads and writes the memory that was there when it was
    recorded, and takes its time."""

    def __init__(self):
        self.windows, self.answers = None, torch.zeros(SHAPE)

    def __call__(self, windows):
        self.windows = windows
        return {"organ": self.answers}

    def replay(self):
        seen = self.windows.clone()
        time.sleep(0.005)
        torch.mul(seen, 2, out=self.answers)
        time.sleep(0.005)


@pytest.fixture
def network(monkeypatch):
    """A Doubling that is its own graph; a stream of the card is the name of its device."""
    doubling = Doubling()
    doubling.streams = []

    @contextmanager
    def graph(_, *, stream=None, capture_error_mode):
        doubling.streams.append(stream)
        yield

    stand_ins = {"CUDAGraph": lambda: doubling, "graph": graph, "Stream": str, "current_stream": str}
    for name, stand_in in {**stand_ins, "stream": nullcontext}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return doubling


def test_it_is_recorded_on_a_stream_of_its_own_device(network):
    Recorded(network, SHAPE, torch.device("cpu"))
    assert network.streams == ["cpu"]  # not torch's own, which is of the device that was recorded on first


def test_threads_that_share_it_get_the_answers_to_their_own_windows(network):
    recorded = Recorded(network, SHAPE, torch.device("cpu"))
    batches = [torch.full((1 + number % 2, *SHAPE[1:]), float(number)) for number in range(8)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(recorded, batches))
    assert all(torch.equal(answer["organ"], 2 * windows) for answer, windows in zip(answers, batches))
