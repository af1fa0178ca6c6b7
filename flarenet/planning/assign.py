"""Changes as a person types them, `key=value`, put into a plan or a part of it as JSON."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from typing import Any

from ..errors import UsageError, unknown

BY_HAND = "set by hand"


def key_and_value(change: str) -> tuple[str, str]:
    """The parts of `key=value`. Raises UsageError where it is none."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {change!r}", found="no '='", expected="key=value")
    return key, text


def assign(data: Any, key: str, text: str) -> None:
    """Put a value, JSON or a bare word, into `data` where `key` leads; the reasons beside it become BY_HAND.

    Raises UsageError for a key that names nothing. See plan_file.override.
    """
    if not _assign(data, key.split("."), _value(text), key):
        expected = "at least one entry that has this part; the others are passed over"
        raise UsageError(f"--set {f'{key}={text}'!r}", found="null, or nothing, wherever * stands", expected=expected)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assign(node: Any, path: list[str], value: Any, key: str, *, starred: bool = False) -> int:
    """Put `value` where `path` leads below `node`, a part of the plan; in how many places that was.

    starred  a `*` stands before: where `node` is null there is nothing to change
    """
    if node is None:
        if starred:
            return 0
        part = key.removesuffix("." + ".".join(path))
        raise UsageError(f"plan key {key!r}", found=f"{part} is null", expected=f"{part}='{{...}}', set whole")
    head, rest = path[0], path[1:]
    places = _places(node)
    if head != "*" and head not in places:
        raise unknown(f"plan key {key!r}: part", head, places)
    count = 0
    for name in places if head == "*" else [head]:
        if rest:
            count += _assign(node[places[name]], rest, value, key, starred=starred or head == "*")
        else:
            node[places[name]], count = value, count + 1
    if count and isinstance(node, dict) and head != "why":
        _note(node.get("why", {}), path)
    return count


def _note(reasons: dict[str, str], path: list[str]) -> None:
    """A value that is changed loses the reason it had: that of its own name, or of the network it is part of."""
    below = ".".join(path)
    for name in reasons:
        if name == path[-1] or fnmatch(name, below) or (name == "network" and path[0] == name):
            reasons[name] = BY_HAND


def _places(node: Any) -> dict[str, str | int]:
    """The parts of a JSON value by their names in a key: none for a plain value."""
    if isinstance(node, dict):
        return {name: name for name in node}
    return {str(index): index for index in range(len(node))} if isinstance(node, list) else {}
