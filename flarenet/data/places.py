"""Where the labels of a group map lie: a bounded sample of voxels, so that training need not look through the maps."""

from __future__ import annotations

import numpy as np

from .labels import HIDDEN

PER_SLICE = 16
"""Voxels kept of one label in one slice. A patch is moved about such a voxel at random anyway."""


def places_of(group_map: np.ndarray) -> tuple[np.ndarray, dict[int, int]]:
    """(places, voxels) of a group map, uint8 [Z, Y, X] in C order.

    places  uint32 [n, 2]: label and index into the flattened map, ascending; of each label and slice, PER_SLICE voxels
            spread evenly by lot over all it has there, or all where there are no more. HIDDEN and background have none.
    voxels  label -> how many voxels it has in the whole map
    """
    flat = group_map.reshape(-1)
    where = np.flatnonzero(flat.view(bool))
    value = flat[where]
    order = np.argsort(value, kind="stable")
    where, value = where[order], value[order]
    counts = np.bincount(value, minlength=HIDDEN + 1)[1:HIDDEN]
    voxels = {int(index) + 1: int(counts[index]) for index in np.flatnonzero(counts)}
    where, value = where[: counts.sum()], value[: counts.sum()]
    chosen = _spread(value.astype(np.int64) * len(group_map) + where // max(1, group_map[0].size))
    return np.stack([value[chosen], where[chosen]], axis=1).astype(np.uint32), voxels


def _spread(run: np.ndarray) -> np.ndarray:
    """Up to PER_SLICE indices out of each run of equal numbers in `run`, ascending, the same for the same runs."""
    starts = np.flatnonzero(np.diff(run, prepend=-1))
    lengths = np.diff(starts, append=len(run))[:, None]
    parts = (np.arange(PER_SLICE + 1) * np.maximum(1, lengths / PER_SLICE)).astype(np.int64)  # of at least one voxel
    lot = np.random.default_rng(0).random((len(starts), PER_SLICE))
    steps = parts[:, :-1] + (lot * np.diff(parts)).astype(np.int64)
    return (starts[:, None] + steps)[steps < lengths]
