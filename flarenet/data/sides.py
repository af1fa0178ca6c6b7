"""Which labels are each other's mirror image, such as the left and the right kidney."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ..errors import PlanError

_WORD = re.compile(r"A+(?=Aa)|A?a+|A+|0+")
"""Matches the words of a name of which each character is replaced by its _kind: capitals and digits begin a word."""

_SIDES = {"left": "right", "right": "left"}
_LETTERS = {"l": "r", "r": "l"}

_Words = tuple[str, ...]


def mirrored(names: Sequence[str]) -> list[int]:
    """For each label the index in `names` of its mirror image; its own index where it has no side.

    "left kidney" and "right kidney" are a pair, and so are "kidney_left" and "kidney_right". "L kidney" and "R kidney",
    or "LAG" and "RAG" (the adrenal glands), are a pair where both exist.
    Raises PlanError for a name with left or right in it that has no counterpart, and for a name that has several.
    """
    places = _places(names)
    return [_counterpart(place, names, places) for place in range(len(names))]


def left_and_right(names: Sequence[str]) -> list[tuple[int, int]]:
    """The indices in `names` of each pair that `mirrored` knows, (left, right). A label that has no counterpart, or
    several, is in no pair."""
    words, places = [_words(name) for name in names], _places(names)
    images = [_images(each, places) for each in words]
    # what tells them apart begins with l for the left one and with r for the right one
    return [
        (left, right)
        for left, found in enumerate(images)
        for right in found
        if found == [right] and images[right] == [left] and words[left] < words[right]
    ]


def _places(names: Sequence[str]) -> Mapping[_Words, list[int]]:
    places = defaultdict(list)
    for place, name in enumerate(names):
        places[_words(name)].append(place)
    return places


def _images(words: _Words, places: Mapping[_Words, list[int]]) -> list[int]:
    """The indices of the mirror images of a label; none for a label without a side."""
    other = _other_side(words)
    wanted = [other] if other != words else _initials(words)
    return [there for each in wanted for there in places.get(each, ())]


def _other_side(words: _Words) -> _Words:
    return tuple(_SIDES.get(word, word) for word in words)


def _counterpart(place: int, names: Sequence[str], places: Mapping[_Words, list[int]]) -> int:
    name, words = names[place], _words(names[place])
    other, found = _other_side(words), _images(words, places)
    if other != words and not found:
        raise PlanError(f"label {name!r}", found="no counterpart", expected=f"{' '.join(other)!r} in the same group")
    if len(found) > 1:
        listed = ", ".join(repr(names[there]) for there in found)
        raise PlanError(f"label {name!r}", found=f"counterparts {listed}", expected="one", remedy="rename the others")
    return found[0] if found else place


def _initials(words: _Words) -> list[_Words]:
    """Every version of `words` in which one word that begins with l or r begins with the other letter."""
    return [
        (*words[:at], _LETTERS[word[0]] + word[1:], *words[at + 1 :])
        for at, word in enumerate(words)
        if word[0] in _LETTERS
    ]


def _words(name: str) -> _Words:
    """The words of a name, in any script, in small letters."""
    kinds = "".join(map(_kind, name))
    return tuple(name[slice(*found.span())].lower() for found in _WORD.finditer(kinds))


def _kind(sign: str) -> str:
    """A for a capital, a for any other letter or a mark on a letter, 0 for a digit, a space for anything else."""
    category = unicodedata.category(sign)
    return "A" if category == "Lu" else {"L": "a", "M": "a", "N": "0"}.get(category[0], " ")
