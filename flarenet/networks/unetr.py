"""UNETR (Hatamizadeh et al., arXiv 2103.10504) and Swin UNETR (arXiv 2201.01266) with a 1x1 head per group.

The layers and their order are those of MONAI's UNETR and SwinUNETR, in three parts: `encoder`, the transformer;
`decoder`, all convolutions; and `heads`. So the encoder can come from a masked autoencoder, and stay frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..planning.cost.network_numbers import TOKEN_VOXELS, UNETR_NUMBERS, Outputs, Patch
from ..planning.plan import NetworkSpec
from .blocks import head, module_name
from .encoders import swin_transformer, vision_transformer
from .layers import own_convolutions


class _Decoder(nn.Module):
    """`skips` process the encoder's features of each resolution, finest first; `ups` rise from the coarsest."""

    def __init__(self, skips: Sequence[nn.Module], coarsest: nn.Module, ups: Sequence[nn.Module]) -> None:
        super().__init__()
        self.skips, self.coarsest, self.ups = nn.ModuleList(skips), coarsest, nn.ModuleList(ups)

    def forward(self, sources: Sequence[Tensor], deep: Tensor) -> Tensor:
        prepared = [skip(source) for skip, source in zip(self.skips, sources)]
        deep = self.coarsest(deep)
        for up, skip in zip(self.ups, reversed(prepared)):
            deep = up(deep, skip)
        return deep


class _Unetr(nn.Module):
    """[B, C, *patch] -> {group: logits [B, 1 + n, *patch]}; subclasses define `features`."""

    def __init__(self, encoder: nn.Module, decoder: _Decoder, *, width: int, outputs: Outputs) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        own_convolutions(decoder)
        self.heads = nn.ModuleDict({module_name(group): head(3, width, n) for group, n in outputs.items()})
        self.groups = tuple(outputs)

    def features(self, x: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        """(the encoder's features, finest first, without the scan itself; its coarsest features)."""
        raise NotImplementedError

    def forward(self, x: Tensor, groups: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The logits of `groups`; None: of every group."""
        sources, deep = self.features(x)
        fine = self.decoder((x, *sources), deep)
        return {group: self.heads[module_name(group)](fine) for group in (self.groups if groups is None else groups)}


class UNETR(_Unetr):
    """UNETR on patches of a fixed size.

    spec.features  hidden, mlp, layers, heads of the transformer, and the width of the decoder at full resolution
    patch          (z, y, x) size of the input, multiples of 16
    """

    def __init__(self, spec: NetworkSpec, outputs: Outputs, patch: Patch) -> None:
        numbers = dict(zip(UNETR_NUMBERS, spec.features))
        hidden, width = numbers["hidden"], numbers.pop("width")
        encoder = vision_transformer(spec.input_channels, **numbers, patch=patch)
        skips = [_block(spec.input_channels, width), *(_raised(hidden, width * 2**k, times=3 - k) for k in (1, 2, 3))]
        decoder = _Decoder(skips, nn.Identity(), _ascent((hidden, 8 * width, 4 * width, 2 * width, width)))
        super().__init__(encoder, decoder, width=width, outputs=outputs)
        self.grid = tuple(n // TOKEN_VOXELS for n in patch)

    def features(self, x: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        last, after_layers = self.encoder(x)
        taps = [after_layers[len(after_layers) * quarter // 4] for quarter in (1, 2, 3)]
        return [self._image(tokens) for tokens in taps], self._image(last)

    def _image(self, tokens: Tensor) -> Tensor:
        """[B, T, hidden] -> [B, hidden, *grid]"""
        return tokens.transpose(1, 2).reshape(len(tokens), -1, *self.grid)


class SwinUNETR(_Unetr):
    """Swin UNETR.

    spec.features  (width,), a multiple of 12
    The sizes of the input are multiples of 32, and one of them is at least 64.
    """

    def __init__(self, spec: NetworkSpec, outputs: Outputs, patch: Patch) -> None:
        (width,) = spec.features
        encoder = swin_transformer(spec.input_channels, width=width)
        skips = [_block(spec.input_channels, width), *(_block(k * width, k * width) for k in (1, 2, 4))]
        ups = _ascent((16 * width, 8 * width, 4 * width, 2 * width, width, width))
        decoder = _Decoder([*skips, nn.Identity()], _block(16 * width, 16 * width), ups)
        super().__init__(encoder, decoder, width=width, outputs=outputs)

    def features(self, x: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        *sources, coarsest = self.encoder(x)
        return sources, coarsest


_CONVS: dict[str, Any] = {"spatial_dims": 3, "kernel_size": 3, "norm_name": "instance", "res_block": True}


def _block(channels_in: int, channels_out: int) -> nn.Module:
    from monai.networks.blocks.unetr_block import UnetrBasicBlock

    return UnetrBasicBlock(in_channels=channels_in, out_channels=channels_out, stride=1, **_CONVS)


def _raised(channels_in: int, channels_out: int, *, times: int) -> nn.Module:
    """Upsampling of tokens to 2^(1 + times) times their resolution."""
    from monai.networks.blocks.unetr_block import UnetrPrUpBlock

    return UnetrPrUpBlock(
        in_channels=channels_in,
        out_channels=channels_out,
        num_layer=times,
        stride=1,
        upsample_kernel_size=2,
        conv_block=True,
        **_CONVS,
    )


def _ascent(widths: Sequence[int]) -> list[nn.Module]:
    from monai.networks.blocks.unetr_block import UnetrUpBlock

    return [
        UnetrUpBlock(in_channels=deep, out_channels=fine, upsample_kernel_size=2, **_CONVS)
        for deep, fine in zip(widths, widths[1:])
    ]
