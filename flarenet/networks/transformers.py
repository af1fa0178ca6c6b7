"""The masked autoencoder that learns from unlabelled scans (He et al., arXiv 2111.06377), in three dimensions.

The layers are those of MONAI's MaskedAutoEncoderViT, which is imported only when one is built. The way through
them is written here, because MONAI's own mixes number types under autocast and draws its mask in a way that
ties the share of masked patches to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..planning.network_numbers import MAE_NUMBERS, TOKEN_VOXELS
from ..planning.plan import NetworkSpec

MASKED = 0.75
"""Share of the tokens that the encoder does not see."""


class MaskedAutoencoder(nn.Module):
    """Learns to fill in the masked 75 % of a scan's 16^3 cubes from the rest.

    spec.features  hidden, mlp, layers, heads of the encoder, then of the decoder: eight numbers
                   (ViT-B is 768, 3072, 12, 12; a hidden size is a multiple of 6 and of its heads)
    patch          (z, y, x) size of its input, multiples of 16, at least two tokens
    """

    def __init__(self, spec: NetworkSpec, *, patch: Sequence[int]) -> None:
        super().__init__()
        from monai.networks.nets.masked_autoencoder_vit import MaskedAutoEncoderViT  # 3 s: only where it is built

        numbers = dict(zip(MAE_NUMBERS, spec.features))
        self.patch = tuple(patch)
        self.groups: tuple[str, ...] = ()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.meshgrid", category=UserWarning)  # MONAI's, harmless
            self.layers = MaskedAutoEncoderViT(
                in_channels=spec.input_channels,
                img_size=self.patch,
                patch_size=TOKEN_VOXELS,
                hidden_size=numbers["hidden"],
                mlp_dim=numbers["mlp"],
                num_layers=numbers["layers"],
                num_heads=numbers["heads"],
                masking_ratio=MASKED,
                decoder_hidden_size=numbers["decoder_hidden"],
                decoder_mlp_dim=numbers["decoder_mlp"],
                decoder_num_layers=numbers["decoder_layers"],
                decoder_num_heads=numbers["decoder_heads"],
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, *patch] in [0, 1] -> the predicted cubes [B, T, 16^3 * C] and the mask [B, T], True = not seen.

        Cubes are in the order of `cubes`. The mask is drawn from torch's global CPU generator.
        """
        layers = self.layers
        tokens = layers.patch_embedding(x)
        batch, count, _ = tokens.shape
        kept = max(1, round(count * (1 - MASKED)))
        order = torch.rand(batch, count).argsort(dim=1).to(x.device)
        seen, place = order[:, :kept], torch.argsort(order, dim=1)

        visible = tokens.gather(1, seen.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
        class_token = layers.cls_token.to(visible.dtype).expand(batch, -1, -1)
        encoded = layers.decoder_embed(layers.blocks(torch.cat([class_token, visible], dim=1)))

        blanks = layers.mask_tokens.to(encoded.dtype).expand(batch, count - kept, -1)
        shuffled = torch.cat([encoded[:, 1:], blanks], dim=1)
        ordered = shuffled.gather(1, place.unsqueeze(-1).expand(-1, -1, shuffled.shape[-1]))
        decoded = torch.cat([encoded[:, :1], ordered + layers.decoder_pos_embedding], dim=1)
        return layers.decoder_pred(layers.decoder_blocks(decoded))[:, 1:], place >= kept

    def reconstruction_loss(self, x: Tensor) -> Tensor:
        """Mean squared error on the voxels of the masked cubes; x [B, C, *patch] in [0, 1] -> a number >= 0."""
        predicted, masked = self(x)
        return (predicted.float() - cubes(x).float())[masked].square().mean()


def cubes(x: Tensor) -> Tensor:
    """x [B, C, Z, Y, X] cut into 16^3 cubes [B, T, 16^3 * C]; the last axis of the scan runs fastest in both."""
    batch, channels, *size = x.shape
    z, y, x_count = (n // TOKEN_VOXELS for n in size)
    split = x.reshape(batch, channels, z, TOKEN_VOXELS, y, TOKEN_VOXELS, x_count, TOKEN_VOXELS)
    return split.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(batch, z * y * x_count, TOKEN_VOXELS**3 * channels)
