"""The rules of a plan's Fusion that need the whole map: largest part, least size, hosts.

They change the map of a group in place. Where they remove a lesion, the label that an earlier group gives beneath it
shows.
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

Maps = Mapping[str, np.ndarray]
"""{group: uint8 [Z, Y, X], 0 background, 1..n the group's labels}."""


def settle(maps: Maps, fusion: Fusion, *, labels: LabelSet, grid: Grid) -> None:
    """Apply the rules to the maps of some or all groups. Sizes come first, so that no part that is removed counts as a
    host.

    grid  grid of the maps
    A label keeps all its parts if the group of none of its hosts is in `maps`.
    """
    if not fusion.needs_whole:
        return
    from ..data.components import find_components  # imported only for the few plans that need it

    places = _places(maps, labels)
    for name, (group, index) in places.items():
        if name in fusion.largest or name in fusion.least_ml:
            parts = find_components(maps[group], index)
            lost = parts.mm3(grid) / 1000 < fusion.least_ml.get(name, 0)
            if name in fusion.largest:
                lost |= np.arange(len(lost)) != parts.largest
            parts.paint(maps[group], lost, 0)
    for name, (group, index) in places.items():
        hosts = [places[host] for host in fusion.hosts.get(name, ()) if host in places]
        if hosts:
            parts = find_components(maps[group], index)
            home = np.zeros(maps[group].shape, dtype=bool)
            for host, of_host in hosts:
                home |= maps[host] == of_host
            near = _near(parts, home, spacing_mm=grid.spacing_mm, near_mm=fusion.near_mm)
            parts.paint(maps[group], ~near, 0)


def _places(maps: Maps, labels: LabelSet) -> dict[str, tuple[str, int]]:
    """Label name -> (its group, its number in the group's map)."""
    return {
        labels.names[value]: (group, index)
        for group, values in labels.groups.items()
        if group in maps
        for index, value in enumerate(values, start=1)
    }


def _near(
    parts: Components, home: np.ndarray, *, spacing_mm: tuple[float, float, float], near_mm: float
) -> np.ndarray:
    """bool [1 + n], by part number: whether it overlaps or touches `home`, bool [Z, Y, X], or lies within near_mm."""
    found = parts.touching(home)
    if not near_mm:
        return found
    import cc3d
    import edt

    reach = cast(Triple, tuple(ceil(near_mm / mm) for mm in spacing_mm))
    places = cc3d.statistics(parts.number)["bounding_boxes"]
    for number in np.flatnonzero(~found[1:]) + 1:  # one by one: distances are needed around each part only
        inner = _box(places[number], parts.box.start)
        around = inner.grown(reach, home.shape)
        within = tuple(slice(a - b, a - b + n) for a, b, n in zip(inner.start, around.start, inner.shape))
        away_mm = edt.edt(~home[around.slices], anisotropy=spacing_mm)[within]
        found[number] = (away_mm[parts.number[places[number]] == number] <= near_mm).any()
    return found


def _box(slices: Sequence[slice], start: Triple) -> Box:
    """The box of `slices`, which count from `start`, in the whole map."""
    first, last = (tuple(n + at for n, at in zip(ends, start)) for ends in zip(*((s.start, s.stop) for s in slices)))
    return Box(cast(Triple, first), cast(Triple, last))
