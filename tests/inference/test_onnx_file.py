"""An exported network answers as the model does, alone and in the example of docs/onnx.md."""

import json
import logging
import os
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from benchmarks.one_network import plan_of
from flarenet.cli.model import main
from flarenet.data.labels import LabelSet
from flarenet.errors import StorageError, UsageError
from flarenet.inference.models.model import Model, load_model
from flarenet.inference.models.onnx_file import export_onnx
from flarenet.inference.predict import Predictor
from flarenet.planning.plan import Configuration
from flarenet.preparation.reoriented import PERCENTILES, ReorientedVolume
from flarenet.volume import Grid, Volume
from tests.full_disk import longest_file
from tests.inference.test_engines import MADE, OUTPUTS, network_of, spec_of
from tests.inference.test_predict import AIR_HU, BODY_HU, model_folder

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "run_onnx.py"
SPACING_MM = (1.5, 0.8, 1.3)

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


def body_of_parts(shape):
    z, y, x = np.indices(shape)
    round_part = (z - 8) ** 2 * 2 + (y - 30) ** 2 / 2 + (x - 22) ** 2 < 120
    return round_part | ((abs(z - 6) < 4) & (abs(y - 60) < 9) & (abs(x - 40) < 6))


@pytest.mark.parametrize("patch", [(32, 32), (16, 32, 32)])
def test_the_example_draws_what_the_model_draws(tmp_path, patch):
    """A scan larger than a patch, at another spacing than the network's: every step of processing.json counts."""
    model = model_folder(tmp_path / "model", dimensions=len(patch), patch=patch)
    out = tmp_path / "onnx"
    assert main(["onnx", str(model), str(out)]) == 0
    body = body_of_parts((18, 80, 56))
    hu = np.where(body, BODY_HU, AIR_HU).astype(np.int16)
    hu += np.random.default_rng(0).integers(-60, 60, hu.shape).astype(np.int16)
    np.save(tmp_path / "image.npy", hu)
    words = [str(out), str(tmp_path / "image.npy"), ",".join(map(str, SPACING_MM)), str(tmp_path / "labels.npy")]
    subprocess.run([sys.executable, str(EXAMPLE), *words], check=True)
    found = np.load(tmp_path / "labels.npy")

    grid = Grid(hu.shape, np.diag([*SPACING_MM, 1])[[2, 1, 0, 3]])
    expected = Predictor(model, device="cpu", precision="fp32", engine="torch").predict(Volume(hu, grid)).labels
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert 0.05 < (expected == 1).mean() < 0.5
    assert (found == expected).mean() >= 0.999


def test_the_page_makes_the_example_s_image_of_a_nifti_file(tmp_path):
    """A scan that is stored to left and posterior, 1 x 2 x 3 mm."""
    (block,) = re.findall(r"```python\n(.*?)```", (EXAMPLE.parents[1] / "onnx.md").read_text(), re.DOTALL)
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)  # x, y, z
    nibabel.save(nibabel.Nifti1Image(stored, np.diag([-1, -2, 3, 1])), tmp_path / "scan.nii.gz")
    said = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert said.stdout == "3.0,2.0,1.0\n"
    np.testing.assert_array_equal(np.load(tmp_path / "IMAGE.npy"), stored[::-1, ::-1].T)


def test_the_example_takes_the_window_that_an_image_has_of_its_own():
    """Padding does not move it; two values, and one, have a window too."""
    numbers = Configuration(
        spacing_mm=(1, 1, 1), inference_spacing_mm=(1, 1, 1), patch=(8, 8, 8), normalisation="percentile", clip_hu=None
    )
    own_window = runpy.run_path(str(EXAMPLE))["own_window"]
    signal = np.random.default_rng(0).gamma(2, 100, (6, 7, 8)).astype(np.float32)
    for image in (np.pad(signal, 9), np.where(signal < 99, 0, 9).astype(np.int16), np.full((2, 2, 2), 5)):
        scan = ReorientedVolume(Volume(image, Grid(image.shape, np.eye(4))))
        assert own_window(image, PERCENTILES) == scan.window(numbers)


def model_of(network, kind, patch):
    """A model of `network`, whose outputs are OUTPUTS."""
    labels = LabelSet(names=("background", *"abcd"), groups={"organ": (1, 2, 3), "train": (4,)})
    assert labels.outputs == OUTPUTS
    plan = plan_of(spec_of(kind, patch), labels, spacing_mm=(1.0, 1.0, 1.0), patch=patch)
    return Model(plan, "Net", 1, Path(), "", network)


KINDS = dict(reversed(MADE))  # one patch of each
if os.environ.get("FLARENET_FULL") != "1":
    del KINDS["swin_unetr"]  # to export it takes torch half a minute or more


@pytest.fixture
def logged():
    """What torch.onnx logs during the test, and that its level is the same afterwards."""
    found, logger = [], logging.getLogger("torch.onnx")
    handler, level = logging.Handler(), logger.level
    handler.emit = found.append
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)
    assert logger.level == level


@pytest.mark.parametrize("kind, patch", KINDS.items())
def test_the_file_answers_any_number_of_windows_as_the_network_does(tmp_path, kind, patch, logged):
    network = network_of(kind, patch)
    export_onnx(model_of(network, kind, patch), tmp_path)
    assert not logged
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == list(OUTPUTS)
    free = session.get_inputs()[0].shape[0] != 1
    assert free or kind in ("unetr", "swin_unetr")
    for count in (1, 3) if free else (1,):
        windows = torch.rand(count, 1, *patch)
        with torch.inference_mode():
            expected = network(windows)
        for group, logits in zip(OUTPUTS, session.run(list(OUTPUTS), {"windows": windows.numpy()})):
            one = expected[group]
            np.testing.assert_allclose(logits, one.numpy(), rtol=1e-3, atol=1e-3 * float(one.std()))


def test_a_network_that_cannot_be_exported_is_named_and_nothing_is_written(tmp_path):
    class ByTheNumbers(torch.nn.Module):
        """What it computes depends on the numbers of its input, so that no graph is the whole of it."""

        groups = tuple(OUTPUTS)

        def forward(self, x):
            other = x if x.sum() > 0 else -x
            return {"organ": torch.cat([x, other, x, x], dim=1), "train": torch.cat([x, other], dim=1)}

    with pytest.raises(UsageError, match="cannot convert this ByTheNumbers: "):
        export_onnx(model_of(ByTheNumbers(), "unet", (8, 8)), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_what_is_to_be_done_around_the_network_lies_beside_it(tmp_path):
    model = load_model(model_folder(tmp_path / "model"))
    export_onnx(model, tmp_path / "onnx")
    said = json.loads((tmp_path / "onnx" / "processing.json").read_text())
    assert said["outputs"] == {"organ": [1], "cancer": [2]} and said["labels"] == ["background", "liver", "tumor"]
    assert said["clip_hu"] == [-200.0, 300.0] and said["spacing_mm"] == [None, 1.0, 1.0]
    assert said["weights_sha256"] == model.weights_sha256
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == ["network.onnx", "processing.json"]


def test_on_a_disk_that_fills_up_both_files_stay_as_they_were(tmp_path):
    model = load_model(model_folder(tmp_path / "model"))
    wordy = replace(model, plan=model.plan.model_copy(update={"dataset": "x" * (3 << 20)}))
    for name in ("network.onnx", "processing.json"):
        (tmp_path / name).write_text("of an earlier model")
    with longest_file(2 << 20), pytest.raises(StorageError, match="processing.json"):
        export_onnx(wordy, tmp_path)
    files = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    assert files == dict.fromkeys(["network.onnx", "processing.json"], "of an earlier model")


def test_a_missing_library_is_named_and_nothing_is_written(tmp_path, monkeypatch):
    model = load_model(model_folder(tmp_path / "model"))
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as where it is not installed
    with pytest.raises(UsageError, match=r"pip install 'flarenet\[onnx\]'"):
        export_onnx(model, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()
