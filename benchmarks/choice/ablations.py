"""Run the lists that come with flarenet_ablate, each on a schedule of minutes, and print the time that each took.

    python benchmarks/choice/ablations.py --root WORK                                # 20 phantom cases, 8 to score on
    python benchmarks/choice/ablations.py --root WORK --data .../FLAREmini --epochs 6 --batches 20 --seeds 0 1 2

Pin the cores from outside, as in `OMP_NUM_THREADS=2 taskset -c 0,1 python ...`. The same command resumes where it was
killed; the times printed are those of this start.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from flarenet.cli import ablate, plan
from flarenet.phantom import write_phantom_set

PHANTOM_GRIDS = (
    "configurations.3d.spacing_mm=[5.0,4.7,4.7]",
    "configurations.3d.inference_spacing_mm=[5.0,4.7,4.7]",
    "configurations.3d.patch=[32,48,64]",
    "configurations.2d.patch=[64,96]",
)
MINI_GRIDS = (
    "configurations.3d.spacing_mm=[3,3,3]",
    "configurations.3d.inference_spacing_mm=[3,3,3]",
    "configurations.3d.patch=[64,80,96]",
    "configurations.3d.overlap=0.25",
    "configurations.2d.spacing_mm=[null,2,2]",
    "configurations.2d.inference_spacing_mm=[2.5,2,2]",
    "configurations.2d.patch=[160,192]",
)
DEEP, FLAT = "[8,16,32,64,64,8]", "[8,16,32,32,64,16]"

TEACHERS = tuple(f"trainers.{name}.network.features={DEEP}" for name in ("3DOrgan", "3DCancer"))
CURRICULUM = (
    *TEACHERS,
    f"trainers.DualDecoder2D.network.features={FLAT}",
    "trainers.DualDecoder2D.steps.*.batch_size=16",
)
NETWORKS = {
    "paper": CURRICULUM,
    "heads": (f"trainers.Joint.network.features={FLAT}", "trainers.Joint.steps.*.batch_size=16"),
    "filters": CURRICULUM,
}
"""Changes of the plan, by list: plans of recipe `paper` have no Joint, and those with one group have no 3DCancer."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="a data set with labelled test cases (default: a phantom set)")
    parser.add_argument("--lists", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", default=["0"])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batches", type=int, default=16, help="of an epoch (default: %(default)s)")
    parser.add_argument("--cases", type=int, default=20, help="of the phantom set (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    name, grids = raw(arguments), MINI_GRIDS if arguments.data else PHANTOM_GRIDS
    here = ["-d", name, "--root", str(arguments.root)]
    if not (arguments.root / "prepared" / name / "plan.json").is_file():
        check(plan.main([*here, "--workers", str(len(os.sched_getaffinity(0))), "--set", *grids]), "flarenet_plan")
    schedule = (
        "trainers.*.steps.*.batch_size=2",
        f"trainers.*.steps.*.batches_per_epoch={arguments.batches}",
        "trainers.*.steps.*.learning_rate=0.003",
        "trainers.*.steps.*.warmup_epochs=1",
        "trainers.*.steps.*.selection=last",
    )
    minutes = {}
    for chosen in arguments.lists:
        began = time.perf_counter()
        usual = ["--device", arguments.device, "--epochs", str(arguments.epochs), "--seeds", *arguments.seeds]
        changes = (*grids, *schedule, *NETWORKS[chosen])
        check(ablate.main([chosen, *here, *usual, "--set", *changes]), f"flarenet_ablate {chosen}")
        minutes[chosen] = (time.perf_counter() - began) / 60
    for chosen, passed in minutes.items():
        print(f"{chosen}: {passed:.1f} minutes on cores {sorted(os.sched_getaffinity(0))}")
    return 0


def raw(arguments: argparse.Namespace) -> str:
    """The name of the data set in ROOT/raw, which is written or linked if missing."""
    name = arguments.data.name if arguments.data else "PHANTOM"
    folder = arguments.root / "raw" / name
    if arguments.data and not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(arguments.data.resolve(), target_is_directory=True)
    elif not (folder / "dataset.json").is_file():
        write_phantom_set(folder, cases=arguments.cases, test_cases=8, seed=0)
    return name


def check(code: int, command: str) -> None:
    if code:
        sys.exit(f"{command} ended with exit code {code}; the same command resumes from here")


if __name__ == "__main__":
    sys.exit(main())
