"""Prediction on a card beside the same on a CPU."""

import numpy as np
import pytest
import torch

from benchmarks.one_network import plan_of
from flarenet.data.labels import LabelSet
from flarenet.inference.engines.engine import ENGINES
from flarenet.inference.models.model import load_model, save_model
from flarenet.inference.models.onnx_file import export_onnx
from flarenet.inference.predict import Predictor
from flarenet.networks import build
from flarenet.planning.plan import NetworkSpec
from flarenet.volume import Grid, Volume
from tests.inference.test_engines import find_or_skip
from tests.inference.test_predict import AIR_HU, BODY_HU, model_folder

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision, differ", [("fp32", 0.005), ("bf16", 0.03), ("fp16", 0.01)])
def test_a_card_says_what_a_cpu_says_in_memory_that_does_not_grow_with_the_scan(tmp_path, precision, differ):
    """`differ` is the largest share of voxels: a card rounds otherwise (fp32 too: TF32), which decides where two labels
    are nearly equal. The network is random, so that there are many such places. Of each further voxel less than a byte
    is held; how many slabs are under way at the fullest moment is chance, and makes a quarter of the few MB."""
    spec = NetworkSpec(kind="dual_decoder", dimensions=2, features=(8, 8, 8, 8, 8, 8), groups=("organ", "cancer"))
    plan = plan_of(spec, LABELS, spacing_mm=(None, 1.0, 1.0), patch=(64, 64))
    torch.manual_seed(0)
    network = build(spec, LABELS.outputs)
    save_model(tmp_path / "model", network, plan=plan, trainer="Net", step=1, summary={})
    on_cpu = Predictor(tmp_path / "model", device="cpu", precision="fp32")
    on_card = Predictor(tmp_path / "model", device="cuda", precision=precision, batch_size=8)
    y, x = np.indices((90, 100))
    body = 100 * np.sin(y / 9.0) * np.cos(x / 11.0)
    peaks_mb, voxels = [], []
    for slices in (40, 400):
        data = (body * np.linspace(0.5, 1, slices)[:, None, None]).astype(np.int16)
        scan = Volume(data, Grid(data.shape, np.diag([2.0, 0.8, 0.8, 1])[[2, 1, 0, 3]]))
        here, there = on_cpu.predict(scan), on_card.predict(scan)
        assert 0.05 < (here.labels > 0).mean() < 0.95
        assert (here.labels != there.labels).mean() <= differ
        peaks_mb.append(there.peak_mb)
        voxels.append(data.size)
    assert 2**20 * (peaks_mb[1] - peaks_mb[0]) < voxels[1] - voxels[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("engine", ENGINES)
def test_one_model_runs_on_a_card_and_on_the_cpu_and_is_exported_meanwhile(tmp_path, engine):
    if engine == "openvino":
        find_or_skip()
    model = load_model(model_folder(tmp_path / "model"), device="cuda")
    data = np.full((4, 40, 36), AIR_HU, dtype=np.int16)
    data[1:3, 8:20, 6:18] = BODY_HU
    scan = Volume(data, Grid(data.shape, np.eye(4)[[2, 1, 0, 3]]))
    on_card = Predictor(model, device="cuda", precision="fp32")
    on_cpu = Predictor(on_card.model, device="cpu", precision="fp32", engine=engine)
    assert np.array_equal(on_cpu.predict(scan).labels, data == BODY_HU)
    pytest.importorskip("onnxscript")
    export_onnx(on_card.model, tmp_path / "onnx")
    assert np.array_equal(on_card.predict(scan).labels, data == BODY_HU)
    assert {parameter.device.type for parameter in model.network.parameters()} == {"cuda"}
