"""How a segmenting network is judged on a batch: by the loss over what is annotated, with nothing computed in vain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from torch import Tensor, nn

from ..networks import DualDecoderUNet
from .batches import Batch
from .losses import Loss, segmentation_loss


def segmentation_objective(
    network: nn.Module,
    batch: Batch,
    groups: Sequence[str],
    *,
    exclusion: float = 0.0,
    sample_dice: Mapping[str, float] = MappingProxyType({}),
    same_size: bool = False,
) -> Loss:
    """Equation (1) over what is annotated, summed over `groups`; see losses.segmentation_loss.

    A sample that asks nothing of a group adds nothing to that group's loss. So while a network with several decoders
    learns, each decoder sees only the samples that ask something of its group: loss and gradient are those of all
    samples, up to the order in which numbers are added. In eval mode every decoder sees all samples, and the loss holds
    the logits of all.

    same_size  every decoder sees all samples in train mode too: a compiled network is compiled anew for each other size
    """
    labels, asked = batch.labels, batch.asked
    judge = partial(segmentation_loss, exclusion=exclusion, sample_dice=sample_dice)
    if not network.training or keeps_size(network, same_size=same_size):
        return judge(network(batch.image, groups), labels, asked)
    rows = {group: _asking(asked[group]) for group in groups if not asked[group][:, 0].all()}
    asked = asked | {group: asked[group][own] for group, own in rows.items()}
    # sent once for all tensors that they index; non_blocking: the CPU does not wait for a GPU
    rows = {group: own.to(batch.image.device, non_blocking=True) for group, own in rows.items()}
    labels = labels | {group: labels[group][own] for group, own in rows.items()}
    return judge(network(batch.image, groups, rows), labels, asked)


def keeps_size(network: nn.Module, *, same_size: bool) -> bool:
    """Whether a network that learns computes tensors of the same sizes in every batch; same_size as above."""
    return same_size or not isinstance(network, DualDecoderUNet)


def _asking(asked: Tensor) -> Tensor:
    """The rows of the samples that ask something; row 0 if none does, so that what learns has a gradient, if of 0."""
    rows = asked[:, 0].nonzero().flatten()
    return rows if len(rows) else rows.new_zeros(1)
