"""The transformer encoders of UNETR and Swin UNETR: MONAI's layers, which are imported only when one is built (3 s).

A masked autoencoder and the network that begins with it hold the same module under the same name, `encoder`, so that
the weights of one are those of the other.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from ..planning.network_numbers import SWIN_DEPTH, SWIN_HEADS, SWIN_WINDOW, TOKEN_VOXELS


def vision_transformer(
    channels: int, *, hidden: int, mlp: int, layers: int, heads: int, patch: Sequence[int]
) -> nn.Module:
    """MONAI's ViT on cubes of 16^3 voxels: [B, C, *patch] -> tokens [B, T, hidden], and those after each layer.

    Its position code is the fixed one of sines and cosines, as in masked autoencoders (He et al., arXiv 2111.06377).
    """
    from monai.networks.nets.vit import ViT

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.meshgrid", category=UserWarning)  # MONAI's, harmless
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
    """MONAI's SwinTransformer as its SwinUNETR makes it: [B, C, *S] -> features of S/2, S/4 ... S/32, normed.

    They have width, 2 width ... 16 width channels; S are multiples of 32.
    """
    from monai.networks.nets.swin_unetr import SwinTransformer

    with torch.device("cpu"):  # MONAI's reads a tensor's numbers while it builds; those of the meta device have none
        return SwinTransformer(
            in_chans=channels,
            embed_dim=width,
            window_size=(SWIN_WINDOW,) * 3,
            patch_size=(2, 2, 2),
            depths=(SWIN_DEPTH,) * len(SWIN_HEADS),
            num_heads=SWIN_HEADS,
        )
