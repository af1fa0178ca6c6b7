"""Train, predict and score every system of the paper; prints a row for each run, as Markdown.

    python benchmarks/training/systems.py --sizes
    python benchmarks/training/systems.py --root WORK --data .../FLAREmini --device cuda --full-size [--only unetr]
    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/training/systems.py --root WORK --data .../FLAREmini

A system is a folder WORK/SYSTEM with its own plan (recipe paper, at the spacings of CHANGES), trained step by step with
20 batches per epoch. The same command resumes where it was stopped; finished runs are not repeated. Networks and
patches are small enough for one processor core; --full-size takes the paper's, --sizes only prints the size of these.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flarenet.inference.models.about import read_about
from flarenet.inference.models.model import load_model
from flarenet.planning.budget import Budget, Network3D
from flarenet.planning.cost.kinds import cost
from flarenet.planning.plan import NetworkSpec
from flarenet.planning.rules.presets import masked_autoencoder, network_3d, paper_network
from flarenet.workspace import Workspace

CHANGES = (
    "configurations.3d.spacing_mm=[3,3,3]",
    "configurations.3d.inference_spacing_mm=[3,3,3]",
    "configurations.2d.spacing_mm=[null,2,2]",
    "configurations.2d.inference_spacing_mm=[2.5,2,2]",
    "trainers.*.steps.*.batch_size=2",
    "trainers.DualDecoder2D.steps.*.batch_size=16",
    "trainers.*.steps.*.batches_per_epoch=20",
)
SMALL = (
    "configurations.3d.patch=[64,96,96]",
    "configurations.2d.patch=[160,192]",
    "trainers.DualDecoder2D.network.features=[16,32,64,128,256,32]",
)
UNETR = (
    "trainers.MAE.network.features=[192,768,4,4,96,384,2,4]",
    "trainers.3DOrgan.network.features=[192,768,4,4,8]",
    "trainers.3DCancer.network.features=[192,768,4,4,8]",
)
SWIN = (
    "configurations.3d.patch=[64,64,64]",
    "trainers.MAE.network.features=[12]",
    "trainers.3DOrgan.network.features=[12]",
    "trainers.3DCancer.network.features=[12]",
)


@dataclass(frozen=True)
class System:
    """A system: changes of its plan, and its runs (trainer, step, the paper's name, what it is trained on) in order.

    words    arguments of flarenet_plan
    small    changes that make its networks small
    borrows  a system whose runs of the 3D trainers it uses as teachers
    """

    words: tuple[str, ...]
    small: tuple[str, ...]
    runs: tuple[tuple[str, int, str, str], ...]
    borrows: str = ""


TRANSFORMER_RUNS = (
    ("MAE", 1, "encoder, masked volumes", "D"),
    ("3DCancer", 1, "M_c", "D_c"),
    ("3DOrgan", 1, "M_o1", "D_o5"),
    ("3DOrgan", 2, "M_o2", "D_o13"),
)
SYSTEMS = {
    "unetr": System(("--network", "unetr"), UNETR, TRANSFORMER_RUNS),
    "swin_unetr": System(("--network", "swin_unetr"), SWIN, TRANSFORMER_RUNS),
    "unet": System((), (), (("3DCancer", 1, "M_c", "D_c"), ("3DOrgan", 1, "M_o2", "D_o13"))),
    "dual_decoder": System(
        (),
        (),
        tuple(
            ("DualDecoder2D", step, f"M_{step}", data) for step, data in enumerate(("D_u", "D_l3", "D_l1", "D_l4"), 1)
        ),
        borrows="unet",
    ),
    "without_unlabelled": System(
        ("--without", "unlabelled"),
        (),
        tuple(("DualDecoder2D", step, f"M_{step + 1}", data) for step, data in enumerate(("D_l3", "D_l1", "D_l4"), 1)),
        borrows="unet",
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--root", type=Path, help="where the systems are trained")
    parser.add_argument("--data", type=Path, help="the data set, with its imagesTs and labelsTs")
    parser.add_argument("--only", choices=SYSTEMS, action="append", help="one system, or several; else all, in order")
    parser.add_argument("--epochs", type=int, default=6, help="of every run (default: %(default)s)")
    parser.add_argument("--full-size", action="store_true", help="networks and patches as the paper has them")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", dest="changes", nargs="*", default=[], help="further changes of every plan")
    arguments = parser.parse_args()
    if arguments.sizes:
        print(sizes())
        return 0
    for name in arguments.only or SYSTEMS:
        train(name, arguments)
    print(table(arguments))
    return 0


def train(name: str, arguments: argparse.Namespace) -> None:
    """Plan, train, predict and score one system; what is done already is skipped."""
    system, space = SYSTEMS[name], workspace(name, arguments)
    here = ["-d", space.dataset, "--root", str(space.root)]
    if not space.raw.exists():
        space.raw.parent.mkdir(parents=True)
        space.raw.symlink_to(arguments.data.resolve(), target_is_directory=True)
    if not space.plan.is_file():
        small = () if arguments.full_size else (*SMALL, *system.small)
        changes = (*CHANGES, *small, *arguments.changes)
        command("plan", "--recipe", "paper", *system.words, *here, "--workers", "1", "--set", *changes)
    if system.borrows:
        for trainer in ("3DOrgan", "3DCancer"):
            lend(workspace(system.borrows, arguments).runs / trainer, space.runs / trainer)
    for trainer, step, _, _ in system.runs:
        run = space.run(trainer, step)
        if not (run / "about.json").is_file():
            wanted = ["--step", str(step), "--epochs", str(arguments.epochs), "--device", arguments.device]
            command("train", trainer, *wanted, *here)
        if trainer != "MAE" and not scores(space, trainer, step).is_file():
            found = space.root / "predictions" / f"{trainer}_{step}"
            images, on = str(space.raw / "imagesTs"), ["--device", arguments.device]
            command("predict", "-i", images, "-o", str(found), "-m", str(run), *on)
            out = str(scores(space, trainer, step).parent)
            command("evaluate", "-p", str(found), "-g", str(space.raw / "labelsTs"), *here, "-o", out)


def lend(runs: Path, borrowed: Path) -> None:
    if not borrowed.exists():
        borrowed.parent.mkdir(parents=True, exist_ok=True)
        borrowed.symlink_to(runs.resolve(), target_is_directory=True)


def workspace(name: str, arguments: argparse.Namespace) -> Workspace:
    return Workspace(arguments.root / name, arguments.data.name)


def scores(space: Workspace, trainer: str, step: int) -> Path:
    return space.root / "scores" / f"{trainer}_{step}" / "metrics.json"


def command(name: str, *words: str) -> None:
    print(f"flarenet_{name}", *words, flush=True)
    subprocess.run([str(Path(sys.executable).with_name(f"flarenet_{name}")), *words], check=True)


def table(arguments: argparse.Namespace) -> str:
    """Size, time and scores of every finished run, as Markdown; a model is scored only on its own groups."""
    lines = [
        "| system | run | trained on | parameters | GMAC a patch | seconds | organs DSC / NSD | tumor DSC / NSD |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, system in SYSTEMS.items():
        space = workspace(name, arguments)
        for trainer, step, paper_name, data in system.runs:
            if not (space.run(trainer, step) / "about.json").is_file():
                continue
            summary = read_about(space.run(trainer, step)).summary
            parameters, products = size_of_run(space.run(trainer, step))
            cells = [name, paper_name, data, parameters, products, f"{summary['seconds']:.0f}"]
            lines.append("| " + " | ".join((*cells, *scores_of_run(space, trainer, step))) + " |")
    return "\n".join(lines)


def size_of_run(folder: Path) -> tuple[str, str]:
    model = load_model(folder)
    return size(model.plan.trainer(model.trainer).network, model.labels.outputs, model.configuration.patch)


def scores_of_run(space: Workspace, trainer: str, step: int) -> list[str]:
    answered = load_model(space.run(trainer, step)).groups
    path = scores(space, trainer, step)
    groups = json.loads(path.read_text(encoding="utf-8"))["groups"] if path.is_file() else {}
    wanted = (groups.get(group) if group in answered else None for group in ("organ", "cancer"))
    return ["-" if score is None else f"{score['dsc']:.3f} / {score['nsd']:.3f}" for score in wanted]


def size(spec: NetworkSpec, outputs: dict[str, int], patch: tuple[int, ...]) -> tuple[str, str]:
    """(parameters, 10^9 multiply-adds of one patch forward)."""
    spent = cost(spec, outputs, patch)
    return f"{spent.parameters:,}", f"{spent.products / 1e9:.1f}"


def sizes() -> str:
    """The sizes of the paper's networks on its patches, as Markdown."""
    outputs = {"organ": 13, "cancer": 1}
    rows: list[tuple[str, NetworkSpec, tuple[int, ...]]] = []
    kinds: tuple[Network3D, ...] = ("unetr", "swin_unetr", "unet")
    for kind in kinds:
        patch = (128,) * 3 if kind == "unet" else (96,) * 3
        budget = Budget(network=kind)
        if kind != "unet":
            rows.append((f"MAE for {kind}", masked_autoencoder(budget), patch))
        for group in outputs:
            spec = paper_network(3, (group,)) if kind == "unet" else network_3d(budget, patch, (group,))
            rows.append((f"{kind}, {group}", spec, patch))
    flat = paper_network(2, tuple(outputs))
    rows.append(("dual decoder", flat, (224, 224)))
    lines = ["| network | patch | parameters | GMAC |", "|---|---|---|---|"]
    for name, spec, patch in rows:
        cells = (name, " x ".join(str(n) for n in patch), *size(spec, outputs, patch))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
