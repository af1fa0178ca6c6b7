"""Shared by flarenet_evaluate and flarenet_report: flags for the truth, its data set, and the rules of scoring."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .shell import add_pool, add_raw, add_reading, path, reading

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..data.reading import Reading
    from ..evaluation.rules import Rules
    from ..workspace import Workspace


@dataclass(frozen=True)
class ScoredBy:
    """What predictions are scored against, and how.

    dataset  the data set, with the labels annotated in each case: as stated or, where not stated, as planning inferred
    reading  how ambiguous images are read
    """

    workspace: Workspace
    dataset: Dataset
    rules: Rules
    reading: Reading


def add_scoring(parser: ArgumentParser) -> None:
    """Add the flags that say against what, and where, predictions are scored; `scored_by` and shell.pool read them."""
    parser.add_argument("-g", "--truth", type=path, required=True, metavar="DIR", help="the ground truth, CASE.nii.gz")
    add_raw(parser)
    parser.add_argument("--official", action="store_true", help="score as the FLARE23 challenge does, quirks included")
    add_reading(parser)
    add_pool(parser)


def scored_by(arguments: Namespace) -> ScoredBy:
    """What the flags of add_scoring name. Raises as workspace.open_workspace and data.settled.read_with_inferred do."""
    from ..data.settled import read_with_inferred
    from ..evaluation.rules import OFFICIAL, PLAIN
    from ..workspace import find_root, open_workspace

    workspace, how = open_workspace(find_root(arguments.root), arguments.dataset), reading(arguments)
    dataset = read_with_inferred(workspace.raw, workspace.settled, how)
    return ScoredBy(workspace, dataset, OFFICIAL if arguments.official else PLAIN, how)
