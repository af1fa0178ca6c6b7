"""How much memory one process may still take, and how many processors: what the machine has, within the limits set on
this process."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path

_MB = 1 << 20


def available_mb(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> float:
    """The memory that this process may still take, in MB of 2^20 bytes; infinite where nothing is known.

    It is the least of: MemAvailable of the machine, what each control group of this process has left, and the address
    space that a process may have (`ulimit -v`).
    """
    known = [_machine(proc / "meminfo"), _address_space(), *_left(proc / "self" / "cgroup", cgroups)]
    return min(known) / _MB


def processors(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """The processors that this process may keep busy: those it may run on, or fewer where a control group of it is
    granted less time (`docker run --cpus`). A part of one counts as one."""
    granted = map(math.ceil, _granted(proc / "self" / "cgroup", cgroups))
    return min([len(os.sched_getaffinity(0)), *granted])


def _machine(meminfo: Path) -> float:
    fields = _table(meminfo)
    return fields["MemAvailable:"] * 1024 if "MemAvailable:" in fields else float("inf")


def _address_space() -> float:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return float("inf") if soft == resource.RLIM_INFINITY else float(soft)


def _groups(membership: Path, cgroups: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The folder and the version, 1 or 2, of each control group of this process, from its own up to the root."""
    for line in _lines(membership):
        _, controllers, own = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # inside a container the path may be the host's: then only the root exists here, and it is the container's group
        root = cgroups / controller if controllers else cgroups
        folder = root / own.lstrip("/")
        for group in (folder, *folder.parents):
            yield group, 1 if controllers else 2
            if group == root:
                break


def _left(membership: Path, cgroups: Path) -> Iterator[float]:
    """Bytes left in each control group that has a limit."""
    for folder, version in _groups(membership, cgroups, "memory"):
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
        cache = "total_inactive_file" if version == 1 else "inactive_file"
        limit, used = (_number(folder / name) for name in names)
        if limit is not None and used is not None:
            # file pages that nobody used lately are given back on demand
            yield max(0.0, limit - used + _table(folder / "memory.stat").get(cache, 0))


def _granted(membership: Path, cgroups: Path) -> Iterator[float]:
    """How many processors' time each control group is granted, where that is limited."""
    for folder, version in _groups(membership, cgroups, "cpu"):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if version == 1 else ("cpu.max",)
        said = [word for name in names for line in _lines(folder / name)[:1] for word in line.split()]
        if len(said) == 2 and all(word.isdigit() for word in said):  # no limit is "max" or -1
            yield int(said[0]) / int(said[1])


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
