"""flarenet_report: makes the tables, tests and pictures of a paper from folders of predictions, as one HTML file."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .scoring import add_scoring, scored_by
from .shell import index, new_parser, path, pool, run

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..reporting.content import Section
    from ..reporting.models import ScoredModel
    from ..workspace import Workspace

PAPERS_ABLATION = 6
"""Number of the paper's table that compares models trained with and without unlabelled cases."""

EFFICIENCY = 7
"""Number of the paper's table of time and memory."""


def main(argv: Sequence[str] | None = None) -> int:
    return run(make_parser(), work, argv)


def make_parser() -> ArgumentParser:
    parser = new_parser("flarenet_report", "Tables, tests and pictures of models as one HTML file that opens anywhere.")
    parser.add_argument(
        "-p",
        "--predictions",
        type=_named,
        required=True,
        nargs="+",
        metavar="NAME=DIR",
        help="models: predictions CASE.nii.gz, or the output of flarenet_evaluate (default NAME: the folder's)",
    )
    parser.add_argument(
        "-o", "--out", type=path, required=True, metavar="DIR", help="where report.html, files/ and scores/ go"
    )
    add_scoring(parser)
    _add_sections(parser)
    return parser


def _add_sections(parser: ArgumentParser) -> None:
    """Add the flags for what the page holds in addition to the scores."""
    parser.add_argument("--images", type=path, metavar="DIR", help="the scans: adds pictures and slices to browse")
    parser.add_argument(
        "--browse",
        type=index,
        default=12,
        metavar="N",
        help="with --images: slices of this many cases, half worst, half best (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        type=_named,
        nargs="+",
        default=[],
        metavar="NAME=DIR",
        help="trained models, or trainers with all their steps: adds the curves of their training",
    )
    parser.add_argument(
        "--published",
        type=int,
        nargs="*",
        choices=(4, 5, 6, EFFICIENCY),
        metavar="TABLE",
        help="also show the paper's own rows of tables 4 to 6, scores, and 7, efficiency (without TABLE: 6 and 7)",
    )


def _named(text: str) -> tuple[str, Path]:
    """(name, folder) of NAME=DIR or of DIR alone. No name holds a "/", but the path of a folder may hold "=" too."""
    name, equals, folder = text.partition("=")
    if "/" in name or not equals:
        name, equals, folder = "", "", text
    if not folder or (equals and not name.strip()):
        raise ArgumentTypeError(f"{text!r} is not NAME=DIR")
    return name or path(folder).resolve().name, path(folder)


def work(arguments: Namespace) -> None:
    """Score what has no scores yet, then write the page and its files.

    Raises LockedError where another command writes there, and CasesFailed, after everything else is done, where a case
    of any model could not be scored properly.
    """
    from ..errors import CasesFailed
    from ..lock import locked
    from ..reporting.models import Reader, read_models
    from ..reporting.page import write_files, write_page
    from ..whole import remove_leftovers

    by = scored_by(arguments)
    background = list(_background(arguments, by.workspace))  # before the scoring, which may take long
    page, files, scores = (arguments.out / name for name in ("report.html", "files", "scores"))
    with locked(arguments.out):
        for folder in (arguments.out, files):
            remove_leftovers(folder)
        reader = Reader(arguments.truth, by.dataset, by.rules, scores, pool(arguments), by.reading)
        models = read_models(arguments.predictions, reader)
        sections = [*_sections(arguments, models, by.dataset), *background]
        write_files(files, sections)
        write_page(page, f"{arguments.dataset}: {', '.join(model.name for model in models)}", sections)
    print(f"written: {page}")
    failed = {f"{model.name}: {case}": reason for model in models for case, reason in model.metrics.failed.items()}
    if failed:
        raise CasesFailed(
            f"{len(failed)} of {sum(model.metrics.expected for model in models)} predictions",
            found=", ".join(failed),
            expected="all cases scored; those count as 0, and the page says why",
        )


def _sections(arguments: Namespace, models: list[ScoredModel], dataset: Dataset) -> Iterator[Section]:
    from ..reporting.efficiency import efficiency_section
    from ..reporting.published import published
    from ..reporting.scores import score_sections

    tables = arguments.published or ([] if arguments.published is None else [PAPERS_ABLATION, EFFICIENCY])
    printed = published()
    columns = [column for column in printed.columns if column.table in tables]
    yield from score_sections({model.name: model.metrics for model in models}, dataset.labels, published=columns)
    if arguments.images:
        from ..reporting.pictures import picture_section

        browsed, where = arguments.browse, pool(arguments)
        yield picture_section(models, dataset, arguments.images, browsed=browsed, pool=where)
    costs = {model.name: model.efficiency for model in models if model.efficiency}
    if costs:
        yield efficiency_section(costs, published=printed.efficiency if EFFICIENCY in tables else ())


def _background(arguments: Namespace, workspace: Workspace) -> Iterator[Section]:
    """Sections on the training of the models, the plan and the data set, as far as these exist."""
    from ..planning.plan_file import load_plan
    from ..planning.planned import load_fingerprint
    from ..reporting.dataset import dataset_section, plan_section

    if arguments.model:
        from ..reporting.training import read_runs, training_section  # imports torch

        yield training_section(read_runs(arguments.model))
    if workspace.fingerprint.is_file():
        fingerprint = load_fingerprint(workspace)
        if workspace.plan.is_file():
            yield plan_section(load_plan(workspace.plan), fingerprint)
        yield dataset_section(fingerprint)


if __name__ == "__main__":
    sys.exit(main())
