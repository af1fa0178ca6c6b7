"""Outputs beside the label map. Each kind is an Output, which opens a Sink for every scan.

Files that belong to the label map OUT/CASE.nii.gz lie in a folder for each kind, OUT/KIND/, so that OUT itself holds
label maps alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from ...data.names import case_name, stem_of
from ...errors import UsageError
from ..opening import OpenedScan
from .slices import FinishedSlice, Sink


def output_names(images: Iterable[Path], out_dir: Path) -> dict[Path, Path]:
    """{image: its label file}: out_dir/X.nii.gz for X_0000.nii.gz, X.nii.gz or a folder X. Raises UsageError where two
    images would have the same label file."""
    outputs: dict[Path, Path] = {}
    by_name: dict[str, Path] = {}
    for image in images:
        name = f"{case_name(image)}.nii.gz"
        twin = by_name.setdefault(name.lower(), image)
        if twin != image:
            raise UsageError(
                f"output {out_dir / name}", found=f"{twin} and {image}", expected="one image for each output"
            )
        outputs[image] = out_dir / name
    return outputs


def refuse_replacing(outputs: Mapping[Path, Path]) -> None:
    """Raise UsageError where a label file of {image: its label file} would replace one of the images."""
    images = {image.resolve() for image in outputs}
    for output in outputs.values():
        if output.resolve() in images:
            expected = "another folder for the output"
            raise UsageError(f"output {output}", found="an input image of that name", expected=expected)


class Output(Protocol):
    """A SinkOpener that also tells which files it writes."""

    def __call__(self, output: Path, scan: OpenedScan) -> Sink:
        """A sink for a scan whose label file is `output`."""

    def files(self, output: Path) -> tuple[Path, ...]:
        """The files that it writes beside the label file `output`."""


def output_path(output: Path, kind: str, ending: str) -> Path:
    """OUT/KIND/CASE + ending for the label file OUT/CASE.nii.gz."""
    return output.parent / kind / f"{stem_of(output.name)}{ending}"


class WrittenAtEnd:
    """A Sink that gathers what it needs, and writes one file after the last slice."""

    wants_image = False
    wants_probabilities = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, finished: FinishedSlice) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Write self.path by whole.whole_file."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Nothing is written before `finish`."""
