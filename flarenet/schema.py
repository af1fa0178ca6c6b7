"""The base of everything that is read from or written to JSON: frozen, strict, nothing extra."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import FlarenetError
from .whole import write_text

LARGEST_JSON_BYTES = 64 << 20


class Frozen(BaseModel):
    """Immutable, strictly typed data; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def read_json(path: str | Path, error: type[FlarenetError]) -> Any:
    """The content of a JSON file, more strictly than JSON asks: no duplicate keys, no NaN, bounded size.

    Raises `error`, naming the file and the place.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise error(path, found=f"{path.stat().st_size} bytes", expected=f"at most {LARGEST_JSON_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise error(path, found="no such file", expected="a JSON file") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise error(path, found=problem, expected="a readable UTF-8 JSON file") from problem

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(items)
        if len(seen) != len(items):
            twice = sorted({key for key, _ in items if sum(k == key for k, _ in items) > 1})
            raise error(f"{path}: key {twice[0]!r}", found="the same key twice", expected="every key once")
        return seen

    def constant(name: str) -> None:
        raise error(path, found=name, expected="finite numbers")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as problem:
        raise error(
            f"{path}, line {problem.lineno}, column {problem.colno}", found=problem.msg, expected="valid JSON"
        ) from problem
    except RecursionError as problem:
        raise error(path, found="brackets nested too deeply", expected="a flat JSON file") from problem


def parse(model: type[Model], data: Any, source: object, error: type[FlarenetError]) -> Model:
    """`data` (as read_json gives it) as a `model`. Raises `error` with the path of the first wrong field."""
    try:
        return model.model_validate_json(json.dumps(data))
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        found = "nothing" if first["type"] == "missing" else _short(first["input"])
        raise error(f"{source}: key {key!r}", found=found, expected=first["msg"]) from problem


def load(model: type[Model], path: str | Path, error: type[FlarenetError]) -> Model:
    """Read and check a JSON file. Raises `error` with file, key, found and expected."""
    return parse(model, read_json(path, error), path, error)


def save(value: BaseModel, path: str | Path) -> None:
    """Write `value` as indented JSON, whole or not at all; short lists stay on one line."""
    write_text(path, to_json(value.model_dump(mode="json")) + "\n")


def to_json(value: Any, indent: int = 0) -> str:
    """JSON for people: dictionaries over several lines, everything of up to 100 characters on one."""
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if len(flat) + indent <= 100 or not isinstance(value, (dict, list)) or not value:
        return flat
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        inner = [f"{pad}{json.dumps(key)}: {to_json(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + to_json(item, indent + 1) for item in value) + "\n" + " " * indent + "]"


def _short(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "..."
