"""The transformer encoders of UNETR and Swin UNETR. Their layers are MONAI's, imported only when one is built (3 s).

A masked autoencoder and the network that starts from its weights hold the same module under the same name, `encoder`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..planning.cost.network_numbers import SWIN_DEPTH, SWIN_HEADS, SWIN_WINDOW, TOKEN_VOXELS
from ..silence import silent


def vision_transformer(
    channels: int, *, hidden: int, mlp: int, layers: int, heads: int, patch: Sequence[int]
) -> nn.Module:
    """MONAI's ViT on cubes of 16^3 voxels: [B, C, *patch] -> (tokens [B, T, hidden], list of those after each layer).

    Its position embedding is fixed, of sines and cosines, as in masked autoencoders (He et al., arXiv 2111.06377).
    """
    from monai.networks.nets.vit import ViT

    with silent(UserWarning, message="torch.meshgrid"):  # MONAI's, harmless
        return ViT(
            in_channels=channels,
            img_size=tuple(patch),
            patch_size=TOKEN_VOXELS,
            hidden_size=hidden,
            mlp_dim=mlp,
            num_layers=layers,
            num_heads=heads,
            pos_embed_type="sincos",
        )


def swin_transformer(channels: int, *, width: int) -> nn.Module:
    """MONAI's SwinTransformer as its SwinUNETR makes it: [B, C, *S] -> normalised features at S/2, S/4 ... S/32.

    These have width, 2 width ... 16 width channels. The sizes S are multiples of 32.
    """
    from monai.networks.nets.swin_unetr import SwinTransformer

    with torch.device("cpu"):  # MONAI reads a tensor's values while building; on the meta device there are none
        return SwinTransformer(
            in_chans=channels,
            embed_dim=width,
            window_size=(SWIN_WINDOW,) * 3,
            patch_size=(2, 2, 2),
            depths=(SWIN_DEPTH,) * len(SWIN_HEADS),
            num_heads=SWIN_HEADS,
        )
