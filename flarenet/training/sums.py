"""Sums of a loss over a batch that is split over several processes, or over several turns of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from .distributed import all_summed, processes

Part = TypeVar("Part")
Result = TypeVar("Result")

_turns: _Turns | None = None


def summed(part: Tensor) -> Tensor:
    """The sum over the whole batch; `part` is the sum over the rows that this process or turn works on.

    Every process and turn has to call it for the same sums in the same order. In the backward pass the gradient is
    multiplied by the number of parts, because the gradients of the parts are averaged afterwards.
    """
    if _turns is not None:
        return _turns.summed(part)
    return _Whole.apply(part, all_summed(part), processes()) if processes() > 1 else part


def weight_of(rows: int, batch_size: int) -> float:
    """The weight of a mean over `rows` samples with which the mean over all parts and processes is that of the batch.

    It is 1 where all have equally many. A batch of 4 has 2, 1 and 1 on three processes, which weigh 1.5, 0.75 and 0.75.
    """
    return rows * (1 if _turns is None else _turns.count) * processes() / batch_size


def in_turns(parts: Sequence[Part], loss_fn: Callable[[Part], Result]) -> Iterator[Result]:
    """Yield, for each part of a batch, the loss of the whole batch, with the gradient of that part's output.

    The mean of the gradients of these losses is the gradient of the whole batch. A first pass, without gradients, finds
    the sums over the whole batch. Where the loss never calls `summed`, that pass ends after one part, and each loss is
    that of its part alone: see weight_of.
    """
    if len(parts) == 1:
        yield loss_fn(parts[0])
        return
    turns, generator = _Turns(len(parts)), torch.get_rng_state()
    with torch.no_grad():
        for part in parts:
            with turns.one(adding=True):
                loss_fn(part)
            if not turns.sums:
                break
    turns.sums = [all_summed(total) for total in turns.sums]
    torch.set_rng_state(generator)
    for part in parts:
        with turns.one(adding=False):
            loss = loss_fn(part)
        yield loss


class _Turns:
    """The sums of one batch, in the order in which the loss calls `summed`."""

    def __init__(self, count: int) -> None:
        self.sums: list[Tensor] = []
        self.count, self._adding, self._place = count, True, 0

    @contextmanager
    def one(self, *, adding: bool) -> Iterator[None]:
        """The context of one part: in it `summed` adds to the sums or, if not `adding`, gives the finished sums."""
        global _turns
        self._adding, self._place, _turns = adding, 0, self
        try:
            yield
        finally:
            _turns = None

    def summed(self, part: Tensor) -> Tensor:
        place, self._place = self._place, self._place + 1
        if not self._adding:
            return _Whole.apply(part, self.sums[place], self.count * processes())
        if place == len(self.sums):
            self.sums.append(torch.zeros_like(part))
        self.sums[place] = self.sums[place] + part
        return part


class _Whole(torch.autograd.Function):
    """A sum over a whole batch as a function of the sum over one of its `parts` parts."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, whole: Tensor, parts: int) -> Tensor:
        ctx.parts = parts
        return whole.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * ctx.parts, None, None
