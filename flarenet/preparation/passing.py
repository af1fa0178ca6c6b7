"""Planes that come one after the other, lowest or highest first, where a few neighbours are needed at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


def in_order(items: Sequence[T], descending: bool) -> Sequence[T]:
    """The items in the order in which they come: the last one first where `descending`."""
    return items[::-1] if descending else items


class Passing(Generic[T]):
    """Items, numbered 0 to `count` - 1, of which those that were asked for last are kept.

    items  lowest number first, or highest first where `descending`
    """

    def __init__(self, items: Iterable[T], count: int, *, descending: bool = False) -> None:
        self._items = zip(in_order(range(count), descending), items)
        self._descending = descending
        self._kept: dict[int, T] = {}

    def between(self, first: int, stop: int) -> list[T]:
        """Items `first` to `stop` - 1, lowest first. From call to call neither end may move back against the order.

        Raises ValueError where the items end before.
        """
        self._kept = {number: item for number, item in self._kept.items() if first <= number < stop}
        last = first if self._descending else stop - 1
        while last not in self._kept:
            number, item = next(self._items, (None, None))
            if number is None:
                raise ValueError(f"the planes end before number {last}")
            if first <= number < stop:
                self._kept[number] = item  # type: ignore[assignment]
        return [self._kept[number] for number in range(first, stop)]
