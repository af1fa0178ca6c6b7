"""flarenet_compare: scores trainers, steps and ensembles on the cases that their folds hold out, and names the best."""

from __future__ import annotations

import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from .process import keep_to_quota
from .shell import add_device, add_planned, add_pool, index, new_parser, planned, pool, run

if TYPE_CHECKING:
    from ..choice.compare import Comparison
    from ..choice.largest_parts import Effect


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(
        "flarenet_compare",
        "Predict and score the cases that the folds hold out, and name the model that is best there.",
    )
    add_planned(parser)
    parser.add_argument(
        "--fold",
        type=index,
        nargs="+",
        default=[],
        metavar="K",
        help="folds to compare on (default: all that every run has)",
    )
    add_device(parser)
    add_pool(parser, workers=1)
    return run(parser, work, argv)


def work(arguments: Namespace) -> None:
    """Predict and score what is still missing, print the table, name the best.

    Raises LockedError where another run compares this data set, and CasesFailed, after everything else is done, where a
    case could not be predicted or scored.
    """
    keep_to_quota()
    from ..choice.compare import compare
    from ..errors import CasesFailed
    from ..lock import locked

    workspace = planned(arguments)
    with locked(workspace.compare):  # else one run would remove what another has just predicted
        found = compare(workspace, folds=arguments.fold, device=arguments.device, pool=pool(arguments))
    _print(found)
    print(f"written: {workspace.compare / 'compare.json'}")
    failed = {case: f"{row.name}: {reason}" for row in found.rows for case, reason in row.failed.items()}
    if failed:
        raise CasesFailed(
            f"{len(failed)} of {sum(map(len, found.cases.values()))} cases",
            found="; ".join(f"{case}, {reason}" for case, reason in failed.items()),
            expected="all cases scored; those count as 0",
        )


def _print(found: Comparison) -> None:
    from ..evaluation.tables import format_score
    from ..terminal import new_table, show

    cases = sum(map(len, found.cases.values()))
    groups = list(dict.fromkeys(group for row in found.rows for group in row.groups))
    folds = f"fold{'s' * (len(found.cases) > 1)} {', '.join(found.cases)}"
    title = f"{found.dataset}: {cases} case{'s' * (cases != 1)} held out by {folds}; DSC, NSD"
    table = new_table(title, "model", ">mean", *(f">{group}" for group in groups))
    for row in found.rows:
        scores = [row.mean, *(row.groups.get(group) for group in groups)]
        table.add_row(
            row.name, *("-" if one is None else f"{format_score(one.dsc)}, {format_score(one.nsd)}" for one in scores)
        )
    show(table)
    for folder, reason in found.left_out.items():
        print(f"left out: {folder}: {reason}; remove it and train it again")
    if found.best is None:
        print("no model answers every group: none is best")
    else:
        print_best(found)


def print_best(found: Comparison) -> None:
    from ..choice.largest_parts import SHARE

    rules = {"largest": found.keep, "least_share": found.least_share}
    named = [f"fusion.{rule}={json.dumps(labels)}" for rule, labels in rules.items() if labels]
    _print_effects("with only their largest connected part", found.keep, found.parts)
    _print_effects(f"without connected parts below {SHARE:g} of their largest one", found.least_share, found.shares)
    said = f" --set {shlex.join(named)}" if named else ""
    print(f"best: {found.best}\nuse it: flarenet_predict -i IN -o OUT -m {shlex.join(found.rows[0].models)}{said}")


def _print_effects(how: str, chosen: Collection[str], effects: Mapping[str, Effect]) -> None:
    """Print what a rule does to those of the labels `chosen` for it that it helps."""
    from ..evaluation.tables import format_score

    if chosen:
        print(f"better there {how} (docs/fusion.md), mean DSC:")
    for name, effect in effects.items():
        if name in chosen and effect.helps:
            counts = f"better {effect.better}, worse {effect.worse}"
            print(f"  {name}  {format_score(effect.before)} -> {format_score(effect.after)}, {counts}")


if __name__ == "__main__":
    sys.exit(main())
