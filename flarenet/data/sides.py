"""Which labels are each other's mirror image: what a person seen in a mirror has on the other side."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import PlanError

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_SIDES = {"left": "right", "right": "left"}
_LETTERS = {"l": "r", "r": "l"}


def mirrored(names: Sequence[str]) -> list[int]:
    """For each of the labels the place among `names` of its mirror image: its own where it has no side.

    "left kidney" and "right kidney" are a pair, so are "kidney_left" and "kidney_right", and, where both are there, "L
    kidney" and "R kidney" or "LAG" and "RAG" (the adrenal glands).
    Raises PlanError for a name with left or right in it without its counterpart.
    """
    places = {_words(name): place for place, name in enumerate(names)}
    return [_counterpart(name, place, places) for place, name in enumerate(names)]


def _counterpart(name: str, place: int, places: dict[tuple[str, ...], int]) -> int:
    words = _words(name)
    other = tuple(_SIDES.get(word, word) for word in words)
    if other in places and other != words:
        return places[other]
    if other != words:
        raise PlanError(f"label {name!r}", found="no counterpart", expected=f"{' '.join(other)!r} in the same group")
    initials = tuple(_LETTERS.get(word[0], word[0]) + word[1:] for word in words)
    return places.get(initials, place)


def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORD.findall(name))
