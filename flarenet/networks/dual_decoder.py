"""The U-Net whose groups share the encoder and the coarse half of the decoder, and part at the fine half.

With two groups it is the paper's dual-decoder 2D U-Net. A group's own part is the submodule
`decoders.GROUP`; freezing everything else trains one group and leaves the others bit for bit as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from .blocks import Encoder, UpCat, head, module_name


class Decoder(nn.Module):
    """The part a group has for itself: features at S/4 and skips at S/2 and S -> logits [B, 1 + n, *S]."""

    def __init__(self, dimensions: int, *, features: Sequence[int], outputs: int) -> None:
        super().__init__()
        f0, f1, f2, _, _, f5 = features
        self.upcat_2 = UpCat(dimensions, f2, f1, f1)
        self.upcat_1 = UpCat(dimensions, f1, f0, f5, halves=False)
        self.head = head(dimensions, f5, outputs)

    def forward(self, deep: Tensor, skip_1: Tensor, skip_0: Tensor) -> Tensor:
        return self.head(self.upcat_1(self.upcat_2(deep, skip_1), skip_0))


class DualDecoderUNet(Encoder):
    """[B, C, *S] -> {group: logits [B, 1 + n, *S]}, in 2 or 3 dimensions, for any number of groups.

    features  channels at the five resolutions, finest first, then of the last decoder stage
    outputs   group -> number of its labels, background not counted

    S may have any size of at least 32; multiples of 16 need no padding inside.
    """

    def __init__(
        self, dimensions: int, channels_in: int, *, features: Sequence[int], outputs: Mapping[str, int]
    ) -> None:
        f0, f1, f2, f3, f4, _ = features
        super().__init__(dimensions, channels_in, (f0, f1, f2, f3, f4))
        self.upcat_4 = UpCat(dimensions, f4, f3, f3)
        self.upcat_3 = UpCat(dimensions, f3, f2, f2)
        self.decoders = nn.ModuleDict(
            {module_name(group): Decoder(dimensions, features=features, outputs=n) for group, n in outputs.items()}
        )
        self.groups = tuple(outputs)

    def forward(self, x: Tensor, groups: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The logits of `groups`, of every group where None; the decoders of the others do not run."""
        x0, x1, x2, x3, x4 = self.encode(x)
        u2 = self.upcat_3(self.upcat_4(x4, x3), x2)
        wanted = self.groups if groups is None else groups
        return {group: self.decoders[module_name(group)](u2, x1, x0) for group in wanted}
