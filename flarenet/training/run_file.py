"""`run.json`: what was run, and by which processes. It holds all that is needed to run it again, and no personal data.

Folders are named relative to the root; users, hosts and folders outside the root are not named.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch

from .. import __version__
from ..errors import RunError
from ..inference.engines.engine import pick_precision
from ..schema import LARGEST_TABLE_BYTES, Frozen, load, load_or_none, save
from .callbacks import Ended, EpochDone, Event, Started
from .distributed import processes

RUN_FILE = "run.json"

_LIBRARIES = ("torch", "numpy", "batchgenerators", "blosc2", "monai", "scipy")
"""Libraries whose versions may change the numbers of a run."""


class Process(Frozen):
    """One process that worked on a run.

    command    the command as typed, without folders outside the root
    commit     that of the checkout it ran from, with "-dirty" where files differed; None for an installed flarenet
    precision  the number type that the network computed in
    together   how many processes trained as one; this is the first of them
    started    when it started, in UTC
    ended      when it ended, in UTC; None while it runs, or where it was killed
    epochs     (first, last) of the epochs that it finished; None where it finished none
    end        "running", "done", "interrupted", "killed" (a later process found it "running"), or the name of the error
    """

    command: tuple[str, ...]
    flarenet: str
    commit: str | None
    python: str
    libraries: dict[str, str]
    system: str
    device: str
    threads: int
    precision: str
    together: int
    started: str
    ended: str | None = None
    epochs: tuple[int, int] | None = None
    end: str = "running"


class RunFile(Frozen):
    """What run.json holds.

    title      title of the run
    seed       seed of its plan
    sha256     "plan": SHA-256 of the plan as used, which is plan.json next to run.json once the run is done;
               "dataset": of prepared/NAME/dataset.json;
               "cases": of the names of the cases trained on and held out, with the keys of what they were made from;
               "TRAINER/STEP": of the weights of that run, from which this one starts or learns
    processes  the processes that worked on it, in order
    """

    largest_bytes = LARGEST_TABLE_BYTES
    version: Literal[1] = 1
    title: str
    seed: int
    sha256: dict[str, str]
    processes: tuple[Process, ...] = ()


class RunRecord:
    """Callback: keeps run.json up to date. A process that resumes a run adds itself to the earlier ones."""

    def __init__(self, facts: RunFile, process: Process) -> None:
        self._facts, self._process = facts, process

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._path = event.folder / RUN_FILE
            self._before = _earlier(self._path, self._facts)
            self._save()
        elif isinstance(event, EpochDone):
            epoch = event.record.epoch
            first, _ = self._process.epochs or (epoch, epoch)
            self._save(epochs=(first, epoch))
        elif isinstance(event, Ended):
            self._save(end=_end(event.error), ended=_now())

    def _save(self, **changes: object) -> None:
        self._process = self._process.model_copy(update=changes)
        save(self._facts.model_copy(update={"processes": (*self._before, self._process)}), self._path)


def this_process(device: torch.device, precision: str, root: Path) -> Process:
    """This process, as far as it is known before it starts to train."""
    return Process(
        command=command_line(sys.argv, root),
        flarenet=__version__,
        commit=_commit(),
        python=platform.python_version(),
        libraries=_libraries(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=torch.get_num_threads(),
        precision=str(pick_precision(device, precision)).removeprefix("torch."),
        together=processes(),
        started=_now(),
    )


def other_versions(folder: Path) -> str:
    """What had another version than now when a process last worked on the run in `folder`: "torch 2.12.0 (now 2.13.0)";
    empty where all is the same, or no run.json says."""
    record = load_or_none(RunFile, folder / RUN_FILE)
    if record is None or not record.processes:
        return ""
    last = record.processes[-1]
    was, now = {"flarenet": last.flarenet, **last.libraries}, {"flarenet": __version__, **_libraries()}
    return ", ".join(f"{name} {was[name]} (now {now.get(name)})" for name in was if was[name] != now.get(name))


def command_line(words: Sequence[str], root: Path) -> tuple[str, ...]:
    """The `words` of a command line. Paths below the root begin with ROOT; of other paths only the last name stays."""
    command, *others = words
    return (Path(command).name, *(_without_folders(word, root) for word in others))


def _without_folders(word: str, root: Path) -> str:
    flag, equals, value = word.rpartition("=")
    path = Path(os.path.expanduser(value)).resolve()
    there = value != "" and os.path.exists(path)
    if there and path.is_relative_to(root):
        return f"{flag}{equals}{Path('ROOT', path.relative_to(root))}"
    if value.startswith(("/", "~", ".")) or ("/" in value and there):
        return f"{flag}{equals}{Path('...', path.name)}"
    return word


def _end(error: BaseException | None) -> str:
    if error is None:
        return "done"
    return type(error).__name__ if isinstance(error, Exception) else "interrupted"


def _earlier(path: Path, facts: RunFile) -> tuple[Process, ...]:
    """The processes in a run.json of the same run. One that is still "running" in it was killed."""
    if not path.is_file():
        return ()
    before = load(RunFile, path, RunError)
    if _fixed(before) != _fixed(facts):
        return ()
    return tuple(
        process.model_copy(update={"end": "killed"}) if process.end == "running" else process
        for process in before.processes
    )


def _fixed(facts: RunFile) -> dict[str, str]:
    """The `sha256` of what a resumed run cannot have changed. Of plan and data set other steps and their cases can."""
    return {name: sha256 for name, sha256 in facts.sha256.items() if name not in ("plan", "dataset")}


def _commit() -> str | None:
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    line = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):  # no git here, or a checkout on a disk that sleeps
        return None


def _libraries() -> dict[str, str]:
    """Name -> version of those that are installed."""
    return {name: found for name in _LIBRARIES if (found := _version(name))}


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
