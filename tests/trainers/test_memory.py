"""What is said where a step does not fit in memory."""

from pathlib import Path

import pytest
import torch

from flarenet.errors import StorageError
from flarenet.planning.cost.memory import training_gb
from flarenet.planning.plan_file import load_plan, override
from flarenet.trainers.memory import memory_gb, shortage, within_memory

PLAN = load_plan(Path(__file__).resolve().parents[1] / "golden" / "plan_spleen_auto.json")


def need_gb(plan, samples):
    """Of 3DOrgan in PLAN, whose batch is of four blocks."""
    network, patch = plan.trainer("3DOrgan").network, plan.configuration_of("3DOrgan").patch
    return training_gb(network, plan.labels.outputs, patch=patch, batch_size=samples, precision="auto")


@pytest.mark.parametrize(
    ("accumulate", "samples", "remedy"),
    [
        (1, 4, "--set trainers.3DOrgan.update.accumulate=2: the same gradient in less memory"),
        (2, 2, "--set trainers.3DOrgan.update.accumulate=4: the same gradient in less memory"),
        (4, 1, "flarenet_plan -d Spleen --root {root} --gpu-memory-gb G, for a run"),  # one block at once is the least
    ],
)
def test_a_card_that_is_too_small_is_told_before_and_after(tmp_path, accumulate, samples, remedy):
    remedy = remedy.format(root=tmp_path)
    plan = override(PLAN, [f"trainers.3DOrgan.update.accumulate={accumulate}"])
    step, need = plan.step("3DOrgan", 1), need_gb(plan, samples)
    assert step.batch_size == 4
    assert shortage(plan, "3DOrgan", step, root=tmp_path, precision="auto", there_gb=need + 0.01) == ""
    said = shortage(plan, "3DOrgan", step, root=tmp_path, precision="auto", there_gb=need - 0.01)
    assert f"about {need:.1f} GB, for {samples} of a batch at once" in said and f"if it fails: {remedy}" in said
    memory = within_memory("3DOrgan step 1", plan, "3DOrgan", step, root=tmp_path)
    with pytest.raises(StorageError) as caught, memory:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert caught.value.thing == "3DOrgan step 1" and caught.value.remedy.startswith(remedy)
    assert caught.value.expected == f"enough for {samples} of a batch of 4 at once"


def test_other_errors_stay_and_a_processor_is_no_card(tmp_path):
    memory = within_memory("run", PLAN, "3DOrgan", PLAN.step("3DOrgan", 1), root=tmp_path)
    with pytest.raises(RuntimeError, match="shapes"), memory:
        raise RuntimeError("shapes differ")
    assert memory_gb(torch.device("cpu")) is None
