"""From slabs of logits on the network's grid to the slices of the scan, without logits of the whole scan at full size.

At any time there are two network slices, and one slice at the scan's resolution; see upsample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.labels import LabelSet
from ..planning.fusion import Fusion
from ..preparation.passing import Passing, in_order
from ..preparation.prepare import Frame
from ..preparation.upright import slices_on_grid
from ..volume import Grid, Triple
from .fuse import slice_maps
from .upsample import NetworkSlice, source_slices
from .windows import Slab

Place = tuple[NetworkSlice, NetworkSlice, float]
"""Where a slice of the scan lies: (the network slice below, the one above, the share of the one above)."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer for slice `z` of the reoriented scan.

    maps           {group: uint8 [Y, X]}: 0 background, 1..n the group's labels
    probabilities  {group: float32 [1 + n, Y, X]}, where they are wanted
    """

    z: int
    maps: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray] | None = None


def places(slabs: Iterable[Slab], frame: Frame, *, descending: bool = False) -> Iterator[Place | None]:
    """Place of each slice of the reoriented scan, lowest or, if `descending`, highest first; None outside frame.box.

    The slabs come in the same order. Raises ValueError unless they fill frame.grid.
    """
    depth, *size = frame.box.shape
    count = frame.grid.shape[0]
    below, share = source_slices(depth, count)
    passing = Passing(
        _network_slices(slabs, (size[0], size[1]), count, descending=descending), count, descending=descending
    )
    inside = range(frame.reoriented.shape[0])[frame.box.slices[0]]
    for z in in_order(range(frame.reoriented.shape[0]), descending):
        if z not in inside:
            yield None
            continue
        place = z - inside.start
        near = passing.between(int(below[place]), min(int(below[place]) + 2, count))
        yield near[0], near[-1], float(share[place])


def answer_of(
    z: int,
    place: Place | None,
    frame: Frame,
    *,
    groups: Sequence[str],
    fusion: Fusion,
    labels: LabelSet,
    probabilities: bool = False,
) -> Answer:
    """The answer of one model for slice `z`; outside frame.box it is background.

    place   Place of the slice; None outside the box
    groups  the groups to answer
    """
    size = frame.reoriented.shape[1:]
    drawn = {} if place is None else slice_maps(*place, fusion=fusion, labels=labels)
    maps = {group: _pasted(drawn.get(group), frame, np.zeros(size, dtype=np.uint8)) for group in groups}
    if not probabilities:
        return Answer(z, maps)
    from .interpolated import logits_between

    logits = {} if place is None else logits_between(*place)
    chances = {}
    for group in groups:
        whole = np.zeros((1 + len(labels.groups[group]), *size), dtype=np.float32)
        whole[0] = 1
        chances[group] = _pasted(logits[group].softmax(0).cpu().numpy() if logits else None, frame, whole)
    return Answer(z, maps, chances)


def on_own_grid(
    answers: Iterable[Answer], source: Grid, target: Grid, *, labels: Mapping[str, int], probabilities: bool
) -> Iterator[Answer]:
    """Answers for an upright scan, brought to the voxels of the scan whose axes lean, lowest slice first.

    Each voxel gets the answer of the nearest upright voxel, or background where there is none.
    source         grid of the upright scan, reoriented
    target         grid of the scan whose axes lean, reoriented
    labels         group -> number of its labels
    probabilities  whether the answers have probabilities
    """
    outside: dict[str, list[float]] = {f"map {group}": [0] for group in labels}
    if probabilities:
        outside |= {f"shares {group}": [1, *[0] * count] for group, count in labels.items()}
    for z, found in enumerate(slices_on_grid(map(_channels, answers), source, target, outside=outside)):
        shares = {group: found[f"shares {group}"] for group in labels} if probabilities else None
        yield Answer(z, {group: found[f"map {group}"][0] for group in labels}, shares)


def _channels(answer: Answer) -> dict[str, np.ndarray]:
    maps = {f"map {group}": drawn[None] for group, drawn in answer.maps.items()}
    return maps | {f"shares {group}": shares for group, shares in (answer.probabilities or {}).items()}


def collected(answers: Iterable[Answer], shape: Triple) -> dict[str, np.ndarray]:
    """{group: uint8 [Z, Y, X]}, put together from the answers for all slices of a reoriented scan of `shape`."""
    maps: dict[str, np.ndarray] = {}
    for answer in answers:
        for group, drawn in answer.maps.items():
            maps.setdefault(group, np.zeros(shape, dtype=np.uint8))[answer.z] = drawn
    return maps


def _network_slices(
    slabs: Iterable[Slab], size: tuple[int, int], count: int, *, descending: bool
) -> Iterator[NetworkSlice]:
    left = range(count)
    for start, logits in slabs:
        depth = next(iter(logits.values())).shape[1]
        expected = len(left) - depth if descending else left.start
        if start != expected:
            raise ValueError(f"slab at slice {start}, expected one at {expected}")
        left = left[: max(0, start)] if descending else left[depth:]
        for index in in_order(range(depth), descending):
            yield NetworkSlice({group: value[:, index] for group, value in logits.items()}, size)
    if left:
        raise ValueError(f"slabs end before slices {left.start} to {left.stop - 1}")


def _pasted(part: np.ndarray | None, frame: Frame, whole: np.ndarray) -> np.ndarray:
    """Write `part` into the box of `frame` in `whole` [..., Y, X]; returns `whole`."""
    if part is not None:
        _, rows, columns = frame.box.slices
        whole[..., rows, columns] = part
    return whole
