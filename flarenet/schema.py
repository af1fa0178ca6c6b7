"""The base of everything that is read from or written to JSON: frozen, strict, nothing extra."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from .errors import FlarenetError
from .whole import reading, write_text

LARGEST_JSON_BYTES, LARGEST_TABLE_BYTES, LARGEST_FINGERPRINT_BYTES = 2 << 20, 64 << 20, 1 << 30
"""The size limits of a JSON file, of one that grows with the cases of a data set or the epochs of a run, and of one
that grows with cases times labels: a case of 200 labels takes 60 kB of a fingerprint."""

BYTES_OF_A_VALUE = 16
"""A JSON text may hold one value for each 16 bytes of its size limit: the text `[],[],...` takes forty times its size
in memory."""

LONGEST_NUMBER = 40
"""The most characters of an integer, far more than one of 64 bits has."""

LONGEST_VALUE = 120
"""Characters of a wrong value that an error shows."""


class Frozen(BaseModel):
    """Immutable, strictly typed data; an unknown field is an error.

    largest_bytes  the largest file that `load` accepts
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    largest_bytes: ClassVar[int] = LARGEST_JSON_BYTES


Model = TypeVar("Model", bound=Frozen)

_EXPECTED = {"missing": "a value", "extra_forbidden": "no key of this name"}
_BEFORE_WHAT_IS_EXPECTED = re.compile("^(Input should be |Value error, )")  # the latter of our own validators
_NO_UTF8 = re.compile(r"[\ud800-\udfff]")


def read_json(
    path: str | Path,
    error: type[FlarenetError],
    *,
    largest_bytes: int = LARGEST_JSON_BYTES,
    absent: str | None = None,
) -> Any:
    """The content of a JSON file. Stricter than Python's json: duplicate keys, NaN and infinity, a file that is too
    large, an integer that is too long and too many values are refused.

    absent  what a user can do where there is no such file
    Raises `error`, naming the file and, where there is one, the place: line and column, or the path of the key; but
    StorageError for a file that is there and cannot be read.
    """
    path = Path(path)
    try:
        with reading(path):
            if path.exists() and not path.is_file():
                raise error(path, found="a folder" if path.is_dir() else "not a regular file", expected="a JSON file")
            if path.stat().st_size > largest_bytes:
                raise error(path, found=f"{path.stat().st_size} bytes", expected=f"at most {largest_bytes} bytes")
            text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise error(path, found="no such file", expected="a JSON file", remedy=absent) from problem
    except UnicodeDecodeError as problem:
        raise error(path, found=problem, expected="a UTF-8 JSON file") from problem
    return parse_json(text, path, error, largest_bytes=largest_bytes)


def parse_json(
    text: str, source: object, error: type[FlarenetError], *, largest_bytes: int = LARGEST_JSON_BYTES
) -> Any:
    """The content of a JSON text, as strictly as read_json. Raises `error`, which names the text `source`."""
    _check_values(text, source, error, largest_bytes)
    try:
        return _strict_json(text, source, error)
    except json.JSONDecodeError as problem:
        raise error(
            f"{source}, line {problem.lineno}, column {problem.colno}", found=problem.msg, expected="valid JSON"
        ) from problem
    except RecursionError as problem:
        raise error(source, found="brackets nested too deeply", expected="flat JSON") from problem


def _check_values(
    text: str, source: object, error: type[FlarenetError], largest_bytes: int, *, remedy: str | None = None
) -> None:
    values, most = sum(map(text.count, "[{,")), largest_bytes // BYTES_OF_A_VALUE
    if values > most:
        raise error(source, found=f"{values} brackets and commas", expected=f"at most {most}", remedy=remedy)


@dataclass(frozen=True)
class _Fault:
    """Stands for a refused value until the path of its key is known."""

    found: str
    expected: str


def _strict_json(text: str, source: object, error: type[FlarenetError]) -> Any:
    faults = []

    def fault(found: str, expected: str) -> _Fault:
        faults.append(_Fault(found, expected))
        return faults[-1]

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(items)
        if len(seen) != len(items):
            twice = next(key for key, count in Counter(key for key, _ in items).items() if count > 1)
            seen[twice] = fault("the same key twice", "every key once")
        return seen

    def integer(digits: str) -> int | _Fault:
        if len(digits) > LONGEST_NUMBER:
            return fault(f"a number of {len(digits)} characters", f"at most {LONGEST_NUMBER}")
        return int(digits)

    def real(digits: str) -> float | _Fault:
        return number if math.isfinite(number := float(digits)) else fault(digits[:LONGEST_NUMBER], "finite numbers")

    content = json.loads(
        text,
        object_pairs_hook=pairs,
        parse_constant=lambda name: fault(name, "finite numbers"),
        parse_int=integer,
        parse_float=real,
    )
    if faults:
        place, first = _first_fault(content)
        raise error(f"{source}: key {place or '(top level)'!r}", found=first.found, expected=first.expected)
    return content


def _first_fault(content: Any) -> tuple[str, _Fault]:
    """The path of the key of the first _Fault in `content`, and that fault; there must be one."""
    left: list[tuple[str, Any]] = [("", content)]
    while not isinstance(left[-1][1], _Fault):
        place, value = left.pop()
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        left += [(f"{place}.{key}".lstrip("."), inner) for key, inner in reversed(list(inside))]
    return left[-1]


def parse(model: type[Model], data: Any, source: object, error: type[FlarenetError]) -> Model:
    """`data` (as read_json returns it) as a `model`. Raises `error` with the path of the first wrong field."""
    value, wrong = parse_all(model, data, source, error)
    if value is None:
        raise next(iter(wrong.values()))
    return value


def parse_all(
    model: type[Model], data: Any, source: object, error: type[FlarenetError]
) -> tuple[Model | None, dict[tuple[str | int, ...], FlarenetError]]:
    """As parse, but nothing is raised: (the model, {}), or (None, {path of a wrong field: its error})."""
    try:
        return model.model_validate_json(json.dumps(data)), {}
    except ValidationError as problem:
        return None, {
            fault["loc"]: error(
                f"{source}: key {'.'.join(str(part) for part in fault['loc']) or '(top level)'!r}",
                found="nothing" if fault["type"] == "missing" else _short(fault["input"]),
                expected=_EXPECTED.get(fault["type"]) or _BEFORE_WHAT_IS_EXPECTED.sub("", fault["msg"]),
            )
            for fault in problem.errors(include_url=False)
        }


def load(model: type[Model], path: str | Path, error: type[FlarenetError]) -> Model:
    """Read and check a JSON file. Raises `error` with file, key, found and expected; else as read_json."""
    return parse(model, read_json(path, error, largest_bytes=model.largest_bytes), path, error)


def load_or_none(model: type[Model], path: str | Path) -> Model | None:
    """As load, for a file that can be recreated: None where it is missing, damaged or of another version."""
    try:
        return load(model, path, FlarenetError)
    except FlarenetError:
        return None


def save(value: BaseModel, path: str | Path) -> None:
    """Write `value` as indented JSON, whole or not at all; short lists stay on one line."""
    write_text(path, as_saved(value))


def save_to_load(value: Frozen, path: str | Path, error: type[FlarenetError]) -> None:
    """As save, for data that grows with a data set. Raises `error`, and writes nothing, where `load` would refuse its
    size."""
    text, most, remedy = as_saved(value), value.largest_bytes, "a data set of fewer cases, labels or patterns of labels"
    size = len(text.encode())
    if size > most:
        raise error(path, found=f"{size} bytes to write", expected=f"at most {most} bytes", remedy=remedy)
    _check_values(text, path, error, most, remedy=remedy)
    write_text(path, text)


def as_saved(value: BaseModel) -> str:
    """The text that `save` writes."""
    return to_json(value.model_dump(mode="json")) + "\n"


def digest(value: Any) -> str:
    """The SHA-256 of a JSON value, or of the one that is saved of Frozen data, as 64 hexadecimal digits."""
    content = value.model_dump(mode="json") if isinstance(value, Frozen) else value
    return hashlib.sha256(to_json(content).encode()).hexdigest()


def check_content(
    found: str, written: str | None, source: object, error: type[FlarenetError], *, remedy: str | None = None
) -> None:
    """Raise `error`, which names `source`, where the digest `found` of what it holds is not the one that was `written`
    for it."""
    if found != written:
        raise error(source, found="other content than was written", expected="an undamaged file", remedy=remedy)


def leaves(value: JsonValue, key: str = "") -> Iterator[tuple[str, JsonValue]]:
    """(dotted key, value) of every part of a JSON value that is not itself a dictionary."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value


def to_json(value: Any, indent: int = 0) -> str:
    """Readable JSON: what fits in 100 characters stands on one line, anything longer takes a line for each item.

    A character that UTF-8 cannot hold, such as a byte of a file name in another encoding, is written as \\udcXX.
    """
    flat = _NO_UTF8.sub(lambda sign: rf"\\u{ord(sign[0]):x}", json.dumps(value, ensure_ascii=False, allow_nan=False))
    if len(flat) + indent <= 100 or not isinstance(value, (dict, list)) or not value:
        return flat
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        inner = [f"{pad}{json.dumps(escaped(key))}: {to_json(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + to_json(item, indent + 1) for item in value) + "\n" + " " * indent + "]"


def escaped(text: str) -> str:
    """`text` with \\udcXX for each byte of a file name that is not UTF-8, as it is written to files."""
    return text.encode(errors="backslashreplace").decode()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."
