"""The rules of a plan's Fusion that need the whole map: the largest part, the least size, hosts.

They change the map of a group in place; where a lesion goes, what its host's group says beneath it comes to light.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod

import edt
import numpy as np

from ..data.components import Components, find_components
from ..data.labels import LabelSet
from ..planning.fusion import Fusion
from ..volume import Triple

TOUCHING = 1.75
"""Voxels between centres: those of corner neighbours are 1.73 apart, those of the next ones 2."""

Maps = Mapping[str, np.ndarray]
"""{group: uint8 [Z, Y, X], 0 background, 1..n the group's labels}."""


def settle(maps: Maps, fusion: Fusion, *, labels: LabelSet, spacing_mm: tuple[float, float, float]) -> None:
    """Apply them to the maps of some or all groups: sizes first, so that no lesion is held by a part that goes.

    spacing_mm  along z, y, x
    Of labels of which no host's group is in `maps` nothing is taken for the lack of one.
    """
    places = _places(maps, labels)
    for name, (group, index) in places.items():
        if name in fusion.largest or name in fusion.least_ml:
            parts = find_components(maps[group], index)
            sizes = np.where(np.arange(len(parts.voxels)) > 0, parts.voxels, 0)
            lost = sizes * prod(spacing_mm) / 1000 < fusion.least_ml.get(name, 0)
            if name in fusion.largest:
                lost |= np.arange(len(sizes)) != sizes.argmax()
            parts.paint(maps[group], lost, 0)
    for name, (group, index) in places.items():
        hosts = [places[host] for host in fusion.hosts.get(name, ()) if host in places]
        if hosts:
            parts = find_components(maps[group], index)
            near = _near(parts, maps, hosts, spacing_mm=spacing_mm, near_mm=fusion.near_mm)
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
    shape = next(iter(maps.values())).shape
    reach: Triple = tuple(max(1, ceil(near_mm / mm)) for mm in spacing_mm)  # type: ignore[assignment]
    around = parts.box.grown(reach, shape)
    inside = tuple(slice(a - b, a - b + n) for a, b, n in zip(parts.box.start, around.start, parts.box.shape))
    apart = np.logical_and.reduce([maps[group][around.slices] != index for group, index in hosts])
    near = edt.edt(apart)[inside] < TOUCHING
    if near_mm:
        near |= edt.edt(apart, anisotropy=spacing_mm)[inside] <= near_mm
    found = np.zeros(len(parts.voxels), dtype=bool)
    found[np.unique(parts.number[near])] = True
    return found
