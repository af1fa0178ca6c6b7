"""flarenet_ablate: trains, predicts and scores variants of a plan, and compares them in one table."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .process import keep_to_quota
from .shell import (
    add_changes,
    add_device,
    add_epochs,
    add_fold,
    add_planned,
    add_pool,
    add_reading,
    index,
    new_parser,
    path,
    planned,
    pool,
    reading,
    run,
)

if TYPE_CHECKING:
    from ..choice.ablation_table import AblationResults
    from ..choice.trials import Ablation, Trial
    from ..choice.variants import AblationList
    from ..data.dataset import Case


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser("flarenet_ablate", "Train, predict and score variants of a plan: mean, sd and significance.")
    parser.add_argument("variants", nargs="?", metavar="LIST", help="a list shown by --list, or your own LIST.json")
    parser.add_argument("--list", action="store_true", help="show the lists that come with flarenet, and exit")
    add_planned(parser)
    parser.add_argument(
        "--seeds", type=index, nargs="+", default=[0], metavar="S", help="seeds to train each variant with (default: 0)"
    )
    add_fold(parser)
    add_changes(parser, "change values of every variant's plan", "trainers.*.steps.*.batch_size=2")
    add_epochs(parser)
    _add_cases(parser)
    add_reading(parser)
    where = "where predictions, scores and tables go (default: ROOT/ablations/NAME/LIST)"
    parser.add_argument("-o", "--out", type=path, metavar="DIR", help=where)
    parser.add_argument("--dry-run", action="store_true", help="show what would be trained, and what exists already")
    add_device(parser)
    add_pool(parser, workers=1)
    return run(parser, work, argv)


def _add_cases(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-i", "--images", type=path, metavar="DIR", help="score on these scans (default: the labelled test cases)"
    )
    parser.add_argument("-g", "--truth", type=path, metavar="DIR", help="the ground truth of -i, CASE.nii.gz")
    parser.add_argument("--held-out", action="store_true", help="score on the cases that the fold holds out")


def work(arguments: Namespace) -> None:
    """Train, predict and score what is still missing, then write and print the tables.

    Raises CasesFailed, after everything else is done, where a variant or a case failed.
    """
    keep_to_quota()
    from ..choice.trials import open_ablation
    from ..choice.variants import find_list, shipped_lists
    from ..errors import UsageError
    from ..lock import locked

    if arguments.list:
        return _show_lists(shipped_lists())
    if arguments.variants is None:
        raise UsageError("LIST", found="nothing", expected=", ".join([*shipped_lists(), "or LIST.json"]))
    name, chosen = find_list(arguments.variants)
    workspace = planned(arguments)
    ablation = open_ablation(workspace, fold=arguments.fold, device=arguments.device, pool=pool(arguments), say=_say)
    trials = ablation.trials(chosen, seeds=arguments.seeds, changes=arguments.changes, epochs=arguments.epochs)
    _tell(trials, ablation)
    if arguments.dry_run:
        return None
    cases, out = _cases(ablation, arguments), arguments.out or workspace.ablations / name
    with locked(out):
        found = ablation.run(trials, cases, out, name=name)
    return _end(found, out)


def _end(found: AblationResults, out: Path) -> None:
    from ..choice.ablation_table import print_results
    from ..errors import CasesFailed

    print_results(found)
    print(f"written: {out}")
    failed = [f"{name}, {where}" for name, scores in found.variants.items() for where in scores.failed]
    if failed:
        raise CasesFailed(
            f"{len(failed)} parts of the ablation",
            found="; ".join(failed),
            expected="every variant trained and every case scored; the reasons are above and in ablation.json",
            remedy="fix it and run the same command again; what is done is kept",
        )


def _cases(ablation: Ablation, arguments: Namespace) -> Sequence[Case]:
    """The cases to score on. Raises UsageError where there is none, or where models learn from one."""
    from ..choice.scored_cases import cases_in, held_out_cases, labelled_test_cases
    from ..errors import UsageError

    dataset, held_out = ablation.dataset, ablation.held_out
    if (arguments.images is None) != (arguments.truth is None):
        raise UsageError("-i and -g", found="one of them", expected="both, or neither")
    if arguments.images is not None:
        return cases_in(arguments.images, arguments.truth, dataset, held_out=held_out, reading=reading(arguments))
    return held_out_cases(dataset, held_out) if arguments.held_out else labelled_test_cases(dataset)


def _tell(trials: Sequence[Trial], ablation: Ablation) -> None:
    """Print which runs are needed, and for which trials."""
    from ..inference.models.about import is_finished

    runs = {key: run for trial in trials for key, run in trial.runs.items()}
    for key, one in runs.items():
        users = list(dict.fromkeys(trial.name for trial in trials if key in trial.runs))
        there = " (exists already)" if is_finished(ablation.folder(one)) else ""
        _say(f"{one.name}: {'; '.join(users)}{there}")
    _say(f"{len(trials)} trials, {len(runs)} runs, {sum(len(trial.runs) for trial in trials)} if none were shared")


def _show_lists(lists: dict[str, AblationList]) -> None:
    for name, one in lists.items():
        print(f"{name}: {one.about}")
        for variant in one.variants:
            print(f"  {variant.name}: {_words(variant.model_dump(by_alias=True, exclude_defaults=True))}")


def _words(fields: dict) -> str:
    named = {key: value for key, value in fields.items() if key != "name"}
    return "; ".join(f"{key} {value if isinstance(value, str) else ', '.join(value)}" for key, value in named.items())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
