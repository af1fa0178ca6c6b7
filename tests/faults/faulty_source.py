"""Batches of cases one of which has a fault; without pytest, for loader processes import this too."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from flarenet.data.packed import Packed
from flarenet.training.batches import Batches, Sample

SHAPE = (4, 16, 16)


@dataclass(frozen=True)
class Image:
    """Zeros, or what `fault` says."""

    fault: str = ""
    shape: tuple = SHAPE

    def __getitem__(self, window):
        if self.fault == "unpicklable":

            class Local(Exception):
                def __reduce__(self):
                    raise TypeError("no")

            raise Local("odd header")
        if self.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "sleeps":
            time.sleep(600)
        if self.fault == "numpy":
            raise MemoryError("Unable to allocate 4.00 GiB for an array")
        if self.fault == "torch":
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 GB")
        return np.zeros(SHAPE, dtype=np.int16)[window]


def source(fault):
    """Five cases in a shuffled order, the last with the fault."""
    images = [Image()] * 4 + [fault if isinstance(fault, Packed) else Image(fault)]
    flags = {"organ": np.ones(2, dtype=bool)}
    samples = [Sample(f"case_{i}", image, {}, flags) for i, image in enumerate(images)]
    return Batches(samples, (8, 8), batch_size=1, seed=0, augmentation=None)
