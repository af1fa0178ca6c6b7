"""flarenet_evaluate: Dice and surface Dice of a folder of predictions, as a table, JSON, CSV, pictures and a report."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .scoring import add_scoring, scored_by
from .shell import new_parser, path, pool, run

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..evaluation.pairs import Pair
    from ..evaluation.tables import Metrics

PICTURES = "pictures"
MOST_PICTURES = 20
"""The most pictures in the report, half of the worst and half of the best cases; those of all cases are next to it."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser("flarenet_evaluate", "Score predictions: Dice (DSC) and surface Dice (NSD) per class and case.")
    parser.add_argument(
        "-p", "--predictions", type=path, required=True, metavar="DIR", help="the predictions, CASE.nii.gz"
    )
    parser.add_argument(
        "-o",
        "--out",
        type=path,
        required=True,
        metavar="DIR",
        help="where metrics.json, scores.csv and lesions.csv are written; a killed evaluation resumes from there",
    )
    add_scoring(parser)
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out cases without a prediction (named in a note); otherwise they count as 0",
    )
    parser.add_argument(
        "--images", type=path, metavar="DIR", help="the scans: writes a picture of each case, and report.html"
    )
    parser.add_argument("--report", action="store_true", help="write report.html, also without pictures")
    return run(parser, work, argv)


def work(arguments: Namespace) -> None:
    """Score, write and print; then draw pictures and write the report, if requested.

    Raises CasesFailed, after everything else is done, where a case could not be scored properly.
    """
    from ..errors import CasesFailed
    from ..evaluation.pairs import pair_up
    from ..evaluation.tables import print_metrics, score_pairs
    from ..lock import locked
    from ..whole import remove_leftovers

    by = scored_by(arguments)
    folders, skip = (arguments.truth, arguments.predictions), arguments.skip_missing
    pairs, notes = pair_up(*folders, dataset=by.dataset, rules=by.rules, reading=by.reading, skip_missing=skip)
    with locked(arguments.out):
        remove_leftovers(arguments.out / PICTURES)
        metrics = score_pairs(
            pairs, by.dataset.labels, arguments.out, rules=by.rules, pool=pool(arguments), notes=notes
        )
        print_metrics(metrics)
        if arguments.images or arguments.report:
            _report(arguments, pairs, metrics, by.dataset)
    print(f"written: {arguments.out}")
    if metrics.failed:
        raise CasesFailed(
            f"{len(metrics.failed)} of {metrics.expected} cases",
            found="no usable prediction or ground truth: " + ", ".join(metrics.failed),
            expected="all cases scored; the reasons are above and in metrics.json",
        )


def _report(arguments: Namespace, pairs: list[Pair], metrics: Metrics, dataset: Dataset) -> None:
    from ..evaluation.gallery import draw_cases
    from ..reporting.content import Gallery, Picture, Section
    from ..reporting.page import write_page
    from ..reporting.scores import score_sections

    pictures: dict[str, Path] = {}
    if arguments.images:
        out, where = arguments.out / PICTURES, pool(arguments)
        pictures, undrawn = draw_cases(pairs, metrics, dataset=dataset, images=arguments.images, out=out, pool=where)
        for drawing, error in undrawn:
            print(f"flarenet_evaluate: no picture of {drawing.name}: {error}", file=sys.stderr)
    captions = list(pictures)
    if len(captions) > MOST_PICTURES:
        captions = captions[: MOST_PICTURES // 2] + captions[-MOST_PICTURES // 2 :]
    name = arguments.predictions.resolve().name
    sections = score_sections({name: metrics}, dataset.labels)
    if captions:
        shown = tuple(Picture(caption, caption, pictures[caption].read_bytes()) for caption in captions)
        sections.append(Section("pictures", "Pictures", (Gallery(shown),)))
    write_page(arguments.out / "report.html", f"{arguments.dataset}: evaluation of {name}", sections)


if __name__ == "__main__":
    sys.exit(main())
