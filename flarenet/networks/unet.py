"""The U-Net of MONAI's BasicUNet (Falk et al., Nature Methods 16, 2019) with one 1x1 head per group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from .blocks import Encoder, Logits, add_ascent, answer, ascend, coarse_heads, head, module_name


class UNet(Encoder):
    """[B, C, *S] -> {group: logits [B, 1 + n, *S]}, in 2 or 3 dimensions.

    features  channels at N resolutions, finest first, then of the last decoder stage
    outputs   group -> number of its labels, background not counted
    blocks    residual blocks at each resolution of the encoder; empty: two convolutions
    deep      coarser scales that it also answers in train mode, as a tuple of logits, finest first

    S may have any size of at least 2^N; multiples of 2^(N-1) need no padding inside.
    """

    def __init__(
        self,
        dimensions: int,
        channels_in: int,
        *,
        features: Sequence[int],
        outputs: Mapping[str, int],
        blocks: Sequence[int] = (),
        deep: int = 0,
    ) -> None:
        super().__init__(dimensions, channels_in, channels=features[:-1], blocks=blocks)
        self.levels = range(self.depth - 1, 0, -1)
        add_ascent(self, dimensions, features=features, levels=self.levels)
        named = {module_name(group): n for group, n in outputs.items()}
        self.heads = nn.ModuleDict({name: head(dimensions, features[-1], n) for name, n in named.items()})
        coarse = {name: coarse_heads(dimensions, features=features, outputs=n, count=deep) for name, n in named.items()}
        self.coarse_heads = nn.ModuleDict(coarse)
        self.groups = tuple(outputs)

    def forward(self, x: Tensor, groups: Sequence[str] | None = None) -> dict[str, Logits]:
        """The logits of `groups`, of every group where None."""
        *skips, deepest = self.encode(x)
        found = ascend(self, deepest, skips=skips, levels=self.levels)
        wanted = {group: module_name(group) for group in (self.groups if groups is None else groups)}
        return {
            group: answer(self.heads[name], cast(nn.ModuleList, self.coarse_heads[name]), found, deep=self.training)
            for group, name in wanted.items()
        }
