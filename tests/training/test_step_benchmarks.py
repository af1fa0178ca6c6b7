"""The benchmarks of training, small: they run, and what they count is right."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import real_run
from benchmarks.gpu import step as on_gpu
from benchmarks.training import asking, step

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


def test_every_way_has_a_row_and_the_fastest_is_named(monkeypatch, capsys):
    ways = ["fp32", "fp32, channels-last"]  # bf16 takes minutes on processors that emulate it
    monkeypatch.setattr(sys, "argv", ["step", "--side", "32", "--batch", "2", "--repeats", "1", "--ways", *ways])
    assert step.main() == 0
    said = capsys.readouterr().out
    assert all(said.count(f"| {way} |") == 2 for way in ways) and said.count("fastest: ") == 2


def test_decoders_that_rest_are_timed_beside_those_that_see_all(monkeypatch, capsys):
    words = ["--features", *["4"] * 6, "--patch", "32", "32", "--batch", "3", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["asking", *words])
    assert asking.main() == 0
    said = capsys.readouterr().out
    assert said.count(" s a step") == 2 and float(said.split()[-1]) > 0


def test_the_operations_of_a_step_are_those_of_its_convolutions():
    size = step.size_of("2d", 2, 32)
    network, image = step.prepared(size, CPU, channels_last=False)
    counted = []

    def count(module, inputs, output):  # multiply-adds of a convolution, each two operations
        transposed = isinstance(module, torch.nn.ConvTranspose2d)
        voxels = (inputs[0] if transposed else output)[0, 0].numel()
        counted.append(2 * voxels * module.weight.numel())

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(image[:1], size.network.groups)
    # backwards twice as many, but for the image, which needs no gradient
    assert on_gpu.step_flops(size, CPU) == 2 * (3 * sum(counted) - counted[0])


def test_the_gpu_benchmark_runs_on_a_cpu(monkeypatch, capsys):
    words = ["--device", "cpu", "--batch", "1", "--side", "32", "--repeats", "1", "--precision", "fp32"]
    monkeypatch.setattr(sys, "argv", ["step", *words])
    monkeypatch.setattr(on_gpu, "matrix_rate", lambda device, precision: 1e9)
    assert on_gpu.main() == 0
    said = capsys.readouterr().out
    assert "| eager |" in said and "convolution" in said


def test_the_real_run_needs_no_command_on_the_path():
    line = real_run.run_here(["flarenet_plan", "--help"])
    done = subprocess.run(line, env={"PATH": ""}, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage: flarenet_plan")


def test_the_real_run_begins_with_a_look_for_the_data_set(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["real_run", "--root", str(tmp_path), "-d", "SET"])
    with pytest.raises(SystemExit):
        real_run.main()
    assert f"{tmp_path / 'raw' / 'SET' / 'imagesTs'} is not a folder" in capsys.readouterr().err
