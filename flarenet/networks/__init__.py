"""Networks by name. Every segmenting network maps [B, C, *S] to {group: logits [B, 1 + n, *S]}."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from ..errors import PlanError, unknown
from ..planning.plan import NetworkSpec
from .blocks import module_name
from .dual_decoder import DualDecoderUNet
from .transformers import MaskedAutoencoder
from .unet import UNet

__all__ = ["NETWORKS", "DualDecoderUNet", "MaskedAutoencoder", "UNet", "build", "module_name", "parameter_count"]

Outputs = Mapping[str, int]
Patch = Sequence[int] | None


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
    return NETWORKS[spec.kind](spec, {group: outputs[group] for group in spec.groups}, patch)


def parameter_count(network: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


def _unet(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> nn.Module:
    return UNet(spec.dimensions, spec.input_channels, features=_six(spec), outputs=outputs)


def _dual_decoder(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> nn.Module:
    return DualDecoderUNet(spec.dimensions, spec.input_channels, features=_six(spec), outputs=outputs)


def _mae_vit(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> nn.Module:
    return MaskedAutoencoder(spec, patch=patch)


def _six(spec: NetworkSpec) -> tuple[int, ...]:
    if len(spec.features) != 6:
        raise PlanError(
            f"features of network {spec.kind!r}",
            found=f"{len(spec.features)} numbers {spec.features}",
            expected="6: channels at five resolutions, finest first, then of the last decoder stage",
        )
    return spec.features


NETWORKS: dict[str, Callable[[NetworkSpec, Outputs, Patch], nn.Module]] = {
    "unet": _unet,
    "dual_decoder": _dual_decoder,
    "mae_vit": _mae_vit,
}
