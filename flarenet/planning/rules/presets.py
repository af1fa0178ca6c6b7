"""The networks and the batches that they train on: the size gives the width, the patch the depth, memory the batch.

"s" has the widths of the paper's networks in 3D and those of MONAI's BasicUNet in 2D. "m" and "l" are wider and have
residual encoders, with the numbers of blocks of nnU-Net's residual presets (Isensee et al., arXiv 2404.09556); like
those they are supervised at every stage of the decoder but the coarsest. The transformers have one size, that of their
papers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..budget import Budget, Network3D, Size
from ..cost.memory import training_gb
from ..cost.network_numbers import FEWEST_RESOLUTIONS, MOST_RESOLUTIONS
from ..plan import NetworkSpec

PAPER_FEATURES = {2: (16, 32, 64, 128, 256, 128), 3: (16, 16, 32, 64, 128, 16)}
"""The paper's networks, by dimensions, with 2.388 M and 1.439 M parameters: five resolutions and the last decoder stage
whatever the patch."""

SMALL_WIDTHS = {2: (32, 32, 64, 128, 256, 256, 256), 3: (16, 16, 32, 64, 128, 128, 128)}
SMALL_LAST = {2: 32, 3: 16}
"""Widths of size "s" and channels of its last decoder stage, by dimensions. In 2D the paper's last stage has 128
channels at full resolution, in every decoder: nine tenths of its network's multiply-adds. With 32, as in MONAI's
BasicUNet, a batch takes a quarter of the time; so had the networks of most results on real scans (docs/results.md)."""

FIRST_WIDTH: dict[Size, int] = {"m": 32, "l": 48}
MOST_CHANNELS = {2: 512, 3: 320}
BLOCKS = (1, 3, 4, 6, 6, 6, 6)

LONGEST_COARSE, SHORTEST_COARSE = 15, 4
"""The voxels of the coarsest resolution: at most 15 along its longest axis, so that one voxel sees much of the patch
(the paper's networks have 14 and 8), and at least 4 along its shortest, so that norms have something to work with."""

VIT_BASE = (768, 3072, 12, 12)
VIT_DECODER = (384, 1536, 8, 12)
"""Hidden, mlp, layers, heads of ViT-B, as in the paper's reference [3], and of He et al.'s lighter decoder for it."""

UNETR_WIDTH, SWIN_WIDTH = 16, 48
"""Channels at full resolution of UNETR (arXiv 2103.10504) and of the pre-trained Swin UNETR (the paper's reference
[26])."""

TRANSFORMERS: dict[Network3D, tuple[int, ...]] = {"unetr": (*VIT_BASE, UNETR_WIDTH), "swin_unetr": (SWIN_WIDTH,)}

MOST_SAMPLES = {2: 128, 3: 4}
"""The largest batches, by dimensions: the paper's. Larger ones would need another learning rate."""

FEWEST_SAMPLES = {2: 16, 3: 2}
"""The smallest batches, by dimensions. A slice holds few labels, so a Dice over fewer slices is mostly noise: with 8,
an adrenal gland was lost for good in two hours of training (docs/results.md). A block holds most labels."""

FEWEST_BATCHES = 128
"""The fewest batches in which all slices of a set are shown once. A small set needs many updates of the weights more
than large batches."""


def resolutions(patch: Sequence[int]) -> int:
    """How many resolutions a network on `patch` has, FEWEST_RESOLUTIONS to MOST_RESOLUTIONS: it is halved until its
    longest axis has at most LONGEST_COARSE voxels, while every axis is even and keeps SHORTEST_COARSE."""
    size, count = tuple(patch), 1
    while (
        count < MOST_RESOLUTIONS
        and max(size) > LONGEST_COARSE
        and min(size) >= 2 * SHORTEST_COARSE
        and not any(n % 2 for n in size)
    ):
        size, count = tuple(n // 2 for n in size), count + 1
    return max(count, FEWEST_RESOLUTIONS)


def network(size: Size, patch: Sequence[int], groups: Sequence[str], *, channels: int = 1) -> NetworkSpec:
    """The U-Net of a size for a patch: in 2D with a decoder for each group, in 3D with a head for each."""
    dimensions, count = len(patch), resolutions(patch)
    form = "dual_decoder" if dimensions == 2 else "unet"
    if size != "s":
        last = FIRST_WIDTH[size]
        features = (*(min(last * 2**level, MOST_CHANNELS[dimensions]) for level in range(count)), last)
    else:
        features = (*SMALL_WIDTHS[dimensions][:count], SMALL_LAST[dimensions])
    return NetworkSpec(
        kind=form if size == "s" else f"residual_{form}",
        dimensions=2 if dimensions == 2 else 3,
        input_channels=channels,
        features=features,
        blocks=() if size == "s" else BLOCKS[:count],
        groups=tuple(groups),
        deep_supervision=0 if size == "s" else max(0, count - 3),
    )


def paper_network(dimensions: int, groups: Sequence[str], *, channels: int = 1) -> NetworkSpec:
    """The paper's U-Net, the same for any patch."""
    return NetworkSpec(
        kind="dual_decoder" if dimensions == 2 else "unet",
        dimensions=2 if dimensions == 2 else 3,
        input_channels=channels,
        features=PAPER_FEATURES[dimensions],
        groups=tuple(groups),
    )


def network_3d(budget: Budget, patch: Sequence[int], groups: Sequence[str]) -> NetworkSpec:
    """The 3D network that the budget names."""
    if budget.network == "unet":
        return network(budget.size, patch, groups)
    features = TRANSFORMERS[budget.network]
    return NetworkSpec(kind=budget.network, dimensions=3, features=features, groups=tuple(groups))


def masked_autoencoder(budget: Budget) -> NetworkSpec:
    """The network that trains the encoder of the budget's transformer, or of UNETR where the budget names none."""
    if budget.network == "swin_unetr":
        return NetworkSpec(kind="mae_swin", dimensions=3, features=(SWIN_WIDTH,), groups=())
    return NetworkSpec(kind="mae_vit", dimensions=3, features=(*VIT_BASE, *VIT_DECODER), groups=())


def batch_size(
    spec: NetworkSpec,
    outputs: Mapping[str, int],
    patch: tuple[int, ...],
    *,
    budget: Budget,
    slices: int | None = None,
    fewest: int | None = None,
) -> tuple[int, str]:
    """(samples, the reason): the largest power of two up to the paper's batch that the card holds, but not below
    `fewest`.

    slices  how many slices there are to train on: no more samples than leave FEWEST_BATCHES in an epoch; None: that
            does not matter, as for blocks
    fewest  None: FEWEST_SAMPLES
    """
    fewest = fewest or FEWEST_SAMPLES[spec.dimensions]
    samples = most = MOST_SAMPLES[spec.dimensions]

    def need_gb() -> float:
        return training_gb(spec, outputs, patch=patch, batch_size=samples, precision="auto")

    if slices is None:
        slices = FEWEST_BATCHES * most
    while samples > fewest and slices < FEWEST_BATCHES * samples:
        samples //= 2
    enough = samples
    while samples > fewest and need_gb() > budget.gpu_memory_gb:
        samples //= 2
    why = f"{samples} samples need about {need_gb():.1f} GB of the card's {budget.gpu_memory_gb:g}"
    if samples == most:
        return samples, f"{why}, and the paper trains on no more"
    if need_gb() > budget.gpu_memory_gb:
        return samples, f"{why}, but no smaller batch is planned"
    if samples < enough:
        return samples, f"{why}; twice as many do not fit"
    return samples, f"{why}; more would show all {slices} slices in fewer than {FEWEST_BATCHES} updates"


def network_why(spec: NetworkSpec, patch: Sequence[int]) -> str:
    """The reason for the numbers of `network`."""
    coarse = " x ".join(str(n // 2 ** (len(spec.features) - 2)) for n in patch)
    width = f"{spec.features[0]} channels, doubled at each resolution"
    if not spec.blocks:
        width = "the widths of MONAI's BasicUNet" if spec.dimensions == 2 else "the paper's widths"
    return (
        f"{width}; {len(spec.features) - 1} resolutions, so that the coarsest has {coarse} voxels of a patch: no more "
        f"than {LONGEST_COARSE} along an axis where the patch halves evenly, no fewer than {SHORTEST_COARSE}"
    )
