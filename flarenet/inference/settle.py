"""The rules of a plan's Fusion that need the whole map: the largest part, the least size, hosts.

They change the map of a group in place; where a lesion goes, what its host's group says beneath it comes to light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, cast

import numpy as np

from ..data.labels import LabelSet
from ..planning.fusion import Fusion
from ..volume import Box, Grid, Triple

if TYPE_CHECKING:
    from ..data.components import Components

TOUCHING = 1.75
"""Voxels between centres: those of corner neighbours are 1.73 apart, those of the next ones 2."""

Maps = Mapping[str, np.ndarray]
"""{group: uint8 [Z, Y, X], 0 background, 1..n the group's labels}."""


def settle(maps: Maps, fusion: Fusion, *, labels: LabelSet, grid: Grid) -> None:
    """Apply them to the maps of some or all groups: sizes first, so that no lesion is held by a part that goes.

    grid  that of the maps
    Of labels of which no host's group is in `maps` nothing is taken for the lack of one.
    """
    if not (fusion.largest or fusion.least_ml or fusion.hosts):
        return
    from ..data.components import find_components  # what few plans need is imported for them only

    places = _places(maps, labels)
    for name, (group, index) in places.items():
        if name in fusion.largest or name in fusion.least_ml:
            parts = find_components(maps[group], index)
            lost = parts.voxels * grid.voxel_mm3 / 1000 < fusion.least_ml.get(name, 0)
            if name in fusion.largest:
                lost |= np.arange(len(lost)) != parts.largest
            parts.paint(maps[group], lost, 0)
    for name, (group, index) in places.items():
        hosts = [places[host] for host in fusion.hosts.get(name, ()) if host in places]
        if hosts:
            parts = find_components(maps[group], index)
            near = _near(parts, maps, hosts, spacing_mm=grid.spacing_mm, near_mm=fusion.near_mm)
            parts.paint(maps[group], ~near, 0)


def _places(maps: Maps, labels: LabelSet) -> dict[str, tuple[str, int]]:
    """Label name -> its group and its number there."""
    return {
        labels.names[value]: (group, index)
        for group, values in labels.groups.items()
        if group in maps
        for index, value in enumerate(values, start=1)
    }


def _near(
    parts: Components,
    maps: Maps,
    hosts: list[tuple[str, int]],
    *,
    spacing_mm: tuple[float, float, float],
    near_mm: float,
) -> np.ndarray:
    """bool [1 + n]: which of the parts overlap or touch a host, or have a voxel within `near_mm` of one's."""
    import cc3d
    import edt

    found = np.zeros(len(parts.voxels), dtype=bool)
    reach = cast(Triple, tuple(max(1, ceil(near_mm / mm)) for mm in spacing_mm))
    places = cc3d.statistics(parts.number)["bounding_boxes"]
    for number in range(1, len(found)):  # one by one: distances take no more than a part's own surroundings
        inner = _box(places[number], parts.box.start)
        around = inner.grown(reach, next(iter(maps.values())).shape)
        apart = np.logical_and.reduce([maps[group][around.slices] != index for group, index in hosts])
        within = tuple(slice(a - b, a - b + n) for a, b, n in zip(inner.start, around.start, inner.shape))
        part = parts.number[places[number]] == number
        found[number] = bool((edt.edt(apart)[within][part] < TOUCHING).any()) or (
            near_mm > 0 and bool((edt.edt(apart, anisotropy=spacing_mm)[within][part] <= near_mm).any())
        )
    return found


def _box(slices: Sequence[slice], start: Triple) -> Box:
    """The box in a map of `slices` of a part of it that begins at `start`."""
    first, last = (tuple(n + at for n, at in zip(ends, start)) for ends in zip(*((s.start, s.stop) for s in slices)))
    return Box(cast(Triple, first), cast(Triple, last))
