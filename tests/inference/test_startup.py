"""What a prediction does not need is not imported: on a short scan it would cost more than the network does."""

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.data.dicom_series import SHAPE, write_series
from tests.inference.test_engines import find_or_skip
from tests.model_files.small import train

SOURCES = Path(__file__).resolve().parents[2]

# the head of scipy is not here: nibabel imports it where it is installed
NOT_NEEDED = {
    *(
        "monai",
        "einops",
        "scipy.ndimage",
        "scipy.sparse",
        "matplotlib",
        "pebble",
        "batchgenerators",
        "rich",
        "jinja2",
        "blosc2",
        "distributed",
    ),
    *("cc3d", "edt", "skimage", "pandas", "tensorboard", "onnx", "onnxruntime", "pydicom", "highdicom"),
    *("torch._dynamo", "torch._inductor", "torch.onnx", "torchvision"),
    *("flarenet.training", "flarenet.trainers", "flarenet.evaluation", "flarenet.reporting", "flarenet.data.cases"),
}

LOADED = """
import sys
from flarenet.cli.predict import main
code = main(sys.argv[1:])
print("LOADED", *sys.modules)
sys.exit(code)
"""


@pytest.fixture
def loaded(tmp_path):
    """The modules of a process that predicted one scan, wider than the network's window, with further words."""
    train(tmp_path / "model" / "step_2")
    data = np.random.default_rng(0).integers(-1000, 1000, (40, 36, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-1, -1, 3, 1])), tmp_path / "scan.nii.gz")

    def predict(*words):
        line = ["-i", tmp_path / "scan.nii.gz", "-o", tmp_path / "out", "-m", tmp_path / "model" / "step_2"]
        done = subprocess.run(
            [sys.executable, "-c", LOADED, *map(str, line), "--device", "cpu", *words],
            capture_output=True,
            text=True,
            check=True,
        )
        assert (tmp_path / "out" / "scan.nii.gz").is_file()
        return set(done.stdout.partition("LOADED")[2].split())

    return predict


PROCESSOR = """
import sys
from flarenet.inference.engines.processor import computes_bf16, may_have_gpu, threads
said = computes_bf16(), may_have_gpu(), threads()
assert "torch" not in sys.modules
import torch
features = torch.cpu.get_capabilities()
print(*said)
found = may_have_gpu() if not torch.cuda.is_available() else True  # a driver without a GPU is asked by torch
print(bool(features.get("amx_bf16") or features.get("avx512_bf16")), found, torch.get_num_threads())
"""

OPENED = """
import sys
from flarenet.inference import opening
from flarenet.cli.predict import main
inspect_file = opening.inspect_file
def seen(path, *more):
    print("READ", path, "torch.nn.functional" in sys.modules)
    return inspect_file(path, *more)
opening.inspect_file = seen
sys.exit(main(sys.argv[1:]))
"""


def test_what_opens_a_scan_needs_no_torch():
    names = "models.about models.found opening outputs.outputs prefetch"
    imports = "".join(f"import flarenet.inference.{name}; " for name in names.split())
    line = f"import sys; {imports}print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], cwd=SOURCES, capture_output=True, text=True, check=True)
    assert f"flarenet.inference.{names.split()[-1]}" in done.stdout.split()
    assert "torch" not in done.stdout.split()


FIRST_NIBABEL = """
import sys
from flarenet.cli.predict import without_pydicom
with without_pydicom():
    from flarenet.data.dicom import inspect_series
assert "nibabel" in sys.modules and "pydicom" not in sys.modules
print(inspect_series(sys.argv[1])[0].data.shape)
"""


def test_nibabel_is_imported_without_pydicom_and_a_series_with_it(tmp_path):
    write_series(tmp_path / "series")
    line = [sys.executable, "-c", FIRST_NIBABEL, str(tmp_path / "series")]
    done = subprocess.run(line, cwd=SOURCES, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(SHAPE)


@pytest.mark.parametrize("word, early", [((), True), (("--continue",), False)])
def test_the_first_scan_is_read_while_torch_is_imported(tmp_path, word, early):
    train(tmp_path / "model" / "step_2")
    (tmp_path / "scans").mkdir()
    for name in "ab":
        data = np.random.default_rng(0).integers(-1000, 1000, (40, 36, 5)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(data, np.diag([-1, -1, 3, 1])), tmp_path / "scans" / f"{name}.nii.gz")
    line = ["-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", tmp_path / "model" / "step_2", "--device", "cpu"]
    line = [sys.executable, "-c", OPENED, *map(str, line), *word]
    done = subprocess.run(line, cwd=SOURCES, capture_output=True, text=True, check=True)
    a, b = (words.split()[1:] for words in done.stdout.splitlines() if words.startswith("READ"))
    assert a == [str(tmp_path / "scans" / "a.nii.gz"), str(not early)]
    assert b == [str(tmp_path / "scans" / "b.nii.gz"), "True"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "b.nii.gz"]


def test_a_prediction_imports_only_what_it_needs(loaded):
    modules = loaded()
    assert {"torch", "nibabel", "flarenet.inference.predict"} <= modules
    assert NOT_NEEDED & modules == set()


def test_where_the_graph_of_the_network_is_kept_torch_is_not_imported(loaded, tmp_path, monkeypatch):
    find_or_skip()
    monkeypatch.setenv("FLARENET_CACHE", str(tmp_path / "cache"))
    words, drawn = ("--precision", "fp32"), tmp_path / "out" / "scan.nii.gz"
    modules, first = loaded(*words), drawn.read_bytes()
    assert "torch" in modules
    modules = loaded(*words)
    assert "openvino" in modules and "torch" not in modules
    assert drawn.read_bytes() == first
    modules, labels = loaded(*words, "--engine", "torch"), np.asarray(nibabel.load(drawn).dataobj)
    assert "openvino" not in modules and len(np.unique(labels)) == 2
    assert drawn.read_bytes() == first
    weights = tmp_path / "model" / "step_2" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        loaded()
    assert refused.value.returncode == 7 and "weights.safetensors" in refused.value.stderr


@pytest.mark.parametrize("asked", [{}, {"OMP_NUM_THREADS": "1"}])
def test_what_torch_would_say_of_the_processor_is_known_without_it(asked, monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", PROCESSOR], cwd=SOURCES, capture_output=True, text=True, check=True)
    without, by_torch = done.stdout.splitlines()
    assert without == by_torch


def test_torch_alone_imports_no_other_engine(loaded):
    assert (NOT_NEEDED | {"openvino"}) & loaded("--engine", "torch") == set()


def test_the_tools_of_fusion_are_imported_where_it_is_asked_for(loaded):
    modules = loaded("--set", 'fusion.largest=["liver"]')
    assert "cc3d" in modules and not {"monai", "matplotlib"} & modules
