"""Where flarenet_plan takes its cases from: ROOT/raw/NAME/dataset.json, or --from, which writes that file."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .shell import reading

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..data.findings import Finding
    from ..data.layouts import Source
    from ..data.reading import Reading
    from ..workspace import Workspace


@dataclass(frozen=True)
class Opened:
    """A data set, and how it is read; see data.dataset_file.

    sources  folders of --from
    content  the dataset.json made from them; None without --from
    wrong    findings that keep the sources from being read; only for a check, otherwise they are raised
    """

    workspace: Workspace
    reading: Reading
    sources: tuple[Path, ...] = ()
    content: Mapping[str, Any] | None = None
    wrong: tuple[Finding, ...] = ()

    def read(self) -> Dataset:
        """The data set. Raises the first error found in it."""
        from ..data.dataset_file import read_dataset

        return read_dataset(self.workspace.raw, self.reading, sources=self.sources, content=self.content)

    def findings(self) -> tuple[Dataset | None, list[Finding]]:
        """The usable part of the data set (None: nothing), and all findings on it."""
        from ..data.dataset_file import dataset_findings

        if self.wrong:
            return None, list(self.wrong)
        return dataset_findings(self.workspace.raw, self.reading, sources=self.sources, content=self.content)


def add_sources(parser: ArgumentParser) -> None:
    """Add the flags that say where cases come from; `open_set` reads them."""
    parser.add_argument(
        "--from",
        dest="sources",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FOLDER",
        help="write ROOT/raw/NAME/dataset.json for the cases of these folders, which stay where they are",
    )
    parser.add_argument(
        "--labels",
        dest="label_names",
        type=Path,
        metavar="MAP.json",
        help="how --from matches the labels of its folders (docs/dataset-json.md)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="let --from replace a different dataset.json; a copy is kept"
    )
    parser.add_argument(
        "--allow-external", action="store_true", help="trust paths of any dataset.json that lead out of its folder"
    )


def open_set(arguments: Namespace) -> Opened:
    """The data set that the flags name. Raises UsageError, DatasetError or UnsafeError.

    With --from its dataset.json is written, unless this is a check or a dry run, and the cases by source are printed.
    """
    from ..errors import UsageError
    from ..workspace import find_root, open_workspace

    root = find_root(arguments.root)
    how = reading(arguments).model_copy(update={"allow_external": arguments.allow_external})
    if arguments.sources:
        return _from_sources(root, how, arguments)
    if arguments.label_names or arguments.replace:
        flag = "--labels" if arguments.label_names else "--replace"
        raise UsageError(flag, found="no --from", expected=f"--from FOLDER ..., which {flag} is about")
    return Opened(open_workspace(root, arguments.dataset), how)


def _from_sources(root: Path, how: Reading, arguments: Namespace) -> Opened:
    from ..data.layouts import read_source, source_findings
    from ..data.layouts.merge import LabelNames, another_file, check_names, merge, write_dataset_file
    from ..data.names import check_name
    from ..errors import DatasetError
    from ..schema import load
    from ..workspace import ROOT_VARIABLE, Workspace

    check_name(arguments.dataset, "--dataset")
    workspace, folders = Workspace(root, arguments.dataset), [folder.absolute() for folder in arguments.sources]
    _refuse_itself(workspace.raw, folders)
    checks = arguments.check or arguments.report is not None
    if checks:
        wrong = tuple(finding for folder in folders for finding in source_findings(folder, how))
        if wrong:
            return Opened(workspace, how, wrong=wrong)
    sources = [read_source(folder, how) for folder in folders]
    label_names = load(LabelNames, arguments.label_names, DatasetError) if arguments.label_names else None
    content = merge(sources, workspace.raw, label_names)
    check_names(content, workspace.settled)
    opened = Opened(workspace, how, tuple(folders), content)
    written = not (checks or arguments.dry_run)
    if written:
        if not (root / "raw").exists():  # may be the current folder by mistake
            print(f"root: {root}, which holds no data set yet; --root or {ROOT_VARIABLE} names another")
        opened.read()  # what cannot be read is not written
        write_dataset_file(content, workspace.raw, replace=arguments.replace)
    elif other := another_file(content, workspace.raw):
        print(f"flarenet_plan: warning: this file is not used: {other}", file=sys.stderr)
    _tell(sources, content, f"{workspace.raw / 'dataset.json'}{'' if written else ' (not written)'}")
    return opened


def _refuse_itself(raw: Path, folders: Sequence[Path]) -> None:
    """Raise UsageError where dataset.json would overwrite that of a source, even through a link: others read that file,
    and the next --from would read the combined set as a source.

    A single folder without a dataset.json may get one.
    """
    from ..errors import UsageError

    if len(folders) == 1 and not (raw / "dataset.json").exists():
        return
    for folder in folders:
        if folder.resolve() == raw.resolve():
            raise UsageError(
                f"--from {folder}",
                found=f"the folder of the set itself, {raw}",
                expected="folders whose own dataset.json stays as it is",
                remedy="another name after -d for the combined set; or, to plan the set as its dataset.json says, "
                "leave --from out, with --allow-external if files lie elsewhere",
            )


def _tell(sources: Sequence[Source], content: Mapping[str, Any], where: str) -> None:
    for source in sources:
        labelled = sum(case.label is not None for case in source.cases)
        cases = f"{len(source.cases)} cases ({labelled} labelled), {len(source.test)} test"
        print(f"{source.name}: {source.layout}, {cases}")
        for note in source.notes:
            print(f"  {note}")
    named = ", ".join(f"{value} {name}" for name, value in content["labels"].items() if value)
    print(f"{where}: {len(content['dataset'])} cases; {named}")
