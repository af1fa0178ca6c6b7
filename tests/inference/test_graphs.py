"""A kept graph answers as the network from which it was made, and is never used for another one, nor damaged."""

import os

import numpy as np
import pytest
import torch

from flarenet.errors import RunError, UnsafeError
from flarenet.inference.engines import graphs
from flarenet.inference.engines.graphs import folder_of, open_kept
from flarenet.inference.engines.openvino_engine import find_openvino
from flarenet.inference.models.about import describe
from flarenet.inference.models.model import load_model
from flarenet.inference.predict import Predictor
from flarenet.inference.windows import slabs
from flarenet.networks import NETWORKS
from flarenet.networks.unet import UNet
from flarenet.schema import save
from flarenet.whole import sha256_of
from tests.canary import canary_files
from tests.inference.test_engines import find_or_skip
from tests.model_files.small import train

ASKED = {"engine": "auto", "device": "cpu", "precision": "fp32"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    find_or_skip()
    monkeypatch.setenv("FLARENET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path):
    train(tmp_path / "step_2")
    return describe(tmp_path / "step_2")


def kept(cache):
    return sorted(cache.glob("openvino/*"))


def predictor(model, engine="auto"):
    return Predictor(model, device="cpu", precision="fp32", engine=engine)


def test_a_kept_graph_answers_the_same_bits(cache, model):
    assert open_kept(model, **ASKED) is None
    windows = np.random.default_rng(0).random((3, 1, 32, 32), dtype=np.float32)
    loaded = predictor(load_model(model.folder)).members[0].engine.arrays(windows)
    assert kept(cache) == []  # where the network is there already, nothing is kept
    first, engine = predictor(model).members[0].engine.arrays(windows), open_kept(model, **ASKED)
    assert engine.name == "openvino fp32" and str(engine.device) == "cpu"
    again, tensors = engine.arrays(windows), engine(torch.from_numpy(windows))
    for group, expected in loaded.items():
        for answer in (first, again, tensors):
            np.testing.assert_array_equal(np.asarray(answer[group]), expected)


class ByTensors:
    """The same engine for who knows only that it is one."""

    device = torch.device("cpu")

    def __init__(self, engine):
        self.name, self._engine = engine.name, engine

    def __call__(self, windows):
        return self._engine(windows)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 30, 27), (3, 32, 40)])
@pytest.mark.parametrize("descending", [False, True])
def test_slabs_are_the_same_with_torch_and_without(cache, model, shape, descending):
    """Bit for bit where one window sees a slice; where several are blended, up to the rounding of their weights."""
    image = np.random.default_rng(1).random(shape, dtype=np.float32)
    engine = predictor(model).members[0].engine
    for each in (engine, ByTensors(engine)):
        found = slabs(each, iter(image), shape, patch=(32, 32), overlap=0.5, batch_size=2, descending=descending)
        if each is engine:
            without = list(found)
            assert isinstance(without[0][1]["organ"], np.ndarray)
    for (start, answer), (other, expected) in zip(without, found, strict=True):
        assert start == other
        logits, largest = expected["organ"].numpy(), float(expected["organ"].abs().max())
        np.testing.assert_allclose(answer["organ"], logits, rtol=0, atol=1e-6 * largest if shape[2] > 32 else 0)
        np.testing.assert_array_equal(answer["organ"].argmax(0), logits.argmax(0))


def test_what_was_asked_for_otherwise_is_left_to_torch(cache, model, monkeypatch):
    predictor(model)
    assert open_kept(load_model(model.folder), **ASKED) is None
    for other in ({"engine": "torch"}, {"device": "cuda"}, {"precision": "fp16"}, {"precision": "fp8"}):
        assert open_kept(model, **ASKED | other) is None
    monkeypatch.setattr(graphs, "may_have_gpu", lambda: True)
    assert open_kept(model, **ASKED | {"device": "auto"}) is None
    assert open_kept(model, **ASKED | {"device": "auto", "engine": "openvino"}) is not None
    monkeypatch.setattr(graphs, "may_have_gpu", lambda: False)
    assert open_kept(model, **ASKED | {"device": "auto"}) is not None


def test_another_model_has_another_graph(cache, model, tmp_path):
    library = find_openvino()
    train(tmp_path / "other", seed=1)
    places = {folder_of(each, library) for each in (model, describe(tmp_path / "other"), describe(model.folder))}
    assert len(places) == 2


@pytest.mark.parametrize("name", ["graph.xml", "graph.bin", "sha256.json"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_graph_is_named_and_made_anew(cache, model, name, damage):
    predictor(model)
    (folder,) = kept(cache)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(before[name][: len(before[name]) // 2])
    with pytest.warns(UserWarning, match="is damaged, and is made anew"):
        predictor(model)
    assert kept(cache) == [folder]
    assert open_kept(model, **ASKED) is not None


@pytest.mark.parametrize("name", ["graph.xml", "sha256.json"])
def test_s01_pickled_code_in_a_kept_graph_is_not_run_and_the_graph_made_anew(cache, model, tmp_path, name):
    """With the digests made right again, as whoever can write there may do."""
    canary, library = tmp_path / "canary", find_openvino()
    predictor(model)
    (folder,) = kept(cache)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for kind, content in canary_files(canary).items():
        folder.mkdir(exist_ok=True)
        for file, sound in before.items():
            (folder / file).write_bytes(sound)
        (folder / name).write_bytes(content)
        if name != "sha256.json":
            digests = {file: sha256_of(folder / file) for file in ("graph.xml", "graph.bin")}
            save(graphs.Digests(sha256=digests), folder / "sha256.json")
        with pytest.warns(UserWarning, match="is damaged, and is made anew"):
            assert graphs.read(folder, library) is None
        assert not canary.exists() and not folder.exists(), kind


def test_a_kept_graph_does_not_hide_damaged_weights(cache, model):
    predictor(model)
    weights = model.folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(UnsafeError, match="weights.safetensors"):
        predictor(model)


def test_a_model_that_is_trained_anew_meanwhile_is_not_taken_for_the_one_described(model):
    train(model.folder, seed=1)
    with pytest.raises(RunError, match="changed meanwhile"):
        model.loaded()


def test_where_nothing_can_be_kept_a_warning_says_why(cache, model):
    cache.write_text("a file")
    with pytest.warns(UserWarning, match="is not kept"):
        assert predictor(model).engine_names == "openvino fp32"


def test_the_oldest_graphs_go(cache, model, monkeypatch):
    monkeypatch.setattr(graphs, "MOST", 2)
    for age, name in enumerate(["b", "a", "c"]):
        (cache / "openvino" / name).mkdir(parents=True)
        os.utime(cache / "openvino" / name, (age, age))
    predictor(model)
    assert [folder.name for folder in kept(cache)] == sorted(["c", folder_of(model, find_openvino()).name])


def test_a_network_of_ones_own_is_not_kept(cache, model, monkeypatch):
    class Own(UNet):
        pass

    monkeypatch.setitem(NETWORKS, "unet", Own)
    assert predictor(model, engine="openvino").engine_names == "openvino fp32"
    assert kept(cache) == []


def test_nothing_is_kept_without_a_cache(model, monkeypatch):
    find_or_skip()
    monkeypatch.setenv("FLARENET_CACHE", "")
    predictor(model)
    assert open_kept(model, **ASKED) is None
