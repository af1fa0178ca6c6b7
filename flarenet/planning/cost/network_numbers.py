"""The numbers that networks and planning share, and the checks that a spec makes a network of its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import PlanError
from ..plan import NetworkSpec

Outputs = Mapping[str, int]
"""Group -> how many labels it has, without the background."""

Patch = Sequence[int]
"""The size of a network's input in voxels, (y, x) or (z, y, x)."""

FEWEST_RESOLUTIONS, MOST_RESOLUTIONS = 3, 7

OWN_LEVELS = 2
"""How many decoder stages each group of a dual decoder has for itself: those from a quarter of the resolution up to the
full one, as in the paper."""

TOKEN_VOXELS = 16
"""The edge, in voxels, of the cube that is one token of a vision transformer."""

SWIN_DEPTH, SWIN_HEADS, SWIN_WINDOW = 2, (3, 6, 12, 24), 7
"""Numbers of Swin UNETR: layers of a stage, heads of the four stages, and the edge of an attention window in tokens."""

SWIN_MULTIPLE = 32
"""Each edge of Swin UNETR's patch is a multiple of this: it embeds cubes of 2^3 voxels and halves four times."""

SWIN_WIDTH_MULTIPLE = 12
"""The width of Swin UNETR is a multiple of this: MONAI's rule, and enough for the heads."""

MOST_LAYERS, LARGEST_NUMBER = 200, 1 << 16
"""The most blocks or layers in a row, and the largest other number of a network or its patch. Both are far beyond any
useful network: a plan may come from others, and building its network must come to an end."""

UNETR_NUMBERS = ("hidden", "mlp", "layers", "heads", "width")
MAE_NUMBERS = ("hidden", "mlp", "layers", "heads", "decoder_hidden", "decoder_mlp", "decoder_layers", "decoder_heads")


def check_u_shaped(spec: NetworkSpec, where: str) -> None:
    resolutions = len(spec.features) - 1
    if not FEWEST_RESOLUTIONS <= resolutions <= MOST_RESOLUTIONS:
        raise PlanError(
            f"{where}: features",
            found=f"{len(spec.features)} numbers {spec.features}",
            expected=f"{FEWEST_RESOLUTIONS} to {MOST_RESOLUTIONS} numbers, channels at each resolution, finest first, "
            "then one for the last decoder stage",
        )
    residual = spec.kind.startswith("residual_")
    wanted = resolutions if residual else 0
    if len(spec.blocks) != wanted:
        expected = f"{wanted} numbers, one for each resolution" if residual else "none"
        raise PlanError(f"{where}: blocks", found=spec.blocks, expected=expected)
    # a decoder has one stage less than there are resolutions, and the last one is always supervised
    _check_deep(spec, resolutions - 2, where)


def check_unetr(spec: NetworkSpec, where: str) -> None:
    numbers = _named(UNETR_NUMBERS, spec, where)
    _check_hidden(numbers["hidden"], numbers["heads"], f"{where}: hidden")


def check_masked_vit(spec: NetworkSpec, where: str) -> None:
    numbers = _named(MAE_NUMBERS, spec, where)
    for part in ("", "decoder_"):
        _check_hidden(numbers[f"{part}hidden"], numbers[f"{part}heads"], f"{where}: {part}hidden")


def check_swin(spec: NetworkSpec, where: str) -> None:
    width = _named(("width",), spec, where)["width"]
    if width % SWIN_WIDTH_MULTIPLE:
        raise PlanError(f"{where}: features", found=width, expected=f"a multiple of {SWIN_WIDTH_MULTIPLE}")


def _named(names: Sequence[str], spec: NetworkSpec, where: str) -> dict[str, int]:
    if len(spec.features) != len(names):
        raise PlanError(f"{where}: features", found=spec.features, expected=f"{len(names)} numbers: {', '.join(names)}")
    numbers = dict(zip(names, spec.features))
    for name in names:
        if name.endswith("layers"):
            check_most([numbers[name]], MOST_LAYERS, f"{where}: {name}")
    _check_deep(spec, 0, where)
    return numbers


def _check_deep(spec: NetworkSpec, most: int, where: str) -> None:
    if spec.deep_supervision > most:
        raise PlanError(f"{where}: deep_supervision", found=spec.deep_supervision, expected=f"at most {most}")


def check_most(numbers: Sequence[int], most: int, where: str) -> None:
    if numbers and max(numbers) > most:
        raise PlanError(where, found=max(numbers), expected=f"at most {most}")


def _check_hidden(hidden: int, heads: int, where: str) -> None:
    if hidden % heads or hidden % 6:
        raise PlanError(where, found=hidden, expected=f"a multiple of its {heads} heads and of 6 (position code)")
