"""The rules of a plan's Fusion that need connected parts: largest part, least size or share, hosts.

They change the map of a group. Where they remove a lesion, the label that an earlier group gives beneath it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, cast

import numpy as np
from isal import isal_zlib

from ..data.labels import LabelSet
from ..planning.fusion import Fusion
from ..volume import Box, Grid, Triple

if TYPE_CHECKING:
    from ..data.parts_by_slice import Parts

Maps = Mapping[str, np.ndarray]
"""{group: uint8 [Y, X] of a slice, 0 background, 1..n the group's labels}."""

AT_ONCE = 8
"""So many slices of a part are searched at once for a host within near_mm."""


class Settled:
    """The maps of a scan after the rules. Until the last slice has come all are kept, packed: a few kB each.

    slices  (z, maps) of every slice of the scan, each next to the one before
    groups  the groups of the maps
    grid    grid of the scan
    A label keeps all its parts if none of its hosts is in `groups`.
    """

    def __init__(
        self, slices: Iterable[tuple[int, Maps]], fusion: Fusion, *, groups: Sequence[str], labels: LabelSet, grid: Grid
    ) -> None:
        self._fusion, self._groups, self._grid = fusion, tuple(groups), grid
        # in the order of the label table's groups, whatever that of `groups`
        self._group_of = {
            value: group for group, values in labels.groups.items() if group in self._groups for value in values
        }
        values = {labels.names[value]: value for value in self._group_of}
        self._sized = {value: name for name, value in values.items() if name in fusion.sized}
        hosts = {
            values[name]: [values[host] for host in fusion.hosts.get(name, ()) if host in values] for name in values
        }
        self._hosts = {value: those for value, those in hosts.items() if those}
        self._tables = self._values_by_number(labels)
        self._packed: dict[tuple[int, str], bytes] = {}
        self._parts = self._found(slices)
        self._lost = self._too_small()
        for value in self._hosts:  # after sizes, so that no part that is removed counts as a host
            self._lost |= self._astray(value)

    def maps(self, z: int) -> dict[str, np.ndarray]:
        """{group: uint8 [Y, X]} of slice `z`, without the parts that are removed."""
        planes = {group: self._plane(z, group) for group in self._groups}
        for group in self._tables:
            planes[group] = planes[group] * ~self._lost[self._numbers(z, group)]
        return planes

    def _values_by_number(self, labels: LabelSet) -> dict[str, np.ndarray]:
        """{group: uint8 [256]}, by a group's numbers of its labels: the values of those whose parts are needed, else 0;
        only groups with such labels."""
        needed = self._sized.keys() | self._hosts.keys() | {host for those in self._hosts.values() for host in those}
        tables = {}
        for group in self._groups:
            tables[group] = np.zeros(256, dtype=np.uint8)
            for number, value in enumerate(labels.groups[group], start=1):
                tables[group][number] = value if value in needed else 0
        return {group: table for group, table in tables.items() if table.any()}

    def _found(self, slices: Iterable[tuple[int, Maps]]) -> Parts:
        """Keep the slices, and find their parts."""
        from ..data.parts_by_slice import PartsBySlice  # imported only for the few plans that need it

        of = self._group_of
        pairs = {tuple(sorted((of[value], of[host]))) for value, those in self._hosts.items() for host in those}
        parts = PartsBySlice(touching=[(one, other) for one, other in sorted(pairs) if one != other])
        for z, maps in slices:
            for group in self._groups:
                self._packed[z, group] = isal_zlib.compress(maps[group].tobytes(), 1)
            parts.add(z, {group: table[maps[group]] for group, table in self._tables.items()})
        return parts.joined()

    def _plane(self, z: int, group: str) -> np.ndarray:
        """The map of a group in slice `z` as it came, uint8 [Y, X]."""
        content = isal_zlib.decompress(self._packed[z, group])
        return np.frombuffer(content, dtype=np.uint8).reshape(self._grid.shape[1:])

    def _numbers(self, z: int, group: str) -> np.ndarray:
        """The number of each pixel's part, [Y, X]; 0 where there is none."""
        return self._parts.of_pixels(z, group, self._tables[group][self._plane(z, group)])

    def _too_small(self) -> np.ndarray:
        """Which parts are removed for their sizes, bool [1 + n]."""
        fusion, parts = self._fusion, self._parts
        lost = np.zeros(len(parts.label), dtype=bool)
        for value, name in self._sized.items():
            own = np.flatnonzero(parts.label == value)
            if len(own):
                voxels = parts.voxels[own]
                lost[own] = voxels * self._grid.voxel_mm3 / 1000 < fusion.least_ml.get(name, 0)
                lost[own] |= voxels / voxels.max() < fusion.least_share.get(name, 0)
                if name in fusion.largest:
                    lost[own] |= np.arange(len(own)) != voxels.argmax()  # of equal ones the first stays
        return lost

    def _astray(self, value: int) -> np.ndarray:
        """Which parts of a label, bool [1 + n], neither overlap nor touch a host, nor lie within near_mm of one."""
        parts = self._parts
        is_host = np.isin(parts.label, self._hosts[value]) & ~self._lost
        astray = (parts.label == value) & ~self._lost
        pairs = np.concatenate([parts.touching, parts.touching[:, ::-1]])
        astray[pairs[is_host[pairs[:, 1]], 0]] = False
        if self._fusion.near_mm and astray.any() and is_host.any():
            groups = {self._group_of[host] for host in self._hosts[value]}
            own = self._group_of[value]

            @lru_cache(AT_ONCE)  # parts come by their first slices, so the next one mostly lies in the same
            def numbers(z: int) -> np.ndarray:
                return self._numbers(z, own)

            @lru_cache(AT_ONCE + 2 * self._reach[0])
            def home(z: int) -> np.ndarray:
                return np.any([is_host[self._numbers(z, group)] for group in groups], axis=0)

            for number, box in self._boxes(astray, own):
                astray[number] = not self._is_near(number, box, numbers=numbers, home=home)
        return astray

    @property
    def _reach(self) -> Triple:
        """How many voxels near_mm reaches along z, y, x."""
        return cast(Triple, tuple(ceil(self._fusion.near_mm / mm) for mm in self._grid.spacing_mm))

    def _boxes(self, which: np.ndarray, group: str) -> list[tuple[int, Box]]:
        """The parts of a group for which `which`, bool [1 + n], is true: the number of each, and the box that holds
        it."""
        start, stop = np.full((len(which), 3), max(self._grid.shape)), np.zeros((len(which), 3), dtype=int)
        for z in range(self._grid.shape[0]):
            number = self._numbers(z, group)
            y, x = np.nonzero(which[number])
            places = np.stack([np.full_like(y, z), y, x], axis=1)
            np.minimum.at(start, number[y, x], places)
            np.maximum.at(stop, number[y, x], places + 1)
        ends = ((int(number), start[number].tolist(), stop[number].tolist()) for number in np.flatnonzero(which))
        return [(number, Box(cast(Triple, tuple(low)), cast(Triple, tuple(high)))) for number, low, high in ends]

    def _is_near(
        self, number: int, box: Box, *, numbers: Callable[[int], np.ndarray], home: Callable[[int], np.ndarray]
    ) -> bool:
        """Whether the part `number`, which `box` holds, lies within near_mm of a host.

        numbers  gives the number of each pixel's part [Y, X] of slice z, in the part's group
        home     gives bool [Y, X] of slice z: where hosts are
        """
        import edt

        for z in range(box.start[0], box.stop[0], AT_ONCE):
            inner = Box((z, *box.start[1:]), (min(z + AT_ONCE, box.stop[0]), *box.stop[1:]))
            around = inner.grown(self._reach, self._grid.shape)
            hosts = np.stack([home(at)[around.slices[1:]] for at in range(around.start[0], around.stop[0])])
            if hosts.any():
                planes = (numbers(at)[inner.slices[1:]] for at in range(inner.start[0], inner.stop[0]))
                own = np.stack([plane == number for plane in planes])
                within = tuple(slice(a - b, a - b + n) for a, b, n in zip(inner.start, around.start, inner.shape))
                away_mm = edt.edt(~hosts, anisotropy=self._grid.spacing_mm)[within]
                if (away_mm[own] <= self._fusion.near_mm).any():
                    return True
        return False
