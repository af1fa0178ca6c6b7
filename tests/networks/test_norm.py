"""The instance norm of other devices than the CPU, beside torch's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu import norm as benchmark
from flarenet.networks.blocks import LEAK, ConvNormAct, Residual
from flarenet.networks.norm import instance_norm, kernels_run_on

ROOT = Path(__file__).resolve().parents[2]
SHAPES = [((3, 5, 7, 9), torch.channels_last), ((2, 4, 5, 6, 7), torch.channels_last_3d)]


@pytest.fixture(scope="module")
def interpreted():
    """{case of norm_cases: what its kernels found}, by Triton's interpreter."""
    pytest.importorskip("triton", reason="Triton is not installed")
    words = [sys.executable, "-m", "tests.networks.norm_cases"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def test_the_kernels_are_interpreted_within_the_bounds(interpreted):
    beyond = {
        f"{name}: {key}": value
        for name, found in interpreted.items()
        for key, value in found.items()
        if key in ("y", "dx", "dweight", "dbias") and value > 1
    }
    assert len(interpreted) >= 14 and beyond == {}


def test_type_order_and_every_bit_are_kept(interpreted):
    assert [name for name, found in interpreted.items() if not (found["kept"] and found["repeats"])] == []


def test_samples_are_shared_out_as_the_cases_say(interpreted):
    from tests.networks.norm_cases import CASES

    assert {name: found["parts"] for name, found in interpreted.items()} == {n: c.parts for n, c in CASES.items()}
    several_times = {name for name, found in interpreted.items() if found["parts"] > found["merged"]}
    assert several_times == {"more parts than are merged at a time"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_kernels_on_a_card_stay_within_the_bounds():
    pytest.importorskip("triton", reason="Triton is not installed")
    from tests.networks.norm_cases import CASES, compare

    for name, case in CASES.items():
        found = compare(case, torch.device("cuda"))
        assert max(found.y, found.dx, found.dweight, found.dbias) <= 1, (name, found)
        assert found.kept and found.repeats, (name, found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_on_a_card_are_those_of_a_cpu(dtype):
    """To train and to predict, and as a CUDA graph."""
    torch.manual_seed(0)
    for block in (ConvNormAct(2, 6, 6), Residual(2, 6, 6)):
        x = torch.randn(2, 6, 20, 24)
        expected = block(x).detach()
        block, x = (each.to("cuda", memory_format=torch.channels_last) for each in (block, x))
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            learning = block(x)
            with torch.no_grad():
                found = block(x)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    captured = block(x)
                graph.replay()
        for same in (learning, captured):  # but for another algorithm of the convolution
            torch.testing.assert_close(same.detach().float(), found.float(), atol=0.02, rtol=0.02)
        torch.testing.assert_close(found.float().cpu(), expected, atol=0.05, rtol=0.05)
        learning.float().sum().backward()
        gradients = {name: each.grad for name, each in block.named_parameters()}
        assert all(torch.isfinite(each).all() for each in gradients.values() if each is not None)
        # a bias before a norm changes nothing, and is left out there
        convolutions = {f"{name}.bias" for name, part in block.named_modules() if isinstance(part, nn.Conv2d)}
        assert {name for name, each in gradients.items() if each is None} == convolutions


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_card_with_triton_takes_the_kernels():
    if not kernels_run_on(torch.device("cuda", torch.cuda.current_device())):
        pytest.skip("Triton does not work here")
    x, weight, bias = (each.detach().cuda().requires_grad_() for each in given(*SHAPES[0], torch.float32))
    assert type(instance_norm(x, weight, bias).grad_fn).__name__ == "_InstanceNormBackward"
    plain = instance_norm(x.contiguous(), weight, bias)
    torch.testing.assert_close(plain, instance_norm(x, weight, bias))
    assert type(plain.grad_fn).__name__ != "_InstanceNormBackward"


@pytest.mark.parametrize(("shape", "order"), SHAPES)
@pytest.mark.parametrize("slope", [0.1, 1.0])
def test_without_kernels_it_is_torch(shape, order, slope):
    x, weight, bias = given(shape, order, torch.float64)
    found = instance_norm(x, weight, bias, slope=slope)
    torch.testing.assert_close(found, F.leaky_relu(F.instance_norm(x, weight=weight, bias=bias), slope))
    assert torch.autograd.gradcheck(lambda *args: instance_norm(*args, slope=slope), (x, weight, bias))


def test_where_triton_fails_a_warning_says_why_once():
    kernels_run_on.cache_clear()  # a CPU is where it fails everywhere: kernels are compiled for a GPU
    with pytest.warns(UserWarning, match=r"Triton fails on cpu \(\w+Error: "):
        assert not kernels_run_on(torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not kernels_run_on(torch.device("cpu"))


def test_triton_is_imported_on_no_way_of_a_cpu():
    script = (
        "import sys, torch\n"
        "from flarenet.networks.blocks import ConvNormAct\n"
        "ConvNormAct(2, 3, 4)(torch.rand(2, 3, 8, 8)).sum().backward()\n"
        "assert 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_a_block_names_its_weights_and_calculates_as_ever():
    torch.manual_seed(0)
    block = ConvNormAct(2, 3, 4)
    assert list(block.state_dict()) == ["conv.weight", "conv.bias", "norm.weight", "norm.bias"]
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(block(x), block.act(block.norm(block.conv(x))))
    assert block.act.negative_slope == LEAK


def test_the_benchmark_needs_a_gpu_and_knows_an_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["norm", "--help"])
    with pytest.raises(SystemExit) as left:
        benchmark.main()
    assert left.value.code == 0 and "--settings" in capsys.readouterr().out
    x, weight, bias = given(*SHAPES[0], torch.float32)
    assert max(benchmark.errors(benchmark.torch_way, x, weight, bias, torch.ones_like(x))) < 1e-5
    wrong = benchmark.errors(lambda *args: benchmark.torch_way(*args) + 1, x, weight, bias, torch.ones_like(x))
    assert wrong[0] > 0.1 and max(wrong[1:]) < 1e-5
    if not torch.cuda.is_available():
        monkeypatch.setattr(sys, "argv", ["norm"])
        assert benchmark.main() == 1 and "needs a GPU" in capsys.readouterr().err


def given(shape: tuple[int, ...], order: torch.memory_format, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x = (2 + 3 * torch.randn(shape, dtype=dtype)).contiguous(memory_format=order)
    weight, bias = torch.randn(shape[1], dtype=dtype), torch.randn(shape[1], dtype=dtype)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()
