"""The memory that a step takes to train: the warning where a GPU has less, and the error where memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..errors import StorageError, is_out_of_memory, memory_remedy
from ..planning.cost.memory import GB, step_gb
from ..planning.plan import Plan, Step
from ..planning.planned import plan_again
from ..training.distributed import own_rows


def memory_gb(device: torch.device) -> float | None:
    """The memory of a GPU in GB; None for a device that is not a GPU."""
    if device.type != "cuda":
        return None
    return float(torch.cuda.get_device_properties(device).total_memory / GB)


def shortage(plan: Plan, trainer: str, step: Step, *, root: Path, precision: str, there_gb: float) -> str:
    """The warning for a GPU of `there_gb` that `step` may not fit, by the estimate of planning; empty if it fits.

    root  the root of the plan's data set
    """
    need_gb = step_gb(plan, trainer, step, rows=len(own_rows(step.batch_size)), precision=precision)
    if need_gb <= there_gb:
        return ""
    at_once = _at_once(plan, trainer, step)
    planned = f"about {need_gb:.1f} GB, for {at_once} of a batch at once, on a card of {there_gb:.1f} GB"
    return f"this step may take {planned}; if it fails: {_remedy(plan, trainer, step, root)}"


@contextmanager
def within_memory(title: str, plan: Plan, trainer: str, step: Step, *, root: Path) -> Iterator[None]:
    """Raise StorageError, with the remedy to type, where memory runs out while `step` trains; root as in shortage."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise StorageError(
            title,
            found="not enough memory",
            expected=f"enough for {_at_once(plan, trainer, step)} of a batch of {step.batch_size} at once",
            remedy=memory_remedy(error, _remedy(plan, trainer, step, root)),
        ) from error


def _at_once(plan: Plan, trainer: str, step: Step) -> int:
    """How many samples this process works on at once."""
    return plan.trainer(trainer).update.at_once(len(own_rows(step.batch_size)))


def _remedy(plan: Plan, trainer: str, step: Step, root: Path) -> str:
    smaller = f"{plan_again(plan, root, '--gpu-memory-gb G')}, for a run from its start"
    if _at_once(plan, trainer, step) == 1:
        return smaller
    parts = 2 * plan.trainer(trainer).update.accumulate
    same = "the same gradient in less memory, and a run that has begun can resume"
    return f"--set trainers.{trainer}.update.accumulate={parts}: {same}; or {smaller}"
