"""kill -9 at random moments of flarenet_train, then the same command again: is the run that of an uninterrupted one?

    python -m benchmarks.training.kill --kills 10

A small set of phantoms is planned, prepared and trained on once without a kill. Then, each time in a fresh root, the
process group of flarenet_train is killed at a random moment (by a seed) of its run, and the command is run again.
Weights, optimizer and log must be the same byte for byte, except for the seconds in the log.

The optimizer state is removed when a run finishes. So both runs are stopped by FLARENET_FAILPOINT after the last state
was saved, and then started once more to finish.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flarenet.inference.models.about import WEIGHTS
from flarenet.lock import LOCK
from flarenet.phantom import write_phantom_set
from flarenet.whole import FAILPOINT, sha256_of
from flarenet.workspace import Workspace

NAME, TRAINER = "PHANTOM", "3DOrgan"
COMMAND = "import sys; from flarenet.cli.{0} import main; sys.exit(main())"
TINY = (
    "folds=4",
    "configurations.3d.spacing_mm=[10.0,8.0,8.0]",
    "configurations.3d.inference_spacing_mm=[10.0,8.0,8.0]",
    "configurations.3d.patch=[16,32,48]",
    "trainers.3DOrgan.network.features=[4,8,16,16,16,8]",
    "trainers.3DOrgan.steps.0.batch_size=2",
    "trainers.3DOrgan.steps.0.batches_per_epoch=10",
    "trainers.3DOrgan.steps.0.epochs=6",
    "trainers.3DOrgan.steps.0.warmup_epochs=1",
)


@dataclass(frozen=True)
class Outcome:
    """What a run left: digests of optimizer and weights, its log without seconds, and its duration."""

    digests: dict[str, str]
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every-s", type=float, default=0.5, help="of the plan (default: %(default)s)")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        first = Workspace(Path(folder) / "unbroken", NAME)
        write_phantom_set(first.raw, cases=8, test_cases=0, seed=arguments.seed, detail=0.5)
        _call("plan", first, "--set", *TINY, f"save_every_s={arguments.save_every_s}")
        wanted = ended(first)
        good = tried = 0
        while tried < arguments.kills:
            workspace = _beside(first, Path(folder) / f"killed{tried}")
            hit = killed(workspace, after_s=draw.uniform(0, wanted.seconds))
            if hit is None:  # the machine is faster now than it was for the unbroken run
                shutil.rmtree(workspace.root)
                continue
            (left, lost_s), tried = hit, tried + 1
            found = ended(workspace)
            other = [what for what, digest in wanted.digests.items() if found.digests[what] != digest]
            print(f"{left}, {lost_s:.2f} s lost: {', '.join(other) + ' differ' if other else 'the same'}", flush=True)
            good += not other
    print(f"{good}/{arguments.kills}")
    return 0 if good == arguments.kills else 1


def killed(workspace: Workspace, *, after_s: float) -> tuple[str, float] | None:
    """Kill a training run `after_s` seconds after it locked its folder. Returns what it left, and the seconds of
    training lost; None where the run had ended by then."""
    process = _begin("train", workspace, TRAINER, "--device", "cpu")
    _wait_for_lock(workspace, process)
    time.sleep(after_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        return None
    states = sorted(workspace.run(TRAINER, 1).glob("state*.json"))
    if not states:
        return f"killed {after_s:5.2f} s in, without a state", after_s
    return f"killed {after_s:5.2f} s in, with {states[-1].stem}", time.time() - states[-1].stat().st_mtime


def ended(workspace: Workspace) -> Outcome:
    """Train to the end, with a stop just before it. Raises RuntimeError where a command ends in another way."""
    folder = workspace.run(TRAINER, 1)
    process = _begin("train", workspace, TRAINER, "--device", "cpu", failpoint=f"{WEIGHTS}:open")
    began = _wait_for_lock(workspace, process)
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError(f"training in {folder} ended with exit code {process.returncode}")
    seconds = time.perf_counter() - began
    last = max(folder.glob("state*.safetensors"))
    digests = {f"optimizer ({last.stem})": sha256_of(last)}
    _call("train", workspace, TRAINER, "--device", "cpu")
    return Outcome({**digests, "weights": sha256_of(folder / WEIGHTS), "log": _log(folder)}, seconds)


def _log(folder: Path) -> str:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return json.dumps([{name: value for name, value in line.items() if name != "timing"} for line in lines])


def _beside(first: Workspace, root: Path) -> Workspace:
    """A new root with the same prepared data set."""
    other = Workspace(root, NAME)
    for mine, its in ((other.raw, first.raw), (other.prepared, first.prepared)):
        mine.parent.mkdir(parents=True)
        mine.symlink_to(its, target_is_directory=True)
    return other


def _call(command: str, workspace: Workspace, *words: str) -> None:
    process = _begin(command, workspace, *words)
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"flarenet_{command} ended with exit code {process.returncode}: {said}")


def _begin(command: str, workspace: Workspace, *words: str, failpoint: str = "") -> subprocess.Popen:
    line = [sys.executable, "-c", COMMAND.format(command), *words, "-d", NAME, "--root", str(workspace.root)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, start_new_session=True, env={**os.environ, FAILPOINT: failpoint}, **pipes)


def _wait_for_lock(workspace: Workspace, process: subprocess.Popen) -> float:
    lock = workspace.run(TRAINER, 1) / LOCK
    while process.poll() is None and not lock.exists():
        time.sleep(0.001)
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
