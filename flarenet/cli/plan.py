"""flarenet_plan: look at a data set, decide every number, prepare the cases."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .shell import add_pool, parser, pool, run

if TYPE_CHECKING:
    from ..errors import FlarenetError
    from ..planning.fingerprint import Fingerprint
    from ..planning.plan import Plan

    Failures = Iterable[tuple[str, FlarenetError]]

MOST_WORKERS = 8
"""Each worker holds a whole scan, so memory, not the number of processors, is what runs out first."""


def main(argv: Sequence[str] | None = None) -> int:
    words = parser("flarenet_plan", "Look at a data set, write its plan, and prepare its cases for training.")
    words.add_argument("-d", "--dataset", required=True, metavar="NAME", help="the data set in ROOT/raw/NAME")
    words.add_argument(
        "--recipe",
        choices=("auto", "paper"),
        default="auto",
        help="auto: every number follows from the data; paper: the published numbers (default: %(default)s)",
    )
    words.add_argument(
        "--set",
        dest="changes",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="change a value of the plan, as in trainers.*.steps.*.epochs=10",
    )
    words.add_argument("--root", metavar="DIR", help="the folder that holds raw/ (default: FLARENET_ROOT, or here)")
    add_pool(words, workers=min(os.cpu_count() or 1, MOST_WORKERS))
    return run(words, work, argv)


def work(arguments: Namespace) -> None:
    """Check and measure the cases, write fingerprint.json and plan.json, print the tables, prepare the cases.

    Raises CasesFailed, after everything else is done, where single cases are broken.
    """
    from ..data.dataset_file import read_dataset
    from ..data.settled import save_settled
    from ..planning.fingerprint import fingerprint
    from ..planning.plan import save_plan
    from ..planning.summary import print_summary
    from ..preparation.dataset import prepare_dataset
    from ..schema import save
    from ..workspace import find_root, open_workspace

    workspace, workers = open_workspace(find_root(arguments.root), arguments.dataset), pool(arguments)
    dataset = read_dataset(workspace.raw)
    found, broken = fingerprint(dataset, workers=workers, cached=workspace.fingerprint)
    _report(broken)
    save(found, workspace.fingerprint)
    plan = make_plan(found, arguments.recipe, arguments.changes)
    parameters = _parameters(plan)
    _keep_edited(workspace.plan, plan)
    save_settled(dataset, workspace.settled)
    save_plan(plan, workspace.plan)
    print_summary(plan, found, parameters)
    skip = {name for name, _ in broken}
    unprepared = prepare_dataset(dataset, plan, workspace, workers=workers, skip=skip)
    _report(unprepared)
    print(f"plan: {workspace.plan}\nprepared: {', '.join(str(workspace.store(name)) for name in plan.configurations)}")
    _end_with(broken, unprepared, len(dataset.cases))


def make_plan(found: Fingerprint, recipe: Literal["auto", "paper"], changes: Sequence[str] = ()) -> Plan:
    """The Plan of a Fingerprint: rules, then every trainer that the set has something for, then `changes`.

    Raises UsageError or PlanError where a change does not fit.
    """
    from ..planning.plan import Plan, override
    from ..planning.rules import configurations
    from ..trainers import TRAINERS

    numbers = configurations(found, recipe)
    parts = {name: trainer.plan(found, recipe, numbers) for name, trainer in TRAINERS.items()}
    plan = Plan(
        recipe=recipe,
        dataset=found.dataset,
        labels=found.labels,
        fingerprint_hash=found.hash,
        configurations=numbers,
        trainers={name: part for name, part in parts.items() if part is not None},
    )
    changed = override(plan, changes)
    _every_step_has_cases(changed, found)
    return changed


def _every_step_has_cases(plan: Plan, found: Fingerprint) -> None:
    from ..errors import PlanError

    for name, trainer in plan.trainers.items():
        for number, step in enumerate(trainer.steps):
            if found.count(step.subset.patterns) == 0:
                raise PlanError(
                    f"trainers.{name}.steps.{number}.subset",
                    found=f"patterns {[list(pattern) for pattern in step.subset.patterns]}, which no case has",
                    expected=f"some of {[list(pattern) for pattern in found.patterns]}",
                )


def _parameters(plan: Plan) -> dict[str, int]:
    """Build every network once: its size is shown, and numbers that make no network are found before the long work."""
    import torch

    from ..networks import build, parameter_count

    counts = {}
    for name, trainer in plan.trainers.items():
        patch = plan.configurations[trainer.configuration].patch
        with torch.device("meta"):  # shapes without memory
            counts[name] = parameter_count(build(trainer.network, plan.labels.outputs, patch))
    return counts


def _keep_edited(path: Path, plan: Plan) -> None:
    """A plan is made to be edited: another one that is there already moves aside, and no edit is lost."""
    from ..schema import to_json

    if path.is_file() and path.read_text(encoding="utf-8") != to_json(plan.model_dump(mode="json")) + "\n":
        aside = path.with_name("plan.previous.json")
        os.replace(path, aside)
        print(f"the plan that was there is kept as {aside}")


def _report(failures: Failures) -> None:
    for name, error in failures:
        print(f"flarenet_plan: case {name}: {error}", file=sys.stderr)


def _end_with(broken: Failures, unprepared: Failures, total: int) -> None:
    from ..errors import CasesFailed

    names = sorted({name for name, _ in (*broken, *unprepared)})
    if names:
        raise CasesFailed(
            f"{len(names)} of {total} cases failed",
            found=", ".join(names),
            expected="every case whole",
            remedy="mend or remove them and run the same command again; the other cases are ready",
        )
