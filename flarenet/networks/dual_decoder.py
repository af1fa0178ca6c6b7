"""A U-Net whose groups share the encoder and the coarse half of the decoder; each has a fine half of its own.

With two groups it is the paper's dual-decoder 2D U-Net. The part of a group is the submodule `decoders.GROUP`. With
everything else frozen, training changes that group alone and leaves the others bit for bit as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..planning.cost.network_numbers import OWN_LEVELS, Outputs, Patch
from ..planning.plan import NetworkSpec
from .blocks import Encoder, Logits, add_ascent, answer, ascend, coarse_heads, head, module_name

OWN = range(OWN_LEVELS, 0, -1)


class Decoder(nn.Module):
    """The part of one group, from resolution S/4 up.

    shared  features of the shared stages, coarsest first; the last of them at S/4
    skips   features of the encoder, finest first
    Returns logits [B, 1 + n, *S].
    """

    def __init__(self, spec: NetworkSpec, outputs: int) -> None:
        super().__init__()
        add_ascent(self, spec, levels=OWN)
        self.head = head(spec.dimensions, spec.features[-1], outputs)
        self.coarse_heads = coarse_heads(spec, outputs)

    def forward(self, shared: Sequence[Tensor], skips: Sequence[Tensor]) -> Logits:
        found = [*shared[:-1], *ascend(self, shared[-1], skips=skips, levels=OWN)]
        return answer(self.head, self.coarse_heads, found, deep=self.training)


class DualDecoderUNet(Encoder):
    """[B, C, *S] -> {group: logits [B, 1 + n, *S]}, in 2 or 3 dimensions, for any number of groups.

    It has at least three resolutions, and takes the same sizes as UNet.
    """

    def __init__(self, spec: NetworkSpec, outputs: Outputs, patch: Patch) -> None:
        super().__init__(spec)
        self.shared_levels = range(self.depth - 1, OWN_LEVELS, -1)
        add_ascent(self, spec, levels=self.shared_levels)
        self.decoders = nn.ModuleDict({module_name(group): Decoder(spec, n) for group, n in outputs.items()})
        self.groups = tuple(outputs)

    def forward(
        self, x: Tensor, groups: Sequence[str] | None = None, rows: Mapping[str, Tensor] | None = None
    ) -> dict[str, Logits]:
        """The logits of `groups`; None: of every group. The decoders of other groups do not run.

        rows  {group: [b] indices of the samples that its decoder gets}; decoders of other groups get all
        """
        *skips, deepest = self.encode(x)
        found = ascend(self, deepest, skips=skips, levels=self.shared_levels), skips[:OWN_LEVELS]
        answers = {}
        for group in self.groups if groups is None else groups:
            seen = found
            if rows is not None and group in rows:
                shared, fine = found
                seen = [each[rows[group]] for each in shared], [each[rows[group]] for each in fine]
            answers[group] = self.decoders[module_name(group)](*seen)
        return answers
