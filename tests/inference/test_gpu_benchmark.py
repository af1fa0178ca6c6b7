"""The benchmark of prediction on a GPU, small and on a CPU: it runs, and a case that fails spoils no other."""

import argparse
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from torch.autograd import DeviceType

from benchmarks.gpu import table7
from benchmarks.prediction.cases import write_model

SLICES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table7")
    write_model(folder / "model", features=table7.NARROW)
    data = np.random.default_rng(0).integers(-200, 200, (40, 40, SLICES)).astype(np.int16)
    image = nibabel.Nifti1Image(data, np.diag([-0.8, -0.8, 2.5, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, table7.scan_of(folder, SLICES))
    return folder


def test_a_row_for_each_length_and_the_stages_of_the_longest(folder, capsys):
    (folder / "2.nii.gz").write_bytes(b"no scan")
    asked = argparse.Namespace(slices=[2, SLICES], device="cpu", precision="fp32", also=["fp32:2"], anew=False)
    table7.table(folder, asked, None)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert rows[1][0] == "| 2" and "failed" in rows[1][1]
    assert rows[2][0] == f"| {SLICES}" and rows[2][1].endswith("fp32") and float(rows[2][2]) > 0.1
    assert rows[3][1].endswith("fp32, batch 2")
    stages = {row[2]: float(row[3].strip(" |")) for row in rows[5:] if row[1] == rows[2][1]}
    assert {"read", "prepare", "network", "labels", "write"} < set(stages)
    assert stages["the case"] + stages["outside the case"] == pytest.approx(float(rows[2][2]), abs=0.02)


def test_what_ran_is_shown_with_its_share_of_the_time(folder, capsys):
    table7.profiled(folder / "model", folder, argparse.Namespace(device="cpu", precision="fp32", profile=SLICES))
    said = capsys.readouterr().out
    assert f"{SLICES} slices, " in said and "aten::" in said and said.count("%") >= table7.ROWS


def test_of_a_gpu_only_its_own_events_count():
    def event(name, kind, took_us):
        return SimpleNamespace(name=name, device_type=kind, time_range=SimpleNamespace(elapsed_us=lambda: took_us))

    events = [event("gemm", DeviceType.CUDA, 2.0), event("gemm", DeviceType.CUDA, 4.0), event("launch", "cpu", 9.0)]
    seconds, calls = table7.ran(events, on_gpu=True)
    assert seconds == {"gemm": 6e-6} and calls == {"gemm": 2}
