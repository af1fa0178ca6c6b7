"""flarenet_plan: measures a data set, plans every number, and prepares the cases."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from .check import check
from .shell import add_changes, add_pool, add_raw, add_reading, new_parser, pool, run
from .sources import add_sources, open_set

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..errors import FlarenetError
    from ..planning.budget import Request
    from ..planning.measuring.fingerprint import Fingerprint
    from ..workspace import Workspace

    Failures = Iterable[tuple[str, FlarenetError]]

OF_A_PLAN = (
    *("--recipe", "--set", "--without", "--size", "--network", "--fingerprint", "--dry-run"),
    *("--gpu-memory-gb", "--inference-memory-gb", "--inference-seconds"),
)
"""The flags that mean nothing for a check."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser("flarenet_plan", "Look at a data set, write its plan, and prepare its cases for training.")
    add_raw(parser)
    parser.add_argument(
        "--recipe",
        choices=("auto", "paper"),
        default="auto",
        help="auto: every number follows from the data; paper: the published numbers (default: %(default)s)",
    )
    add_changes(parser, "change values of the plan")
    parser.add_argument("--fingerprint", action="store_true", help="only measure, write fingerprint.json and show it")
    parser.add_argument(
        "--rehash",
        action="store_true",
        help="compare bytes: do not trust size and time, nor that prepared cases are intact",
    )
    parser.add_argument(
        "--without",
        choices=("unlabelled",),
        help="ablation: train DualDecoder2D without unlabelled cases (recipe paper: drops step 1)",
    )
    _add_budget(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="show the plan, and the disk and time that it takes; write nothing"
    )
    parser.add_argument("--check", action="store_true", help="only check the data set, and report all findings")
    parser.add_argument("--json", metavar="FILE", help="where --check writes (default: ROOT/prepared/NAME/check.json)")
    parser.add_argument(
        "--report",
        nargs="?",
        const="",
        metavar="DIR",
        help="like --check, and write a page of the set and all findings to DIR (default: ROOT/prepared/NAME/report)",
    )
    add_sources(parser)
    add_reading(parser)
    add_pool(parser)
    return run(parser, work, argv)


def _add_budget(parser: ArgumentParser) -> None:
    """Add flags whose default, None, leaves the recipe's own budget as it is; see planning.budget."""
    parser.add_argument(
        "--gpu-memory-gb",
        type=float,
        metavar="G",
        help="memory of the card that trains, in GB (default: 16; recipe paper: 64)",
    )
    parser.add_argument(
        "--inference-memory-gb",
        type=float,
        metavar="G",
        help="memory that predicting a large scan may take, in GB (default: 4)",
    )
    parser.add_argument(
        "--inference-seconds",
        type=float,
        metavar="S",
        help="time that predicting a median scan may take, in seconds (default: 15)",
    )
    parser.add_argument(
        "--size",
        choices=("s", "m", "l"),
        help="U-Nets: s, the paper's widths in 3D and narrower in 2D; m, l, wider and residual (default: s)",
    )
    parser.add_argument(
        "--network",
        choices=("unet", "unetr", "swin_unetr"),
        help="network of 3DOrgan and 3DCancer; transformers start from the encoder that MAE trains (default: unet)",
    )


def work(arguments: Namespace) -> int | None:
    """Check and measure the cases, write fingerprint.json and plan.json, print the tables, prepare the cases.

    With --dry-run nothing is written. Raises LockedError where another run plans this set, and CasesFailed, after
    everything else is done, where single cases are broken.
    """
    from ..lock import locked

    checks = arguments.check or arguments.report is not None
    if checks:
        _refuse_of_a_plan(arguments)
    request = _request(arguments)  # what is misspelt is refused before the cases are measured
    opened = open_set(arguments)
    if checks:
        return check(opened, arguments)
    workspace, dataset = opened.workspace, opened.read()
    with nullcontext() if arguments.dry_run else locked(workspace.prepared):
        fingerprint, broken = _measured(dataset, workspace, arguments)
        _report(broken)
        unprepared: Failures = ()
        if arguments.fingerprint:
            _show(fingerprint, workspace, arguments)
        else:
            unprepared = _plan(dataset, fingerprint, workspace, request, arguments)
    _end_with(broken, unprepared, len(dataset.cases) + len(dataset.test))
    return None


def _refuse_of_a_plan(arguments: Namespace) -> None:
    """Raise UsageError for flags that a check would leave aside: --dry-run, say, promises that nothing is written."""
    from ..errors import UsageError

    values = vars(arguments) | {"set": arguments.changes}
    of_flags = {flag: values[flag[2:].replace("-", "_")] for flag in OF_A_PLAN}
    given = [flag for flag, value in of_flags.items() if not (value is None or value is False or value in ([], "auto"))]
    if given:
        asked, listed = "--check" if arguments.check else "--report", ", ".join(given)
        raise UsageError(listed, found=f"beside {asked}, which plans nothing", expected=f"{asked} without {listed}")


def _measured(dataset: Dataset, workspace: Workspace, arguments: Namespace) -> tuple[Fingerprint, Failures]:
    from ..planning.measuring.fingerprint import fingerprint

    remember = not arguments.dry_run
    return fingerprint(
        dataset, pool=pool(arguments), cached=workspace.measured, rehash=arguments.rehash, remember=remember
    )


def _show(fingerprint: Fingerprint, workspace: Workspace, arguments: Namespace) -> None:
    """Print the fingerprint, and write it unless this is a dry run.

    Torch is not needed: importing it can take longer than measuring a case.
    """
    from ..errors import PlanError
    from ..planning.summary import print_fingerprint
    from ..schema import save_to_load

    print_fingerprint(fingerprint)
    if not arguments.dry_run:
        save_to_load(fingerprint, workspace.fingerprint, PlanError)
        print(f"fingerprint: {workspace.fingerprint}")


def _plan(
    dataset: Dataset, fingerprint: Fingerprint, workspace: Workspace, request: Request, arguments: Namespace
) -> Failures:
    """Plan and prepare; returns the cases that could not be prepared."""
    from ..planning.summary import print_summary
    from ..trainers.plan_set import carry_out, decide
    from ..trainers.planner import advised

    plan = decide(fingerprint, workspace, request=request, changes=arguments.changes)
    print_summary(plan, fingerprint)
    if arguments.dry_run:
        return ()
    unprepared = carry_out(
        plan, dataset, fingerprint, workspace, pool=pool(arguments), verify=arguments.rehash, warn=_warn
    )
    _report(unprepared)
    print(f"plan: {workspace.plan}\nprepared: {', '.join(str(workspace.store(name)) for name in plan.configurations)}")
    if names := advised(plan):
        print(f"next: flarenet_train {workspace.flags}, which trains {', '.join(names)}")
    return unprepared


def _request(arguments: Namespace) -> Request:
    """The request of the command line. Raises UsageError for a number of the budget that is not above 0, and for a
    change that is not KEY=VALUE."""
    from ..errors import UsageError
    from ..planning.assign import key_and_value
    from ..planning.budget import RECIPES, Budget, Request
    from ..schema import parse

    for change in arguments.changes:
        key_and_value(change)
    stated = {name: getattr(arguments, name) for name in ("gpu_memory_gb", "inference_memory_gb", "inference_seconds")}
    stated |= {"size": arguments.size, "network": arguments.network}
    stated = {name: value for name, value in stated.items() if value is not None}
    usual = RECIPES[arguments.recipe].budget
    budget = parse(Budget, usual.model_dump() | stated, "the budget", UsageError)
    return Request(arguments.recipe, budget, arguments.without)


def _report(failures: Failures) -> None:
    for name, error in failures:
        print(f"flarenet_plan: case {name}: {error}", file=sys.stderr)


def _warn(said: str) -> None:
    print(f"flarenet_plan: warning: {said}", file=sys.stderr)


def _end_with(broken: Failures, unprepared: Failures, total: int) -> None:
    from ..errors import CasesFailed

    names = sorted({name for name, _ in (*broken, *unprepared)})
    if names:
        raise CasesFailed(
            f"{len(names)} of {total} cases failed",
            found=", ".join(names),
            expected="every case intact",
            remedy="fix or remove them and run the same command again; the other cases are ready",
        )


if __name__ == "__main__":
    sys.exit(main())
