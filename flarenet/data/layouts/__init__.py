"""Every layout of a data set that can be read. A new one is a module in this folder and a row of LAYOUTS."""

from __future__ import annotations

from pathlib import Path

from ...errors import DatasetError, some_of
from ..dataset_file import dataset_findings
from ..findings import Finding, of_case, refusals
from ..problems import Problems
from ..reading import STRICT, Reading
from .decathlon import is_decathlon, read_decathlon
from .flare import is_flare, read_flare
from .nnunet import has_dataset_file, has_folders, read_dataset_file, read_folders
from .scans import is_scans, read_scans
from .source import Layout, Source, SourceCase

LAYOUTS = (
    Layout(
        "nnU-Net v2, or flarenet's own",
        'dataset.json with "channel_names" and "labels"',
        has_dataset_file,
        read_dataset_file,
        lambda folder, reading: dataset_findings(folder, reading)[1],
    ),
    Layout(
        "Medical Segmentation Decathlon, nnU-Net v1",
        'dataset.json with "training": [{"image": ..., "label": ...}] and "labels": {"0": "background", ...}',
        is_decathlon,
        read_decathlon,
    ),
    Layout(
        "nnU-Net v2, folders only",
        "imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz; --labels names the labels",
        has_folders,
        lambda folder, _: read_folders(folder),
    ),
    Layout(
        "FLARE23",
        "imagesTr2200, labelsTr2200, unlabeledTr1800, validation, or some of them",
        is_flare,
        lambda folder, _: read_flare(folder),
    ),
    Layout(
        "unlabelled scans",
        "CASE.nii.gz or CASE_0000.nii.gz, in a folder that holds no other and is not named like one of labels",
        is_scans,
        lambda folder, _: read_scans(folder),
    ),
)
"""The first that fits a folder reads it."""

__all__ = ["LAYOUTS", "Layout", "Source", "SourceCase", "read_source", "source_findings"]


def read_source(folder: str | Path, reading: Reading = STRICT) -> Source:
    """What a folder holds, by the first layout that fits. Raises DatasetError listing all layouts where none does.

    reading  whether the paths of its own dataset.json may lead out of it; the cases are read when they are planned
    """
    return _layout(Path(folder)).read(Path(folder), reading)


def source_findings(folder: str | Path, reading: Reading = STRICT) -> tuple[Finding, ...]:
    """All that keeps read_source from reading a folder, as refusals of the set; none where it reads it."""
    folder = Path(folder)
    problems = Problems()
    with problems.collected():
        layout = _layout(folder)
        if layout.findings is None:
            layout.read(folder, reading)
        else:
            problems.findings += layout.findings(folder, reading)
    return of_case("", refusals(problems.findings))  # a source is read whole or not at all


def _layout(folder: Path) -> Layout:
    if not folder.is_dir():
        raise DatasetError(folder, found="no such folder", expected="the folder of a data set")
    for layout in LAYOUTS:
        if layout.fits(folder):
            return layout
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    raise DatasetError(
        folder,
        found=some_of(names, 12) or "an empty folder",
        expected="one of these layouts:" + "".join(f"\n    {layout.name}: {layout.expects}" for layout in LAYOUTS),
    )
