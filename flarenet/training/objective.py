"""The objective of a segmentation network: the loss over what is annotated, without computing what it does not use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..networks import DualDecoderUNet
from .batches import Batch
from .losses import Loss, segmentation_loss

Objective = Callable[[nn.Module, Batch], Loss]
"""The loss of a network on a batch or a part of one."""


def segmentation_objective(
    network: nn.Module, batch: Batch, groups: Sequence[str], *, exclusion: float = 0.0, same_size: bool = False
) -> Loss:
    """Equation (1) over what is annotated, summed over `groups`; see losses.segmentation_loss.

    A sample with no label of a group annotated adds nothing to that group's loss. So in train mode each decoder of a
    DualDecoderUNet sees only the other samples: loss and gradient are those of all samples, up to the order in which
    numbers are added. In eval mode every decoder sees all samples, and the loss holds the logits of all.

    same_size  every decoder sees all samples in train mode too: a compiled network is compiled anew for each other size
    """
    labels, annotated = batch.labels, batch.annotated
    if not network.training or keeps_size(network, same_size=same_size):
        return segmentation_loss(network(batch.image, groups), labels, annotated, exclusion=exclusion)
    rows = {group: _annotated_rows(annotated[group]) for group in groups if not annotated[group][:, 0].all()}
    annotated = annotated | {group: annotated[group][own] for group, own in rows.items()}
    # sent once for all tensors that they index; non_blocking: the CPU does not wait for a GPU
    rows = {group: own.to(batch.image.device, non_blocking=True) for group, own in rows.items()}
    labels = labels | {group: labels[group][own] for group, own in rows.items()}
    return segmentation_loss(network(batch.image, groups, rows), labels, annotated, exclusion=exclusion)


def keeps_size(network: nn.Module, *, same_size: bool) -> bool:
    """Whether a network in train mode computes tensors of the same sizes in every batch; same_size as above."""
    return same_size or not isinstance(network, DualDecoderUNet)


def _annotated_rows(annotated: Tensor) -> Tensor:
    """The samples with any label annotated; row 0 if there are none, so that the decoder has a gradient, be it 0."""
    rows = annotated[:, 0].nonzero().flatten()
    return rows if len(rows) else rows.new_zeros(1)
