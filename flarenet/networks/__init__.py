"""Networks by name. Every segmenting network maps [B, C, *S] to {group: logits [B, 1 + n, *S]}.

In train mode one with deep supervision gives a tuple for each group instead: logits at S, S/2, S/4 ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from ..errors import unknown
from ..planning.network_numbers import check_numbers
from ..planning.plan import NetworkSpec
from .blocks import module_name
from .dual_decoder import DualDecoderUNet
from .masked import MaskedAutoencoder, MaskedSwin, MaskedViT
from .unet import UNet
from .unetr import UNETR, SwinUNETR

__all__ = ["NETWORKS", "DualDecoderUNet", "MaskedAutoencoder", "UNet", "build", "module_name", "parameter_count"]

Outputs = Mapping[str, int]
Patch = Sequence[int] | None
Maker = Callable[[NetworkSpec, Outputs, Patch], nn.Module]


def build(spec: NetworkSpec, outputs: Outputs, patch: Patch = None) -> nn.Module:
    """The network of `spec`, with random weights from torch's global generator.

    outputs  group -> number of labels, as LabelSet.outputs; only the groups of `spec` are used
    patch    the size of its input, for the networks that are made for one size

    Raises UsageError for a kind or group that does not exist, PlanError for numbers that make no network.
    """
    if spec.kind not in NETWORKS:
        raise unknown("network", spec.kind, NETWORKS)
    for group in spec.groups:
        if group not in outputs:
            raise unknown("group", group, outputs)
    check_numbers(spec, patch)
    return NETWORKS[spec.kind](spec, {group: outputs[group] for group in spec.groups}, patch)


def parameter_count(network: nn.Module) -> int:
    """How many numbers the network has; position codes that are fixed count too."""
    return sum(parameter.numel() for parameter in network.parameters())


def _u_shaped(made: type[UNet] | type[DualDecoderUNet]) -> Maker:
    def make(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> nn.Module:
        return made(
            spec.dimensions,
            spec.input_channels,
            features=spec.features,
            outputs=outputs,
            blocks=spec.blocks,
            deep=spec.deep_supervision,
        )

    return make


def _mae_vit(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> nn.Module:
    return MaskedViT(spec, patch=patch or ())


def _mae_swin(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> nn.Module:
    return MaskedSwin(spec)


def _unetr(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> nn.Module:
    return UNETR(spec, outputs, patch or ())


def _swin_unetr(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> nn.Module:
    return SwinUNETR(spec, outputs)


NETWORKS: dict[str, Maker] = {
    "unet": _u_shaped(UNet),
    "dual_decoder": _u_shaped(DualDecoderUNet),
    "residual_unet": _u_shaped(UNet),
    "residual_dual_decoder": _u_shaped(DualDecoderUNet),
    "unetr": _unetr,
    "swin_unetr": _swin_unetr,
    "mae_vit": _mae_vit,
    "mae_swin": _mae_swin,
}
