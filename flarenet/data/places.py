"""Where the labels of a group map lie: a bounded sample of voxels, so that training need not search the maps."""

from __future__ import annotations

import numpy as np

from .labels import HIDDEN

PER_SLICE = 16
"""How many voxels of one label are kept in one slice. Patches are placed at random around such a voxel anyway."""


def places_of(group_map: np.ndarray) -> tuple[np.ndarray, dict[int, int]]:
    """(places, voxels) of a group map, uint8 [Z, Y, X] in C order.

    places  uint32 [n, 2]: label and index into the flattened map, ascending. For each label and slice there are
            PER_SLICE voxels, drawn at random but evenly spread over those of the slice, or all where there are no
            more. HIDDEN and background have none
    voxels  label -> how many voxels it has in the whole map
    """
    lot, voxels = np.random.default_rng(0), np.zeros(HIDDEN + 1, dtype=np.int64)
    places = [np.empty((0, 2), dtype=np.uint32)]
    for z, plane in enumerate(group_map.reshape(len(group_map), -1)):  # slice by slice, so that all stays in the cache
        where = np.flatnonzero(plane.view(bool))
        value = plane[where]
        counts = np.bincount(value, minlength=HIDDEN + 1)
        where = where[np.argsort(value, kind="stable")]  # label by label
        labels = np.flatnonzero(counts[:HIDDEN])
        row, chosen = _spread(counts[labels], lot)
        start = np.cumsum(counts) - counts
        index = where[start[labels][row] + chosen] + z * plane.size
        places.append(np.stack([labels[row], index], axis=1).astype(np.uint32))
        voxels += counts
    together = np.concatenate(places)
    together = together[np.argsort(together[:, 0], kind="stable")]
    return together, {int(label): int(voxels[label]) for label in np.flatnonzero(voxels[:HIDDEN])}


def _spread(counts: np.ndarray, lot: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """For each of `counts` up to PER_SLICE different numbers below it, ascending: (index of the count, number)."""
    parts = (np.arange(PER_SLICE + 1) * np.maximum(1, counts / PER_SLICE)[:, None]).astype(np.int64)
    numbers = parts[:, :-1] + (lot.random((len(counts), PER_SLICE)) * np.diff(parts)).astype(np.int64)
    there = numbers < counts[:, None]
    return np.nonzero(there)[0], numbers[there]
