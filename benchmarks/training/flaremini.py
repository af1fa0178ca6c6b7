"""Compare candidates on FLAREmini at equal time, such as the paper's curriculum, that of `auto`, and one joint step.

    python benchmarks/training/flaremini.py --data .../FLAREmini --out OUT --minutes 40 --cores 0,1
    python benchmarks/training/flaremini.py ... --candidates joint --device cuda --size m --longer 8 --minutes 2.5

They are trained by the commands that a user types. Each candidate has OUT/NAME-seed_S as its root, and --minutes for
all its training: teachers, pseudo labels, steps. Preparation, prediction and scoring are not counted. Epochs follow
from the time that is left before each step and from the seconds per batch, measured once in OUT/probes. The same
command resumes where it was killed; time counts over all its starts. At the end: one table of every class on the six
test cases. A candidate that has 3D models is also scored with their probabilities averaged with its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

NAME = "FLAREmini"
TICK_S = 5.0
PROBE_BATCHES = 6
"""Batches of an epoch of a probe. On a GPU they must be more than the loader holds ready, else a probe would not
measure the pace of the loader."""

BATCHES = {"3DOrgan/1": 40, "3DCancer/1": 20, "Joint/1": 42, **{f"DualDecoder2D/{n}": 42 for n in (1, 2, 3, 4)}}
"""Batches of an epoch, by run."""

FLAT, DEEP = "[32,32,64,128,256,32]", "[16,32,64,128,128,16]"
TEACHERS = ("3DOrgan", "3DCancer")
REAL_RUN = (
    "configurations.3d.spacing_mm=[3,3,3]",
    "configurations.3d.inference_spacing_mm=[3,3,3]",
    "configurations.3d.patch=[64,80,96]",
    "trainers.*.steps.*.selection=last",
    "trainers.*.steps.*.batch_size=2",
    *(f"trainers.{teacher}.network.features={DEEP}" for teacher in TEACHERS),
    *(f"trainers.{teacher}.steps.0.learning_rate=0.001" for teacher in TEACHERS),
    *(f"trainers.{teacher}.steps.0.warmup_epochs=1" for teacher in TEACHERS),
    "trainers.DualDecoder2D.steps.*.batch_size=16",
    "trainers.DualDecoder2D.steps.2.learning_rate=0.001",
)
"""Changes that make the plan of the real run in docs/results.md, without its 2D network, its MAE, its epochs, its
overlap, its augmentation and the warm-up of its 2D network."""

COMMON = (
    *REAL_RUN,
    *(f"trainers.{trainer}.network.features={FLAT}" for trainer in ("DualDecoder2D", "Joint")),
    "trainers.Joint.steps.*.batch_size=16",
)
"""Changes of the plans of all candidates."""

TWELVE = "[1,2,3,4,5,6,7,8,9,10,11,13]"
PAPER = (
    f"trainers.3DOrgan.steps.0.subset.patterns=[{TWELVE}]",
    "trainers.DualDecoder2D.steps.*.balance=0",
    "trainers.DualDecoder2D.steps.*.pseudo=null",
    "trainers.DualDecoder2D.steps.0.subset.patterns=[[]]",
    "trainers.DualDecoder2D.steps.1.subset.patterns=[[1,14]]",
    'trainers.DualDecoder2D.steps.1.teachers={"organ":"3DOrgan/1"}',
    f"trainers.DualDecoder2D.steps.2.subset.patterns=[{TWELVE}]",
    "trainers.DualDecoder2D.steps.3.subset.patterns=[[14]]",
)
"""Changes that make a plan like recipe `paper`: one cohort of this data set per step, and unfiltered pseudo labels."""

JOINT_3D = (
    "trainers.Joint.configuration=3d",
    f'trainers.Joint.network={{"kind":"unet","dimensions":3,"features":{DEEP},"groups":["organ","cancer"]}}',
    "trainers.Joint.steps.0.batch_size=2",
)

TAUGHT_BY_JOINT = (
    "trainers.DualDecoder2D.steps.0.starts_from=Joint/1",
    'trainers.DualDecoder2D.steps.0.teachers={"organ":"Joint/1","cancer":"Joint/1"}',
    "trainers.DualDecoder2D.steps.1.learning_rate=0.0005",
    "trainers.DualDecoder2D.steps.3.starts_from=DualDecoder2D/2",
)
"""A joint step; one from it on all scans, labelled by it where not annotated; one on annotations; one for tumor."""


@dataclass(frozen=True)
class Candidate:
    """A candidate: changes of its plan, and `shares`: run -> its share of the time, in the order of training. The last
    run is scored."""

    changes: tuple[str, ...]
    shares: dict[str, float]

    @property
    def answers(self) -> dict[str, list[str]]:
        """What to score: {suffix of the column's title: runs whose probabilities are averaged}."""
        *_, last = self.shares
        deep = [run for run in self.shares if run.startswith("3D")]
        return {"": [last], **({" + 3D": [last, *deep]} if deep else {})}


def curriculum(*shares: float) -> dict[str, float]:
    """The shares of time of a curriculum, those of the teachers as in the real run."""
    return {"3DOrgan/1": 0.165, "3DCancer/1": 0.065, **{f"DualDecoder2D/{n}": s for n, s in enumerate(shares, start=1)}}


CANDIDATES = {
    "paper-curriculum": Candidate((*COMMON, *PAPER), curriculum(0.38, 0.19, 0.11, 0.09)),  # by its updates, Table 3
    "curriculum": Candidate(COMMON, curriculum(0.13, 0.41, 0.17, 0.06)),  # filter and marginal loss, as `auto` plans
    "joint": Candidate(COMMON, {"Joint/1": 1.0}),
    "joint-taught": Candidate(
        (*COMMON, *TAUGHT_BY_JOINT),
        {"Joint/1": 0.5, "DualDecoder2D/1": 0.3, "DualDecoder2D/2": 0.15, "DualDecoder2D/4": 0.05},
    ),
    "joint-long": Candidate(
        (*COMMON, "trainers.DualDecoder2D.steps.3.starts_from=Joint/1"),
        {"Joint/1": 0.965, "DualDecoder2D/4": 0.035},
    ),
    "joint-3d": Candidate((*COMMON, *JOINT_3D), {"Joint/1": 1.0}),
    "joint-beside-3d": Candidate(COMMON, {"3DOrgan/1": 0.35, "3DCancer/1": 0.15, "Joint/1": 0.5}),
}
USUAL = ("paper-curriculum", "curriculum", "joint")


def main() -> int:
    arguments = read_arguments()
    cores = [int(core) for core in arguments.cores.split(",")]
    os.sched_setaffinity(0, cores)  # of the commands too
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    contests = {
        name: Contest(name, arguments, arguments.out.resolve() / f"{name}-seed_{arguments.seed}")
        for name in arguments.candidates
    }
    for contest in contests.values():
        contest.run()
    print(table(contests, arguments))
    return 0


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder FLAREmini")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=USUAL)
    parser.add_argument("--minutes", type=float, default=40.0, help="of training, each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", default="0,1", help="numbers of processor cores (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="to train and predict on (default: %(default)s)")
    parser.add_argument("--size", choices=("m", "l"), help="networks as flarenet_plan --size plans them")
    parser.add_argument("--gpu-memory-gb", help="as of flarenet_plan")
    parser.add_argument("--longer", type=int, default=1, help="times as many batches an epoch (default: %(default)s)")
    parser.add_argument("--set", dest="changes", nargs="+", default=[], help="further changes of every plan")
    return parser.parse_args()


class Contest:
    """One candidate at work: its root, and the clock in it."""

    def __init__(self, name: str, arguments: argparse.Namespace, root: Path) -> None:
        self.candidate, self.arguments, self.root = CANDIDATES[name], arguments, root
        self.probes = arguments.out.resolve() / "probes" / name
        self.clock = Clock(root / "clock.json")

    def run(self) -> None:
        if not self.clock.finished.issuperset(self.candidate.shares):
            pace = self._pace()
            self._plan(self.root)
            for run in self.candidate.shares:
                if run not in self.clock.epochs:
                    self.clock.epochs[run] = self._epochs(run, pace)
                self.clock.call(run, self._train(self.root, run, self.clock.epochs[run]))
        for title, runs in self.candidate.answers.items():
            if not self.metrics(title).is_file():
                self._score(runs, self.metrics(title).parent)

    def metrics(self, title: str) -> Path:
        return self.root / f"scores{title}" / "metrics.json"

    def _plan(self, root: Path, *more: str) -> None:
        raw = root / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        if not (raw / NAME).exists():
            (raw / NAME).symlink_to(self.arguments.data.resolve())
        batches = [f"trainers.{at(run)}.batches_per_epoch={self._batches(run)}" for run in self.candidate.shares]
        planned = [change for change in self.candidate.changes if not (self.arguments.size and ".network." in change)]
        changes = [*planned, *batches, f"seed={self.arguments.seed}", *self.arguments.changes, *more]
        flags = {"--size": self.arguments.size, "--gpu-memory-gb": self.arguments.gpu_memory_gb}
        given = [word for flag, value in flags.items() if value for word in (flag, value)]
        call(["flarenet_plan", "-d", NAME, "--root", str(root), *given, "--set", *changes])

    def _batches(self, run: str) -> int:
        return BATCHES[run] * self.arguments.longer

    def _pace(self) -> dict[str, dict[str, float]]:
        """{run: {"batch_s": seconds of a batch, "beside_s": all other seconds: start, pseudo labels, reading}}."""
        file = self.probes / "pace.json"
        pace = json.loads(file.read_text()) if file.is_file() else {}
        if set(pace) == set(self.candidate.shares):
            return pace
        batches = PROBE_BATCHES * self.arguments.longer
        short = [f"trainers.{at(run)}.batches_per_epoch={batches}" for run in self.candidate.shares]
        self._plan(self.probes, *short)
        for run in list(self.candidate.shares)[len(pace) :]:
            began = time.perf_counter()
            call(self._train(self.probes, run, 3))
            wall_s = time.perf_counter() - began
            log = (folder(self.probes, run) / "log.jsonl").read_text().splitlines()
            seconds = [json.loads(line)["timing"]["seconds"] for line in log]
            pace[run] = {"batch_s": min(seconds) / batches, "beside_s": max(0.0, wall_s - sum(seconds))}
            file.write_text(json.dumps(pace, indent=1))
        return pace

    def _epochs(self, run: str, pace: dict[str, dict[str, float]]) -> int:
        runs = list(self.candidate.shares)
        ahead = sum(self.candidate.shares[each] for each in runs[runs.index(run) :])
        left_s = 60 * self.arguments.minutes - self.clock.spent_s
        mine_s = left_s * self.candidate.shares[run] / ahead - pace[run]["beside_s"]
        return max(1, round(mine_s / (pace[run]["batch_s"] * self._batches(run))))

    def _train(self, root: Path, run: str, epochs: int) -> list[str]:
        trainer, _, number = run.partition("/")
        words = ["--step", number, "--epochs", str(epochs), "--fold", "all", "-d", NAME, "--root", str(root)]
        return ["flarenet_train", trainer, *words, "--device", self.arguments.device]

    def _score(self, runs: list[str], scores: Path) -> None:
        raw, found = self.root / "raw" / NAME, str(scores / "predictions")
        models = [str(folder(self.root, run)) for run in runs]
        on = ["--device", self.arguments.device]
        call(["flarenet_predict", "-i", str(raw / "imagesTs"), "-o", found, *on, "-m", *models])
        here = ["-d", NAME, "--root", str(self.root), "-o", str(scores)]
        call(["flarenet_evaluate", "-p", found, "-g", str(raw / "labelsTs"), *here])


class Clock:
    """Seconds and epochs of each run of a candidate, kept in a file, so that a killed benchmark can go on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        known = json.loads(path.read_text()) if path.is_file() else {}
        self.seconds: dict[str, float] = known.get("seconds", {})
        self.epochs: dict[str, int] = known.get("epochs", {})
        self.finished: set[str] = set(known.get("finished", []))

    @property
    def spent_s(self) -> float:
        return sum(self.seconds.values())

    def call(self, run: str, line: list[str]) -> None:
        """Run a command and add its time to `run`; do nothing if it has succeeded before."""
        if run in self.finished:
            return
        process = start(line)
        while process.poll() is None:
            began = time.perf_counter()
            try:
                process.wait(TICK_S)
            except subprocess.TimeoutExpired:
                pass
            self.seconds[run] = self.seconds.get(run, 0.0) + time.perf_counter() - began
            self._save()
        check(process.returncode, line)
        self.finished.add(run)
        self._save()

    def _save(self) -> None:
        content = {"seconds": self.seconds, "epochs": self.epochs, "finished": sorted(self.finished)}
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(content, indent=1))
        new.replace(self._path)


def at(run: str) -> str:
    """The key of a run in a plan, after "trainers."."""
    trainer, _, number = run.partition("/")
    return f"{trainer}.steps.{int(number) - 1}"


def folder(root: Path, run: str) -> Path:
    trainer, _, number = run.partition("/")
    return root / "runs" / NAME / trainer / "fold_all" / f"step_{number}"


def start(line: list[str]) -> subprocess.Popen:
    print("$", *line, file=sys.stderr, flush=True)
    return subprocess.Popen([str(Path(sys.executable).with_name(line[0])), *line[1:]])


def call(line: list[str]) -> None:
    check(start(line).wait(), line)


def check(code: int, line: list[str]) -> None:
    if code:
        sys.exit(f"{line[0]} ended with exit code {code}; the same command resumes from here")


def table(contests: dict[str, Contest], arguments: argparse.Namespace) -> str:
    """DSC and NSD by class, the mean of the organs, tumor, and the minutes that each candidate trained, as Markdown."""
    columns = {name + title: (c, title) for name, c in contests.items() for title in c.candidate.answers}
    metrics = {name: json.loads(c.metrics(title).read_text()) for name, (c, title) in columns.items()}
    classes = list(dict.fromkeys(name for found in metrics.values() for name in found["classes"]))
    rows = {name: [found["classes"].get(name, {}) for found in metrics.values()] for name in classes}
    rows |= {f"mean, {group}": [found["groups"][group] for found in metrics.values()] for group in ("organ", "cancer")}
    lines = [f"| DSC / NSD, seed {arguments.seed} | " + " | ".join(metrics) + " |", "|---" * (1 + len(metrics)) + "|"]
    lines += [f"| {name} | " + " | ".join(map(both, found)) + " |" for name, found in rows.items()]
    spent = [f"{contest.clock.spent_s / 60:.1f}" for contest, _ in columns.values()]
    where = arguments.device if arguments.device != "cpu" else f"cores {arguments.cores}"
    return "\n".join([*lines, f"| minutes on {where} | " + " | ".join(spent) + " |"])


def both(score: dict[str, float | None]) -> str:
    return " / ".join("-" if score.get(name) is None else f"{score[name]:.3f}" for name in ("dsc", "nsd"))


if __name__ == "__main__":
    sys.exit(main())
