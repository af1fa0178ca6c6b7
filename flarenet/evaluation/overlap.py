"""Overlap of two masks."""

from __future__ import annotations

import numpy as np


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """The Dice coefficient 2|A and B| / (|A| + |B|) of two boolean masks of the same shape.

    Both empty: 1. Exactly one empty: 0.
    """
    voxels = np.count_nonzero(truth) + np.count_nonzero(prediction)
    if voxels == 0:
        return 1.0
    return 2 * np.count_nonzero(truth & prediction) / voxels
