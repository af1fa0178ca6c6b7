"""Networks by name. Every segmentation network maps [B, C, *S] to {group: logits [B, 1 + n, *S]}.

With deep supervision, in train mode, it returns a tuple for each group instead: logits at S, S/2, S/4 ...
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ..errors import unknown
from ..planning.cost.kinds import check_numbers
from ..planning.cost.network_numbers import Outputs, Patch
from ..planning.plan import NetworkSpec
from .blocks import module_name
from .dual_decoder import DualDecoderUNet
from .masked import MaskedAutoencoder, MaskedSwin, MaskedViT
from .unet import UNet
from .unetr import UNETR, SwinUNETR

__all__ = ["NETWORKS", "DualDecoderUNet", "MaskedAutoencoder", "build", "module_name"]

NETWORKS: dict[str, Callable[[NetworkSpec, Outputs, Patch], nn.Module]] = {
    "unet": UNet,
    "dual_decoder": DualDecoderUNet,
    "residual_unet": UNet,
    "residual_dual_decoder": DualDecoderUNet,
    "unetr": UNETR,
    "swin_unetr": SwinUNETR,
    "mae_vit": MaskedViT,
    "mae_swin": MaskedSwin,
}


def build(spec: NetworkSpec, outputs: Outputs, patch: Patch = ()) -> nn.Module:
    """The network of `spec`, with random weights from torch's global generator.

    outputs  group -> number of labels, as LabelSet.outputs; only the groups of `spec` are used
    patch    size of the network's input; may be left out for a network that takes any size

    Raises UsageError for a kind or group that does not exist, PlanError for numbers that make no network.
    """
    if spec.kind not in NETWORKS:
        raise unknown("network", spec.kind, NETWORKS)
    for group in spec.groups:
        if group not in outputs:
            raise unknown("group", group, outputs)
    check_numbers(spec, patch)
    return NETWORKS[spec.kind](spec, {group: outputs[group] for group in spec.groups}, patch)
