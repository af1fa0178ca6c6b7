"""The U-Net of MONAI's BasicUNet (Falk et al., Nature Methods 16, 2019) with one 1x1 head per group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from .blocks import Encoder, UpCat, head, module_name


class UNet(Encoder):
    """[B, C, *S] -> {group: logits [B, 1 + n, *S]}, in 2 or 3 dimensions.

    features  channels at the five resolutions, finest first, then of the last decoder stage
    outputs   group -> number of its labels, background not counted

    S may have any size of at least 32; multiples of 16 need no padding inside.
    """

    def __init__(
        self, dimensions: int, channels_in: int, *, features: Sequence[int], outputs: Mapping[str, int]
    ) -> None:
        f0, f1, f2, f3, f4, f5 = features
        super().__init__(dimensions, channels_in, (f0, f1, f2, f3, f4))
        self.upcat_4 = UpCat(dimensions, f4, f3, f3)
        self.upcat_3 = UpCat(dimensions, f3, f2, f2)
        self.upcat_2 = UpCat(dimensions, f2, f1, f1)
        self.upcat_1 = UpCat(dimensions, f1, f0, f5, halves=False)
        self.heads = nn.ModuleDict({module_name(group): head(dimensions, f5, n) for group, n in outputs.items()})
        self.groups = tuple(outputs)

    def forward(self, x: Tensor, groups: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The logits of `groups`, of every group where None."""
        x0, x1, x2, x3, x4 = self.encode(x)
        u3 = self.upcat_4(x4, x3)
        u2 = self.upcat_3(u3, x2)
        u1 = self.upcat_2(u2, x1)
        u0 = self.upcat_1(u1, x0)
        return {group: self.heads[module_name(group)](u0) for group in (self.groups if groups is None else groups)}
