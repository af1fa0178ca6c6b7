"""The probabilities of each group of labels as NIfTI files, streamed to disk: `flarenet_predict --probabilities`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...data.labels import LabelSet
from ...data.nifti import channels_file
from ..opening import OpenedScan
from .file_order import FileOrder
from .outputs import output_path
from .slices import FinishedSlice

FOLDER = "probabilities"


class Probabilities:
    """The Output that writes probabilities/CASE_GROUP.nii.gz for each of `groups`.

    A file has a channel for background and for each label of the group, in uint8 with slope 1/255: readers give 0 to 1,
    off by at most 1/510. Before compression that is a quarter of float32, and most numbers are 0 or 255. NIfTI has no
    float16.
    """

    def __init__(self, labels: LabelSet, groups: Sequence[str]) -> None:
        self.labels, self.groups = labels, tuple(groups)

    def __call__(self, output: Path, scan: OpenedScan) -> ProbabilitiesSink:
        channels = {
            group: ("background", *(self.labels.names[value] for value in self.labels.groups[group]))
            for group in self.groups
        }
        paths = dict(zip(self.groups, self.files(output)))
        return ProbabilitiesSink(paths, scan, channels=channels)

    def files(self, output: Path) -> tuple[Path, ...]:
        return tuple(output_path(output, FOLDER, f"_{group}.nii.gz") for group in self.groups)


class ProbabilitiesSink:
    """Writes the slices of all groups as they come; scans whose file has them in another order: see FileOrder."""

    wants_image = False
    wants_probabilities = True

    def __init__(self, paths: dict[str, Path], scan: OpenedScan, *, channels: dict[str, tuple[str, ...]]) -> None:
        self._orders = dict[str, FileOrder]()
        try:
            for group, names in channels.items():
                self._orders[group] = FileOrder(scan.grid, channels_file(paths[group], names, like=scan.like))
        except BaseException:
            self.abandon()
            raise

    def take(self, finished: FinishedSlice) -> None:
        assert finished.probabilities is not None
        for group, order in self._orders.items():
            shares = finished.probabilities[group]
            order.take(finished.z, list(np.rint(shares * 255).astype(np.uint8)))

    def finish(self) -> None:
        for order in self._orders.values():
            order.finish()

    def abandon(self) -> None:
        for order in self._orders.values():
            order.abandon()
