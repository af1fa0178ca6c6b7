"""The U-Net of MONAI's BasicUNet (Falk et al., Nature Methods 16, 2019) with one 1x1 head per group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from ..planning.cost.network_numbers import Outputs, Patch
from ..planning.plan import NetworkSpec
from .blocks import Encoder, Logits, add_ascent, answer, ascend, coarse_heads, head, module_name


class UNet(Encoder):
    """[B, C, *S] -> {group: logits [B, 1 + n, *S]}, in 2 or 3 dimensions.

    With N resolutions, S may be any size from 2^N on, whatever `patch` says. Multiples of 2^(N-1) need no padding
    inside.
    """

    def __init__(self, spec: NetworkSpec, outputs: Outputs, patch: Patch) -> None:
        super().__init__(spec)
        self.levels = range(self.depth - 1, 0, -1)
        add_ascent(self, spec, levels=self.levels)
        named = {module_name(group): n for group, n in outputs.items()}
        self.heads = nn.ModuleDict({name: head(spec.dimensions, spec.features[-1], n) for name, n in named.items()})
        self.coarse_heads = nn.ModuleDict({name: coarse_heads(spec, n) for name, n in named.items()})
        self.groups = tuple(outputs)

    def forward(self, x: Tensor, groups: Sequence[str] | None = None) -> dict[str, Logits]:
        """The logits of `groups`; None: of every group."""
        *skips, deepest = self.encode(x)
        found = ascend(self, deepest, skips=skips, levels=self.levels)
        wanted = {group: module_name(group) for group in (self.groups if groups is None else groups)}
        return {
            group: answer(self.heads[name], cast(nn.ModuleList, self.coarse_heads[name]), found, deep=self.training)
            for group, name in wanted.items()
        }
