"""flarenet_pseudo: measures the effect of each filter of a step's pseudo labels on cases with a known truth."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .process import keep_to_quota
from .shell import add_changes, add_device, add_fold, add_planned, new_parser, planned, run

if TYPE_CHECKING:
    from ..planning.plan import Plan


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(
        "flarenet_pseudo", "Show the effect of each filter of pseudo labels on cases whose truth is known."
    )
    add_planned(parser)
    parser.add_argument("--step", metavar="TRAINER/STEP", help="whose pseudo labels (default: the first with teachers)")
    parser.add_argument(
        "--cases",
        choices=("held-out", "test"),
        default="held-out",
        help="training cases that the teachers did not learn from, or test cases with labels (default: %(default)s)",
    )
    add_fold(parser, "fold of the teachers, as in flarenet_train (default: %(default)s)")
    add_changes(parser, "try other rules", "trainers.DualDecoder2D.steps.0.pseudo.agreement=0.6")
    add_device(parser)
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="DIR",
        help="where filters.json and filters.csv go (default: ROOT/pseudo/NAME/effect-TRAINER-STEP-HASH; with --cases "
        "test effect-TRAINER-STEP-test-HASH)",
    )
    return run(parser, work, argv)


def work(arguments: Namespace) -> None:
    """Predict cases with a known truth with the teachers, measure, print and write."""
    keep_to_quota()
    from ..errors import UsageError
    from ..planning.planned import load_planned
    from ..planning.runs import Run
    from ..pseudo.effect import find_effects, print_effects, write_effects
    from ..trainers.own import find_trainer
    from ..trainers.planner import with_trainer

    workspace = planned(arguments)
    plan = load_planned(workspace)
    typed, slash, digits = (arguments.step or _first(plan)).rpartition("/")
    if not slash:
        raise UsageError("--step", found=arguments.step, expected="TRAINER/STEP, as DualDecoder2D/1")
    chosen, number = find_trainer(typed), int(digits) if digits.isdigit() else 0
    plan = with_trainer(plan, chosen, workspace, changes=arguments.changes)
    run = Run(chosen.name, number)
    step = plan.step(*run)
    if not step.teachers:
        raise UsageError(f"--step {run}", found="a step without teachers", expected="one with pseudo labels")
    teachers = chosen(plan, workspace, fold=arguments.fold, device=arguments.device).teachers(step)
    test = arguments.cases == "test"
    with teachers.locked():
        effects = find_effects(teachers, run, plan, workspace, test=test)
    what = f"effect-{chosen.name}-{number}" + ("-test" if test else "")
    out = arguments.out or workspace.pseudo(what, teachers.key)
    write_effects(out, effects)
    print_effects(effects, step.teachers)
    print(f"written: {out}")


def _first(plan: Plan) -> str:
    """The first step with teachers, as "TRAINER/STEP"; else the first step of all."""
    return str(next((run for run in plan.runs if plan.step(*run).teachers), plan.runs[0]))


if __name__ == "__main__":
    sys.exit(main())
