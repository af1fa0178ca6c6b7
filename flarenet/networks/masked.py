"""Training encoders on unlabelled scans: three quarters of a patch's cubes are hidden, and the network fills them in.

Masked image modelling of raw voxels in three dimensions, as in Chen et al. (arXiv 2204.11716), which the paper follows:
He et al.'s autoencoder (arXiv 2111.06377) for the vision transformer, SimMIM (Xie et al., arXiv 2111.09886) for Swin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..planning.cost.network_numbers import MAE_NUMBERS, SWIN_MULTIPLE, TOKEN_VOXELS, Outputs, Patch
from ..planning.plan import NetworkSpec
from ..silence import silent
from .encoders import swin_transformer, vision_transformer

MASKED = 0.75
"""Share of the cubes that are hidden from the encoder."""


class MaskedAutoencoder(nn.Module):
    """What both networks have in common: `encoder`, `groups` (none) and the loss.

    forward maps x [B, C, *patch] in [0, 1] to (predicted cubes [B, T, 16^3 * C], in the order of `cubes`; the mask
    [B, T], True where hidden). The mask is drawn from torch's global CPU generator.
    """

    encoder: Any  # MONAI's, whose parts are called one by one
    groups: tuple[str, ...] = ()

    def reconstruction_loss(self, x: Tensor) -> Tensor:
        """Mean squared error on the voxels of the hidden cubes; x [B, C, *patch] in [0, 1] -> a number >= 0."""
        predicted, hidden = self(x)
        return (predicted.float() - cubes(x).float())[hidden].square().mean()


class MaskedViT(MaskedAutoencoder):
    """The encoder sees a quarter of the cubes; from its tokens a lighter transformer predicts the others.

    spec.features  eight numbers: hidden, mlp, layers, heads of the encoder, then those of the decoder.
                   ViT-B has 768, 3072, 12, 12. A hidden size is a multiple of 6 and of its number of heads
    patch          (z, y, x) size of the input, multiples of 16

    It has no class token as He et al.'s has: nothing is classified, and UNETR's encoder has none.
    """

    def __init__(self, spec: NetworkSpec, outputs: Outputs, patch: Patch) -> None:
        super().__init__()
        from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding
        from monai.networks.blocks.transformerblock import TransformerBlock

        numbers = dict(zip(MAE_NUMBERS, spec.features))
        width = numbers["decoder_hidden"]
        seeing = {name: numbers[name] for name in ("hidden", "mlp", "layers", "heads")}
        self.encoder = vision_transformer(spec.input_channels, **seeing, patch=patch)
        self.embed = nn.Linear(numbers["hidden"], width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        with silent(UserWarning, message="torch.meshgrid"):
            self.positions = build_sincos_position_embedding([n // TOKEN_VOXELS for n in patch], width, 3)
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(width, numbers["decoder_mlp"], numbers["decoder_heads"])
                for _ in range(numbers["decoder_layers"])
            ),
            nn.LayerNorm(width),
        )
        self.predict = nn.Linear(width, TOKEN_VOXELS**3 * spec.input_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.encoder.patch_embedding(x)
        batch, count, width = tokens.shape
        hidden = hidden_cubes(batch, count).to(x.device)
        seen = tokens[~hidden].reshape(batch, -1, width)
        for block in self.encoder.blocks:
            seen = block(seen)
        encoded = self.embed(self.encoder.norm(seen))
        blanks = self.mask_token.to(encoded.dtype).expand(batch, count, -1)
        filled = blanks.masked_scatter(~hidden.unsqueeze(-1), encoded)
        return self.predict(self.blocks(filled + self.positions)), hidden


class MaskedSwin(MaskedAutoencoder):
    """A learned token replaces the embeddings of hidden cubes; a linear map of the coarsest features predicts voxels.

    spec.features  (width,) of the encoder, a multiple of 12
    The sizes of the input are multiples of 32, the size of a coarsest voxel.
    """

    def __init__(self, spec: NetworkSpec, outputs: Outputs, patch: Patch) -> None:
        super().__init__()
        (width,) = spec.features
        self.encoder = swin_transformer(spec.input_channels, width=width)
        self.mask_token = nn.Parameter(torch.zeros(1, width, 1, 1, 1))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.predict = nn.Linear(16 * width, SWIN_MULTIPLE**3 * spec.input_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        encoder, grid = self.encoder, [n // TOKEN_VOXELS for n in x.shape[2:]]
        hidden = hidden_cubes(len(x), math.prod(grid)).to(x.device)
        tokens = encoder.patch_embed(x)
        where = hidden.reshape(len(x), 1, *grid)
        for axis, (have, want) in enumerate(zip(grid, tokens.shape[2:]), start=2):
            where = where.repeat_interleave(want // have, axis)
        tokens = torch.where(where, self.mask_token.to(tokens.dtype), tokens)
        for layers in (encoder.layers1, encoder.layers2, encoder.layers3, encoder.layers4):
            tokens = layers[0](tokens.contiguous())
        coarse = encoder.proj_out(tokens, normalize=True)
        filled = self.predict(coarse.flatten(2).transpose(1, 2))
        return cubes(_image(filled, x.shape[2:], SWIN_MULTIPLE)), hidden


def hidden_cubes(batch: int, count: int) -> Tensor:
    """bool [batch, count], True where hidden, equally many in each row; drawn from torch's global CPU generator."""
    seen = max(1, round(count * (1 - MASKED)))
    return torch.rand(batch, count).argsort(dim=1).argsort(dim=1) >= seen


def cubes(x: Tensor) -> Tensor:
    """x [B, C, Z, Y, X] cut into cubes [B, T, 16^3 * C]. Cubes, and the voxels of each, are in order z, y, x."""
    edge = TOKEN_VOXELS
    batch, channels, *size = x.shape
    z, y, x_count = (n // edge for n in size)
    split = x.reshape(batch, channels, z, edge, y, edge, x_count, edge)
    return split.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(batch, z * y * x_count, edge**3 * channels)


def _image(cut: Tensor, size: Sequence[int], edge: int) -> Tensor:
    """The inverse of `cubes`, for cubes of any edge: [B, T, edge^3 * C] -> [B, C, *size]."""
    z, y, x_count = (n // edge for n in size)
    split = cut.reshape(len(cut), z, y, x_count, edge, edge, edge, -1)
    return split.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(len(cut), -1, *size)
