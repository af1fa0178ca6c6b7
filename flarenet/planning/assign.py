"""Changes given as `key=value`, made in a plan or a part of it as JSON."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from typing import Any

from ..errors import UsageError, unknown

BY_HAND = "set by hand"
AS_PLANNED = "; as planned before other numbers were set by hand"
"""What ends the reason of a number that rests on one set by hand, and was not found anew."""

_RESTS_ON = {
    "batches_per_epoch": {"batch_size"},
    "epochs": {"batch_size", "batches_per_epoch"},
    "patch": {"spacing_mm"},
    "inference_spacing_mm": {"spacing_mm"},
    "overlap": {"patch", "inference_spacing_mm"},
}
"""Number -> the numbers beside it that its rule and its reason take up."""


def key_and_value(change: str) -> tuple[str, str]:
    """The key and the value of `key=value`. Raises UsageError for any other text."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {change!r}", found="no '='", expected="key=value")
    return key, text


def assign(data: Any, key: str, text: str) -> None:
    """Set the value of `key` in `data` to `text`, which is JSON or a bare word; its reasons in `why` become BY_HAND,
    and those of numbers that rest on it end in AS_PLANNED.

    Raises UsageError for a key that names nothing. See plan_file.override.
    """
    if not _assign(data, key.split("."), _value(text), key):
        expected = "at least one entry that has this part; the others are skipped"
        raise UsageError(f"--set {f'{key}={text}'!r}", found="null, or nothing, wherever * stands", expected=expected)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assign(node: Any, path: list[str], value: Any, key: str, *, starred: bool = False) -> int:
    """Set `value` in all places where `path` leads below `node`, a part of the plan; returns how many there were.

    starred  whether the key has a `*` before `path`: then a `node` that is null is passed over
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
    """Set the reasons of a changed value, of its parts and of what it is a part of to BY_HAND. End the reasons of what
    rests on it, and was not set by hand, in AS_PLANNED."""
    *above, changed = path[:-1] if path[-1].isdigit() and len(path) > 1 else path  # patch, for patch.0
    resting = [[*above, number] for number, others in _RESTS_ON.items() if changed in others]
    for name, reason in reasons.items():
        if _is_of(name, path):
            reasons[name] = BY_HAND
        elif any(_is_of(name, other) for other in resting) and not reason.endswith(BY_HAND):
            reasons[name] = reason + AS_PLANNED


def _is_of(name: str, path: list[str]) -> bool:
    """Whether the reason `name` is that of the value at `path`, of a part of it, or of what it is a part of (but for
    the steps as a whole), by its own name or by a path that may have a `*`."""
    place = ".".join(path)
    return (name in path and name != "steps") or fnmatch(name, place) or fnmatch(name, f"{place}.*")


def _places(node: Any) -> dict[str, str | int]:
    """Name in a key -> key or index, for each part of a JSON value; empty for a plain value."""
    if isinstance(node, dict):
        return {name: name for name in node}
    return {str(index): index for index in range(len(node))} if isinstance(node, list) else {}
