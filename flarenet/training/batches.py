"""Batches of patches. Batch number `index` of an epoch is a function of (seed, epoch, index) and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..data.packed import Packed
from ..planning.plan import Augmentation
from ..preparation.prepare import beside, normalise
from .augment import augment


@dataclass(frozen=True, eq=False)
class Sample:
    """A prepared case as training sees it.

    image  int16 [Z, Y, X], see preparation.normalise    maps  {group: uint8 [Z, Y, X]}
    asked  {group: bool [1 + n]}, as labels.asked gives it
    places {group: uint32 [n, 2]}, as data.places.places_of gives them; without them patches lie anywhere
    """

    name: str
    image: np.ndarray | Packed
    maps: Mapping[str, np.ndarray | Packed]
    asked: dict[str, np.ndarray]
    places: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Batch:
    """What one training step sees.

    image   float32 [B, C, *S] in [0, 1]; C counts a slice and its neighbours
    labels  {group: uint8 [B, *S]}, HIDDEN where no question is asked
    asked   {group: bool [B, 1 + n]}
    names   the case of each sample
    """

    image: Tensor
    labels: dict[str, Tensor]
    asked: dict[str, Tensor]
    names: tuple[str, ...]


class Batches:
    """Draws a case, then a patch in it: at random, or about a voxel of a label drawn evenly among those there.

    patch       (y, x): one slice per sample; (z, y, x): a block
    neighbours  slices on either side of a slice that come as channels beside it; the outermost slice repeats
    weights     how often each case is drawn, in proportion; all alike where None
    foreground  share of the patches that are placed about a label (Augmentation.foreground)
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        patch: tuple[int, ...],
        *,
        batch_size: int,
        seed: int,
        augmentation: Augmentation | None,
        foreground: float = 0.0,
        neighbours: int = 0,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.samples = tuple(samples)
        self.patch = tuple(patch)
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        self.foreground = foreground
        self.neighbours = neighbours
        self._shares = np.cumsum(np.ones(len(self.samples)) if weights is None else weights)

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of `epoch`. Cases come round as often as they weigh, in an order shuffled anew each round."""
        cut = [self._cut(epoch, index, row) for row in range(self.batch_size)]
        chosen = [sample for sample, _, _ in cut]
        return Batch(
            image=torch.from_numpy(np.stack([image for _, image, _ in cut])),
            labels={g: torch.from_numpy(np.stack([maps[g] for _, _, maps in cut])) for g in chosen[0].maps},
            asked={g: torch.from_numpy(np.stack([s.asked[g] for s in chosen])) for g in chosen[0].asked},
            names=tuple(sample.name for sample in chosen),
        )

    def _cut(self, epoch: int, index: int, row: int) -> tuple[Sample, np.ndarray, dict[str, np.ndarray]]:
        number = self._case(epoch, index * self.batch_size + row)
        sample, draw = self.samples[number], np.random.default_rng([self.seed, epoch, index, row])
        window = self._window(sample.image.shape, self._centre(sample, draw), draw)
        image = np.stack([_pad(normalise(channel), self.patch) for channel in self._channels(sample.image, window)])
        maps = {group: _pad(array[window], self.patch) for group, array in sample.maps.items()}
        if self.augmentation is not None:
            image, maps = augment(image, maps, self.augmentation, [self.seed, epoch, index, row])
        return sample, image, maps

    def _case(self, epoch: int, turn: int) -> int:
        """The case of one turn: systematic sampling, so that a round of N draws holds each as often as it weighs.

        The points (u + k) / N, k = 0 .. N - 1, are looked up among the cumulative weights; where all weigh alike,
        every case comes exactly once a round.
        """
        count = len(self.samples)
        round_, place = divmod(turn, count)
        draw = np.random.default_rng([self.seed, epoch, round_, 2])
        point = (draw.permutation(count)[place] + draw.random()) / count
        return min(int(np.searchsorted(self._shares, point * self._shares[-1], side="right")), count - 1)

    def _channels(self, image: np.ndarray | Packed, window: tuple) -> list[np.ndarray]:
        if len(self.patch) == 3:
            return [image[window]]
        slices = beside(window[0], image.shape[0], self.neighbours)
        around = (slice(slices[0], slices[-1] + 1), *window[1:])
        block = image[around]
        return [block[z - slices[0]] for z in slices]

    def _centre(self, sample: Sample, draw: np.random.Generator) -> tuple[int, ...] | None:
        """A voxel of a label of the case, its slice drawn evenly among those there; None for a patch anywhere."""
        if draw.random() >= self.foreground:
            return None
        labels = _voxels_of_labels(sample)
        if not labels:
            return None
        voxels = labels[draw.integers(len(labels))]
        z, y, x = np.unravel_index(voxels, sample.image.shape)
        row = int(draw.choice(np.flatnonzero(z == draw.choice(np.unique(z)))))
        return int(z[row]), int(y[row]), int(x[row])

    def _window(self, shape: tuple[int, ...], centre: tuple[int, ...] | None, draw: np.random.Generator) -> tuple:
        window: list[int | slice] = []
        flat = len(self.patch) == 2
        if flat:
            window.append(int(draw.integers(shape[0])) if centre is None else centre[0])
        for axis, size in zip(range(1 if flat else 0, 3), self.patch):
            room = max(0, shape[axis] - size)
            start = int(draw.integers(room + 1))
            if centre is not None:  # about the centre, off it by up to a quarter of the patch
                aside = int(draw.integers(-(size // 4), size // 4 + 1))
                start = min(max(0, centre[axis] - size // 2 + aside), room)
            window.append(slice(start, start + size))
        return tuple(window)


def case_weights(samples: Sequence[Sample], groups: Sequence[str], balance: float) -> list[float]:
    """The number of labels of `groups` that each case answers, at least 1, to the power of `balance`."""
    answers = [max(1, sum(int(sample.asked[group][1:].sum()) for group in groups)) for sample in samples]
    return [float(count) ** balance for count in answers]


def _voxels_of_labels(sample: Sample) -> list[np.ndarray]:
    """The places, as indices into the flattened case, of every label that the case asks for and holds."""
    found = []
    for group, places in sample.places.items():
        values = np.flatnonzero(sample.asked[group][1:]) + 1
        first, last = (np.searchsorted(places[:, 0], values, side=side) for side in ("left", "right"))
        found += [places[a:b, 1] for a, b in zip(first, last) if a < b]
    return found


def _pad(array: np.ndarray, patch: tuple[int, ...]) -> np.ndarray:
    """Fill up to `patch` at the far end of each axis with 0: air in an image, background in a map."""
    missing = [(0, size - n) for n, size in zip(array.shape, patch)]
    return np.pad(array, missing) if any(after for _, after in missing) else np.ascontiguousarray(array)
