"""What planning needs to know about a network, without building it and without torch: whether its numbers make a
network, and what it costs.

The cost is counted layer by layer. Planning chooses patch and batch by it, so each kind of networks.NETWORKS has a row
in KINDS; a test compares the parameters counted here with those of the network that is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from ...errors import PlanError
from ..plan import NetworkSpec
from .layers import Layer
from .network_numbers import (
    LARGEST_NUMBER,
    MOST_LAYERS,
    SWIN_MULTIPLE,
    TOKEN_VOXELS,
    Outputs,
    Patch,
    check_masked_vit,
    check_most,
    check_swin,
    check_u_shaped,
    check_unetr,
)
from .transformer_layers import masked_swin, masked_vit, swin_unetr, unetr
from .unet_layers import dual_decoder, unet


@dataclass(frozen=True)
class Kind:
    """What planning knows of a kind of network.

    check           raises PlanError for numbers that make no network; it is given what the error calls the network
    layers          the layers of a network with a head for each group of the outputs
    patch_multiple  each edge of its patch is a multiple of this; None: a U-Net, which takes any patch of check_halved
    """

    check: Callable[[NetworkSpec, str], None]
    layers: Callable[[NetworkSpec, Outputs, Patch], Iterator[Layer]]
    patch_multiple: int | None = None


KINDS = {
    "unet": Kind(check_u_shaped, unet),
    "dual_decoder": Kind(check_u_shaped, dual_decoder),
    "residual_unet": Kind(check_u_shaped, unet),
    "residual_dual_decoder": Kind(check_u_shaped, dual_decoder),
    "unetr": Kind(check_unetr, unetr, TOKEN_VOXELS),
    "swin_unetr": Kind(check_swin, swin_unetr, SWIN_MULTIPLE),
    "mae_vit": Kind(check_masked_vit, masked_vit, TOKEN_VOXELS),
    "mae_swin": Kind(check_swin, masked_swin, SWIN_MULTIPLE),
}


def check_numbers(spec: NetworkSpec, patch: Patch, where: str = "") -> None:
    """Raise PlanError, naming what does not fit, for numbers that make no network of their kind.

    patch  the size of its input; may be () for a network that takes any patch
    where  what the error calls the network
    A kind that has no row in KINDS is not checked.
    """
    if spec.kind not in KINDS:
        return
    kind, where = KINDS[spec.kind], where or f"network {spec.kind!r}"
    for name, numbers, most in (
        ("blocks", spec.blocks, MOST_LAYERS),
        ("features", spec.features, LARGEST_NUMBER),
        ("input_channels", (spec.input_channels,), LARGEST_NUMBER),
        ("patch", patch, LARGEST_NUMBER),
    ):
        check_most(numbers, most, f"{where}: {name}")
    kind.check(spec, where)
    if kind.patch_multiple:
        _check_patch(patch, kind.patch_multiple, where)


def _check_patch(patch: Patch, multiple: int, where: str) -> None:
    if len(patch) != 3 or any(n % multiple for n in patch) or max(patch) < 2 * multiple:
        expected = f"three multiples of {multiple}, one of them at least {2 * multiple}"
        raise PlanError(f"{where}: patch", found=patch, expected=expected)


def check_halved(spec: NetworkSpec, patch: Patch, where: str) -> None:
    """Raise PlanError for a patch of which a U-Net has less than two voxels at its coarsest resolution.

    Without any it cannot run, and a norm of a single one learns nothing. Other kinds are not checked.
    """
    kind = KINDS.get(spec.kind)
    if kind is None or kind.patch_multiple:
        return
    resolutions = len(spec.features) - 1
    least = 2 ** (resolutions - 1)
    if min(patch) < least or max(patch) < 2 * least:
        raise PlanError(
            f"{where}: patch",
            found=patch,
            expected=f"edges of at least {least} voxels, one of at least {2 * least}, for {resolutions} resolutions",
            remedy="a larger patch, or fewer resolutions: features has one number more than there are",
        )


@dataclass(frozen=True)
class Cost:
    """The cost of one sample of one patch.

    parameters  how many parameters the network has
    products    multiply-adds of a forward pass
    alive       numbers in memory while the widest layer runs, with the skips and the logits of earlier heads
    peak        numbers in memory at the fullest moment of the backward pass. When it reaches a layer, what later layers
                kept has been freed
    """

    parameters: int
    products: float
    alive: float
    peak: float


def cost(spec: NetworkSpec, outputs: Outputs, patch: Patch) -> Cost | None:
    """The cost of `spec`, with a head of 1 + n channels for each of its groups; None for a kind without a row."""
    if spec.kind not in KINDS:
        return None
    layers = list(KINDS[spec.kind].layers(spec, {group: outputs[group] for group in spec.groups}, patch))
    voxels = math.prod(patch)

    def at(level: int) -> float:
        return voxels / 2 ** (level * spec.dimensions)

    before = accumulate((layer.held * at(layer.level) for layer in layers), initial=0.0)
    up_to = accumulate(layer.kept * at(layer.level) for layer in layers)
    return Cost(
        parameters=sum(layer.parameters for layer in layers),
        products=sum(layer.products * at(layer.level) for layer in layers),
        alive=max(held + layer.alive * at(layer.level) for held, layer in zip(before, layers)),
        peak=max(kept + layer.backward * at(layer.level) for kept, layer in zip(up_to, layers)),
    )
