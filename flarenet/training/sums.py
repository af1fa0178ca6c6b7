"""What a loss sums over a batch that several processes work on, or one process in several turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from .distributed import all_summed, processes

Part = TypeVar("Part")
Judged = TypeVar("Judged")

_turns: _Turns | None = None


def summed(part: Tensor) -> Tensor:
    """The sum over the whole batch of what is summed here over some of its rows.

    Where several work on a batch, each calls it for the same sums in the same order. Its slope is as many times the
    part's as there are parts, because gradients are averaged over them.
    """
    if _turns is not None:
        return _turns.summed(part)
    return _Whole.apply(part, all_summed(part), processes()) if processes() > 1 else part


def in_turns(parts: Sequence[Part], judge: Callable[[Part], Judged]) -> Iterator[Judged]:
    """The loss of the whole batch, once for each part: as a function of what the network says of that part.

    The mean of their gradients is that of the whole batch. Sums over all of it are found by a pass without gradients
    before; where nothing is summed there is none, and each loss is of its part alone.
    """
    if len(parts) == 1:
        yield judge(parts[0])
        return
    turns, generator = _Turns(len(parts)), torch.get_rng_state()
    with torch.no_grad():
        for part in parts:
            with turns.one(adding=True):
                judge(part)
            if not turns.sums:
                break
    turns.sums = [all_summed(total) for total in turns.sums]
    torch.set_rng_state(generator)
    for part in parts:
        with turns.one(adding=False):
            loss = judge(part)
        yield loss


class _Turns:
    """The sums of one batch, in the order in which the loss asks for them."""

    def __init__(self, count: int) -> None:
        self.sums: list[Tensor] = []
        self._count, self._adding, self._place = count, True, 0

    @contextmanager
    def one(self, *, adding: bool) -> Iterator[None]:
        """Within, `summed` adds to the sums, or answers what they came to."""
        global _turns
        self._adding, self._place, _turns = adding, 0, self
        try:
            yield
        finally:
            _turns = None

    def summed(self, part: Tensor) -> Tensor:
        place, self._place = self._place, self._place + 1
        if not self._adding:
            return _Whole.apply(part, self.sums[place], self._count * processes())
        if place == len(self.sums):
            self.sums.append(torch.zeros_like(part))
        self.sums[place] = self.sums[place] + part
        return part


class _Whole(torch.autograd.Function):
    """A sum over a whole batch as a function of the sum over one of `parts` parts."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, whole: Tensor, parts: int) -> Tensor:
        ctx.parts = parts
        return whole.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        return slope * ctx.parts, None, None
