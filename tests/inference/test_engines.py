"""Devices and precisions by name."""

import pytest
import torch

from flarenet.errors import UsageError
from flarenet.inference.engines import autocast, pick_device, pick_precision


def test_auto_is_a_gpu_where_there_is_one():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="CUDA devices"):
        pick_device("cuda:99")
    with pytest.raises(UsageError, match="did you mean 'cpu'"):
        pick_device("cpuu")


def test_autocast_computes_in_the_type_asked_for():
    cpu = torch.device("cpu")
    layer, x = torch.nn.Linear(2, 2), torch.rand(1, 2)
    for precision, dtype in [("fp32", torch.float32), ("bf16", torch.bfloat16), ("auto", pick_precision(cpu, "auto"))]:
        with autocast(cpu, precision):
            assert layer(x).dtype == dtype
    with pytest.raises(UsageError, match="unknown precision"):
        autocast(cpu, "fp8")
