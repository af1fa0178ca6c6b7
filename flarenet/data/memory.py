"""How much memory one process may still take: what the machine has left, within the limits set on this process."""

from __future__ import annotations

import resource
from pathlib import Path

_MB = 1 << 20


def available_mb(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> float:
    """The memory that this process may still take, in MB of 2^20 bytes; infinite where nothing is known.

    It is the least of: MemAvailable of the machine, what each control group of this process has left, and the address
    space that a process may have (`ulimit -v`).
    """
    known = [_machine(proc / "meminfo"), _address_space(), *_groups(proc / "self" / "cgroup", cgroups)]
    return min(known) / _MB


def _machine(meminfo: Path) -> float:
    fields = _table(meminfo)
    return fields["MemAvailable:"] * 1024 if "MemAvailable:" in fields else float("inf")


def _address_space() -> float:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return float("inf") if soft == resource.RLIM_INFINITY else float(soft)


def _groups(membership: Path, cgroups: Path) -> list[float]:
    """Bytes left in each control group (version 1 or 2) of this process, from its own up to the root."""
    left = []
    for line in _lines(membership):
        _, controllers, own = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        # inside a container the path may be the host's: then only the root exists here, and it is the container's group
        root = cgroups / "memory" if controllers else cgroups
        folder = root / own.lstrip("/")
        for group in (folder, *folder.parents):
            left += _group(group, version=1 if controllers else 2)
            if group == root:
                break
    return left


def _group(folder: Path, *, version: int) -> list[float]:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    cache = "total_inactive_file" if version == 1 else "inactive_file"
    limit, used = (_number(folder / name) for name in names)
    if limit is None or used is None:
        return []
    # file pages that nobody used lately are given back on demand
    return [max(0.0, limit - used + _table(folder / "memory.stat").get(cache, 0))]


def _number(path: Path) -> int | None:
    """The number that is all of a file; None where there is no file, or where it says "max"."""
    text = "".join(_lines(path)[:1])
    return int(text) if text.isdigit() else None


def _table(path: Path) -> dict[str, int]:
    rows = [line.split() for line in _lines(path)]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
