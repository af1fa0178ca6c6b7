"""Several processes that train one network: torchrun starts them, and each works on its own rows of every batch.

What a loss sums over a batch goes through sums.summed. Gradients are averaged over the processes, as torch's
DistributedDataParallel does. It is not used itself for two reasons: the order in which it adds numbers changes after
the first batch of a process, so an interrupted run would end differently from an uninterrupted one; and it wraps only
a network's `forward`, while objectives also call other methods.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch

# Before there is a group: optimizers import it too, and its functions keep the group of that moment as a default value.
# destroy_process_group would then leave gloo's threads, and one that is late could abort the process at its end.
import torch.distributed.nn.functional
from torch import Tensor, distributed, nn

from ..inference.engines.engine import pick_device

_PATIENCE = timedelta(days=1)
"""How long processes wait for each other: the first may have to label thousands of scans. A killed one is noticed at
once."""


def own_device(name: str) -> torch.device:
    """The device of engines.pick_device; each process that torchrun started on a machine gets a GPU of its own."""
    device = pick_device(name)
    if device.type == "cuda" and name in ("auto", "cuda") and distributed.is_torchelastic_launched():
        return pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
    return device


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the process group of torchrun; nothing happens where torchrun did not start this process.

    Where the body fails the group is not destroyed: that would wait for the others, which wait for this process.
    torchrun notices that this process has ended, and ends the others.
    """
    if not distributed.is_torchelastic_launched() or distributed.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    yield
    distributed.destroy_process_group()


def processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process among all that work together. The first, 0, is the one that writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def processes_here() -> int:
    """How many processes torchrun started on this machine; known before they have joined."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if distributed.is_torchelastic_launched() else 1


def own_rows(batch_size: int) -> range:
    """The rows of a batch that this process works on; none where there are fewer rows than processes."""
    return range(rank(), batch_size, processes())


def wait_for_all() -> None:
    """Wait until every process gets here."""
    if processes() > 1:
        distributed.barrier()


@contextmanager
def first_before_others() -> Iterator[None]:
    """Run the body in the first process, then in the others, so that they find what the first wrote."""
    if rank() > 0:
        wait_for_all()
    yield
    if rank() == 0:
        wait_for_all()


def averaged(values: Tensor) -> Tensor:
    """The mean of `values` over the processes; it carries no gradient."""
    return all_summed(values) / processes()


def highest(*numbers: int) -> list[int]:
    """The maximum of each of `numbers` over the processes."""
    if processes() == 1:
        return list(numbers)
    found = torch.tensor(numbers, device="cuda" if distributed.get_backend() == "nccl" else "cpu")
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return [int(number) for number in found.tolist()]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients in every process by their mean over the processes.

    Which parameters have a gradient depends on the step, not on the batch, and so is the same in all processes.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if processes() == 1 or not gradients:
        return
    flat = averaged(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(part.view_as(gradient))


def all_summed(values: Tensor) -> Tensor:
    """The sum of `values` over the processes; it carries no gradient."""
    total = values.detach().clone()
    if processes() > 1:
        distributed.all_reduce(total)
    return total
