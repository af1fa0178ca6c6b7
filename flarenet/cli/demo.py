"""flarenet_demo: the whole pipeline on a phantom data set, with the commands that a real data set needs."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence

from .process import keep_to_quota
from .shell import add_device, index, new_parser, run

NAME = "PHANTOM"
TEST_CASES = 8

QUICK = (
    "configurations.3d.spacing_mm=[6,6,6]",
    "configurations.3d.inference_spacing_mm=[6,6,6]",
    "configurations.3d.patch=[32,32,48]",
    "configurations.3d.overlap=0.25",
    "trainers.3DOrgan.network.features=[8,16,32,64,64,8]",
    "trainers.3DCancer.network.features=[8,16,32,64,64,8]",
    "trainers.DualDecoder2D.network.features=[8,16,32,32,64,16]",
    "trainers.*.steps.*.batch_size=2",
    "trainers.*.steps.*.warmup_epochs=1",
    "trainers.*.steps.*.learning_rate=0.003",
    "trainers.*.steps.*.batches_per_epoch=16",
    # with so few updates, small organs need scans that are hardly augmented, and phantoms are much alike
    "trainers.*.augmentation.probability=0.2",
    "trainers.*.augmentation.rotation_deg=15",
    "trainers.*.augmentation.zoom=0.2",
    "trainers.3DOrgan.steps.*.epochs=10",
    "trainers.3DCancer.steps.*.epochs=8",
    "trainers.DualDecoder2D.steps.*.batch_size=16",
    "trainers.DualDecoder2D.steps.*.batches_per_epoch=20",
    "trainers.DualDecoder2D.steps.0.pseudo.passes=2",
    "trainers.DualDecoder2D.steps.0.epochs=3",
    "trainers.DualDecoder2D.steps.1.epochs=18",
    "trainers.DualDecoder2D.steps.2.epochs=6",
    "trainers.DualDecoder2D.steps.3.epochs=4",
)
"""Changes that shrink a plan to a few minutes on two processor cores; later ones override earlier ones."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser("flarenet_demo", "Plan, train, predict and score on synthetic CT: minutes, no data needed.")
    kinds = "a new folder, or that of a demo to go on with"
    parser.add_argument("-o", "--output", default="demo", metavar="DIR", help=f"{kinds} (default: %(default)s)")
    parser.add_argument(
        "--cases", type=_count, default=36, metavar="N", help="training cases, 5 or more (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=index, default=0, metavar="N", help="seed of the synthetic scans (default: %(default)s)"
    )
    add_device(parser)
    return run(parser, work, argv)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 5:
        raise ArgumentTypeError(f"found {text!r}, expected 5 or more: a case for each of five annotation patterns")
    return int(text)


def work(arguments: Namespace) -> int:
    """Write the data set, then call the commands in order; returns the first exit code that is not 0, else 0."""
    keep_to_quota()  # before numpy is imported
    from pathlib import Path

    from rich.console import Console

    from ..phantom import write_phantom_set

    started_s = time.perf_counter()
    root = Path(arguments.output).expanduser().resolve()
    console = Console(highlight=False, soft_wrap=True)
    _claim(root, cases=arguments.cases, seed=arguments.seed)
    write_phantom_set(root / "raw" / NAME, cases=arguments.cases, test_cases=TEST_CASES, seed=arguments.seed)
    console.print(f"{arguments.cases} synthetic scans to train on, {TEST_CASES} to test on: {root / 'raw' / NAME}")
    for command, words in _commands(root, arguments.device):
        console.rule(f"[bold]{time.perf_counter() - started_s:.0f} s")
        console.print(f"[bold]{command} {' '.join(words)}")
        if code := _main_of(command)(words):
            return code
    console.rule(f"[bold]{time.perf_counter() - started_s:.0f} s")
    _show_results(root / "scores", console)
    return 0


def _commands(root, device: str) -> list[tuple[str, list[str]]]:
    """Every command of the pipeline, with its arguments as one would type them."""
    here, on = ["-d", NAME, "--root", str(root)], ["--device", device]
    raw, predictions, out = root / "raw" / NAME, str(root / "predictions"), ["-o", str(root / "scores")]
    images = str(raw / "imagesTs")
    trainers = ("3DOrgan", "3DCancer", "DualDecoder2D")
    return [
        ("flarenet_plan", [*here, *(word for change in QUICK for word in ("--set", change))]),
        *(("flarenet_train", [trainer, *here, *on]) for trainer in trainers),
        ("flarenet_predict", ["-i", images, "-o", predictions, "--root", str(root), *on]),
        ("flarenet_evaluate", ["-p", predictions, "-g", str(raw / "labelsTs"), *here, *out, "--images", images]),
    ]


def _main_of(command: str):
    from . import evaluate, plan, predict, train

    modules = {"plan": plan, "train": train, "predict": predict, "evaluate": evaluate}
    return modules[command.removeprefix("flarenet_")].main


def _claim(root, **numbers: int) -> None:
    """Mark `root` as the folder of this demo, so that a second start resumes it and overwrites no other files.

    Raises UsageError where `root` holds something else, or a demo with other numbers.
    """
    from ..errors import DatasetError, UsageError
    from ..schema import read_json, to_json
    from ..whole import write_text

    marker = root / "demo.json"
    if not marker.is_file():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise UsageError(root, found="other files", expected="a new or empty folder", remedy="name another by -o")
        write_text(marker, to_json(numbers) + "\n")
    elif (found := read_json(marker, DatasetError)) != numbers:
        raise UsageError(root, found=f"a demo of {found}", expected=numbers, remedy="name another folder by -o")


def _show_results(folder, console) -> None:
    for kind, pattern in (("scores", "*.csv"), ("picture", "**/*.png"), ("page", "*.html")):
        for path in sorted(folder.glob(pattern)):
            console.print(f"{kind}: {path}")


if __name__ == "__main__":
    sys.exit(main())
