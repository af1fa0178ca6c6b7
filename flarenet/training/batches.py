"""Batches of patches. Batch number `index` of an epoch is a function of (seed, epoch, index) and of nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..data.cases import CaseFault
from ..data.packed import Packed, PackedPlaces
from ..errors import FlarenetError, StorageError, is_out_of_memory
from ..planning.plan import Augmentation
from ..preparation.prepare import neighbour_slices, normalise
from .augment import augment, transform_of

Labels = Mapping[tuple[str, int], float]
"""(group, label) -> a factor."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A prepared case as training sees it. Arrays stay in their files until used, so a sample is small to pickle.

    image      int16 [Z, Y, X], see preparation.prepare.normalise
    maps       {group: uint8 [Z, Y, X]}; a group without a map is background everywhere
    annotated  {group: bool [1 + n]} for the groups that the step trains, the labels whose truth the maps hold; see
               data.labels.annotated_flags
    places     {group: uint32 [n, 2]}, see data.places.places_of; without them patches lie anywhere
    key        identifies everything that image and maps were made from
    labelled   values of these groups that are annotated or pseudo-labelled; those that `annotated` adds, because
               they are never there, are not among them
    """

    name: str
    image: np.ndarray | Packed
    maps: Mapping[str, np.ndarray | Packed]
    annotated: dict[str, np.ndarray]
    places: Mapping[str, np.ndarray | PackedPlaces] = field(default_factory=dict)
    key: str = ""
    labelled: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Batch:
    """What one update of the weights sees.

    image      float32 [B, C, *S] in [0, 1]; in 2D the channels are a slice and its neighbours, in 3D there is one
    labels     {group: uint8 [B, *S]} for the groups that the step trains, HIDDEN where the loss ignores the voxel
    annotated  {group: bool [B, 1 + n]}, see Sample
    names      case name of each sample
    """

    image: Tensor
    labels: dict[str, Tensor]
    annotated: dict[str, Tensor]
    names: tuple[str, ...]

    def parts(self, size: int) -> list[Batch]:
        """The batch split into parts of `size` rows; the last part may have fewer."""
        return [
            Batch(
                image=self.image[rows],
                labels={group: labels[rows] for group, labels in self.labels.items()},
                annotated={group: flags[rows] for group, flags in self.annotated.items()},
                names=self.names[rows],
            )
            for rows in (slice(start, start + size) for start in range(0, len(self.names), size))
        ]


class Batches:
    """Draws cases, then a patch in each: anywhere, or around a voxel of one of its labels.

    A patch to be transformed is read with a margin. Outside the case there is air (0) and background. A case smaller
    than the patch lies at a random position in it.

    patch       (y, x): one slice per sample; (z, y, x): a block
    neighbours  slices on either side of a slice that become channels too; the outermost slice is repeated
    weights     sampling weight of each case; None: all equal
    foreground  share of the patches that are placed around a label (Augmentation.foreground)
    rare        weight of each label when choosing the one to place a patch around; labels not named weigh 1
    rows        rows of each batch that this process makes; None: all
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
        rare: Labels | None = None,
        rows: Sequence[int] | None = None,
    ) -> None:
        self.samples = tuple(samples)
        self.patch = tuple(patch)
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        self.foreground = foreground
        self.neighbours = neighbours
        self.rows = range(batch_size) if rows is None else rows
        self._weights = np.ones(len(self.samples)) if weights is None else np.asarray(weights, dtype=float)
        self._rare = dict(rare or {})
        self._patterns = _patterns(self.samples)

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of `epoch`.

        Raises CaseFault, naming the case, for an unexpected error, and StorageError where memory runs out.
        """
        drawn = self._drawn(epoch, index)
        chosen = [drawn[row] for row in self.rows]
        with _within_memory(chosen):
            cut = [self._cut(drawn[row], [self.seed, epoch, index, row]) for row in self.rows]
            groups = chosen[0].annotated
            annotated = {group: np.stack([sample.annotated[group] for sample in chosen]) for group in groups}
            return Batch(
                image=torch.from_numpy(np.stack([image for image, _ in cut])),
                labels={group: torch.from_numpy(np.stack([maps[group] for _, maps in cut])) for group in groups},
                annotated={group: torch.from_numpy(flags) for group, flags in annotated.items()},
                names=tuple(sample.name for sample in chosen),
            )

    def names(self, epoch: int, index: int) -> tuple[str, ...]:
        """The case name of each sample of a batch."""
        return tuple(sample.name for sample in self._drawn(epoch, index))

    def _drawn(self, epoch: int, index: int) -> list[Sample]:
        """The cases of a batch of B, by systematic sampling: each pattern occurs in it in proportion to its weight.

        The N cases are lined up pattern by pattern, shuffled within a pattern, each as wide as its weight. B equally
        spaced points on the line choose the cases. The ceil(N / B) batches of a round share the line and shift the
        points by equally spaced amounts, so in a round, too, each case occurs in proportion to its weight.
        """
        count, size = len(self.samples), self.batch_size
        shifts = -(-count // size)
        round_, place = divmod(index, shifts)
        draw = np.random.default_rng([self.seed, epoch, round_, 2])
        row = draw.permutation(count)
        row = row[np.argsort(self._patterns[row], kind="stable")]
        ends = np.cumsum(self._weights[row])
        shift = (draw.permutation(shifts)[place] + draw.random()) / shifts
        found = np.searchsorted(ends, (np.arange(size) + shift) / size * ends[-1], side="right")
        return [self.samples[row[min(at, count - 1)]] for at in found]

    def _cut(self, sample: Sample, seed: list[int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        with _naming(sample):
            draw = np.random.default_rng(seed)
            window = self._window(sample.image.shape, self._centre(sample, draw), draw)
            transform = None if self.augmentation is None else transform_of(self.augmentation, seed)
            reach = (0,) * len(self.patch) if transform is None else transform.reach(self.patch)
            inside, missing = grown_window(window, sample.image.shape, reach)
            image = np.stack([_pad(normalise(channel), missing) for channel in self._channels(sample.image, inside)])
            maps = {
                group: _pad(sample.maps[group][inside], missing)
                if group in sample.maps
                else np.zeros(image.shape[1:], dtype=np.uint8)
                for group in sample.annotated
            }
            if self.augmentation is None:
                return image, maps
            return augment(image, maps, self.augmentation, seed, patch=self.patch)

    def _channels(self, image: np.ndarray | Packed, window: tuple) -> list[np.ndarray]:
        if len(self.patch) == 3:
            return [image[window]]
        slices = neighbour_slices(window[0], image.shape[0], self.neighbours)
        around = (slice(slices[0], slices[-1] + 1), *window[1:])
        block = image[around]
        return [block[z - slices[0]] for z in slices]

    def _centre(self, sample: Sample, draw: np.random.Generator) -> tuple[int, ...] | None:
        """The voxel to place a patch around: of one label, in a random slice of those that hold it; None: anywhere."""
        if draw.random() >= self.foreground:
            return None
        labels = _voxels_of_labels(sample)
        if not labels:
            return None
        wanted = np.cumsum([self._rare.get(label, 1.0) for label in labels])
        voxels = list(labels.values())[np.searchsorted(wanted, draw.random() * wanted[-1], side="right")]
        z, y, x = np.unravel_index(voxels, sample.image.shape)
        row = int(draw.choice(np.flatnonzero(z == draw.choice(np.unique(z)))))
        return int(z[row]), int(y[row]), int(x[row])

    def _window(self, shape: tuple[int, ...], centre: tuple[int, ...] | None, draw: np.random.Generator) -> tuple:
        window: list[int | slice] = []
        flat = len(self.patch) == 2
        if flat:
            window.append(int(draw.integers(shape[0])) if centre is None else centre[0])
        for axis, size in zip(range(1 if flat else 0, 3), self.patch):
            room = shape[axis] - size
            start = int(draw.integers(min(0, room), max(0, room) + 1))  # below 0: the case is smaller than the patch
            if centre is not None and room > 0:  # around the centre, shifted by up to a quarter of the patch
                aside = int(draw.integers(-(size // 4), size // 4 + 1))
                start = min(max(0, centre[axis] - size // 2 + aside), room)
            window.append(slice(start, start + size))
        return tuple(window)


def case_weights(samples: Sequence[Sample], *, balance: float, rare: Labels) -> list[float]:
    """The sampling weight of each case: n ** balance, times the largest factor in `rare` of a label that it holds.

    n is the number of labels that are annotated or pseudo-labelled in the case, at least 1.
    """
    weights = [float(max(1, len(sample.labelled))) ** balance for sample in samples]
    if not rare:  # then no file of places is opened
        return weights
    times = [max((rare.get(label, 1.0) for label in _voxels_of_labels(sample)), default=1.0) for sample in samples]
    return [weight * factor for weight, factor in zip(weights, times)]


def rare_labels(samples: Sequence[Sample], share: float) -> dict[tuple[str, int], float]:
    """(group, label) -> how many times as often to draw the label, for labels that less than `share` of the cases hold.

    The factor is sqrt(share / held), `held` being the share of cases that hold the label: the repeat factor of Gupta,
    Dollar and Girshick (LVIS, CVPR 2019).
    """
    if not share:
        return {}
    held = Counter(label for sample in samples for label in _voxels_of_labels(sample))
    times = {label: math.sqrt(share * len(samples) / count) for label, count in held.items()}
    return {label: factor for label, factor in times.items() if factor > 1}


def _voxels_of_labels(sample: Sample) -> dict[tuple[str, int], np.ndarray]:
    """(group, label) -> its places, as indices into the flattened case, for annotated labels that the case holds."""
    found: dict[tuple[str, int], np.ndarray] = {}
    for group, stored in sample.places.items():
        places, values = np.asarray(stored), np.flatnonzero(sample.annotated[group][1:]) + 1
        first, last = (np.searchsorted(places[:, 0], values, side=side) for side in ("left", "right"))
        found |= {(group, int(value)): places[a:b, 1] for value, a, b in zip(values, first, last) if a < b}
    return found


def _patterns(samples: Sequence[Sample]) -> np.ndarray:
    """A number for each sample, the same for samples with the same labels annotated."""
    numbers: dict[bytes, int] = {}
    keys = [b"".join(flags.tobytes() for flags in sample.annotated.values()) for sample in samples]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


@contextmanager
def _naming(sample: Sample) -> Iterator[None]:
    """Raise errors other than flarenet's own as a CaseFault that names the case."""
    try:
        yield
    except Exception as error:
        if isinstance(error, FlarenetError) or is_out_of_memory(error):
            raise
        raise CaseFault(f"case {sample.name}: {type(error).__name__}: {error}") from error


@contextmanager
def _within_memory(samples: Sequence[Sample]) -> Iterator[None]:
    """Raise StorageError where memory runs out: no case is at fault, as each loader process holds whole batches."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise StorageError(
            f"a batch of {', '.join(sample.name for sample in samples)}",
            found=f"no memory for it: {type(error).__name__}: {error}",
            expected="memory for the batches that all loader processes make",
            remedy="use fewer --workers, or free memory; the same command resumes from here",
        ) from error


def grown_window(window: tuple, shape: Sequence[int], reach: Sequence[int]) -> tuple[tuple, list[tuple[int, int]]]:
    """Grow a window by `reach` voxels at both ends of each axis of the patch.

    Returns the part that lies inside a case of `shape` and, for each axis, how many voxels are missing (before, after).
    """
    flat = len(window) - len(reach)  # 1 for a slice: its index stays
    inside, missing = list(window[:flat]), []
    for axis, wanted, size in zip(window[flat:], reach, shape[flat:]):
        more = min(wanted, max(axis.start, size - axis.stop, 0))  # beyond that both ends lie outside the case
        start, stop = axis.start - more, axis.stop + more
        inside.append(slice(max(0, start), min(stop, size)))
        missing.append((max(0, -start), max(0, stop - size)))
    return tuple(inside), missing


def _pad(array: np.ndarray, missing: Sequence[tuple[int, int]]) -> np.ndarray:
    """Pad each axis by the `missing` (before, after) voxels with 0: air in an image, background in a map."""
    return np.pad(array, missing) if any(map(any, missing)) else np.ascontiguousarray(array)
