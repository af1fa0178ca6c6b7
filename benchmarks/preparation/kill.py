"""kill -9 at random moments of preparation, then the same command again: is the store that of an uninterrupted run?

    python -m benchmarks.preparation.kill --kills 20

A set of phantoms is planned and prepared once without a kill. Then, each time in a fresh root, the process group of
flarenet_plan is killed at a random moment (by a seed) between the first and the last write, and the command is run
again. Every file must be the same byte for byte, nothing temporary may be left, and no case that was ready is redone.
If the run has already ended at that moment, another moment is drawn.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from flarenet.phantom import write_phantom_set
from flarenet.whole import sha256_of
from flarenet.workspace import Workspace

NAME = "PHANTOM"
PLAN = "import sys; from flarenet.cli.plan import main; sys.exit(main())"
RECORDS = "*/[!.]*/record.json"  # of all finished cases; hidden folders are still being written


@dataclass(frozen=True)
class Unbroken:
    """The result of an uninterrupted run: the content of `prepared`, and how long it went on after its first write."""

    content: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class Trial:
    """The result of one kill.

    hit    whether the run had not ended before
    ready  how many prepared cases it left
    fault  what is wrong in the end; empty: nothing
    """

    hit: bool
    ready: int
    fault: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--detail", type=float, default=2.0, help="of the phantoms (default: %(default)s)")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw" / NAME
        write_phantom_set(raw, cases=arguments.cases, test_cases=0, seed=arguments.seed, detail=arguments.detail)
        line = [sys.executable, "-c", PLAN, "-d", NAME, "--workers", "2", "--root"]
        wanted = unbroken(line, raw, Path(folder) / "unbroken")
        hits, faults, numbers = 0, 0, count()
        while hits < arguments.kills:
            after_s = draw.uniform(0, wanted.seconds)
            tried = trial(line, raw, Path(folder) / f"killed{next(numbers)}", after_s=after_s, wanted=wanted)
            hits, faults = hits + tried.hit, faults + bool(tried.fault)
            when = f"killed {after_s:.2f} s in" if tried.hit else f"had ended {after_s:.2f} s in"
            print(f"{when}, with {tried.ready} prepared: {tried.fault or 'the same store'}", flush=True)
    print(f"{hits} kills, {faults} faults")
    return 1 if faults else 0


def unbroken(line: Sequence[str], raw: Path, root: Path) -> Unbroken:
    """Run the command `line` + root to its end, on a link to the data set `raw`."""
    process = _begin(line, raw, root)
    began = _written(root, process)
    if process.wait() != 0:
        raise RuntimeError(f"{line} ended with exit code {process.returncode}")
    return Unbroken(content_of(root), time.perf_counter() - began)


def trial(line: Sequence[str], raw: Path, root: Path, *, after_s: float, wanted: Unbroken, records: int = 0) -> Trial:
    """Kill the command `line` + root and all its processes `after_s` seconds after its first write (or after `records`
    records are written), run it again, and compare with `wanted`."""
    process = _begin(line, raw, root)
    _written(root, process, records)
    time.sleep(after_s)
    with suppress(ProcessLookupError):  # the run has ended
        os.killpg(process.pid, signal.SIGKILL)
    hit = process.wait() == -signal.SIGKILL
    ready = {path: path.stat().st_ino for path in Workspace(root, NAME).prepared.glob(RECORDS)}
    code = _begin(line, raw, root).wait()
    found = content_of(root)
    other = sorted(name for name in found.keys() | wanted.content.keys() if found.get(name) != wanted.content.get(name))
    redone = sorted(str(path.relative_to(root)) for path, inode in ready.items() if path.stat().st_ino != inode)
    faults = [f"exit code {code}"] if code else []
    faults += [f"{what}: {', '.join(names)}" for what, names in (("differ", other), ("made anew", redone)) if names]
    return Trial(hit, len(ready), "; ".join(faults))


def content_of(root: Path) -> dict[str, str]:
    """Every file and folder below `prepared`, hidden ones too -> the SHA-256 of a file, "" for a folder."""
    prepared = Workspace(root, NAME).prepared
    return {
        path.relative_to(prepared).as_posix(): sha256_of(path) if path.is_file() else "" for path in prepared.rglob("*")
    }


def _begin(line: Sequence[str], raw: Path, root: Path) -> subprocess.Popen:
    link = Workspace(root, NAME).raw
    if not link.exists():
        link.parent.mkdir(parents=True)
        link.symlink_to(raw, target_is_directory=True)
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*line, str(root)], start_new_session=True, stdout=quiet, stderr=quiet)


def _written(root: Path, process: subprocess.Popen, records: int = 0) -> float:
    """Wait until `records` records are written (0: until the first case is being written); returns that time."""
    prepared = Workspace(root, NAME).prepared
    while process.poll() is None:
        found = sum(1 for _ in prepared.glob(RECORDS))
        if found >= max(records, 1) or (not records and any(prepared.glob("*/.*.tmp.*"))):
            break
        time.sleep(0.001)
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
