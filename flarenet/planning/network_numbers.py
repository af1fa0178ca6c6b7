"""Whether the numbers of a NetworkSpec make a network: asked whenever a plan is read, and by whoever builds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..errors import PlanError
from .plan import NetworkSpec

Outputs = Mapping[str, int]
"""group -> number of its labels, background not counted"""

Patch = Sequence[int]
"""(y, x) or (z, y, x) voxels of a network's input"""

FEWEST_RESOLUTIONS, MOST_RESOLUTIONS = 3, 7

OWN_LEVELS = 2
"""Decoder stages that each group of a dual decoder has for itself: from a quarter of the resolution upwards, as in the
paper."""

TOKEN_VOXELS = 16
"""Edge of the cube of voxels that is one token of a vision transformer."""

SWIN_DEPTH, SWIN_HEADS, SWIN_WINDOW = 2, (3, 6, 12, 24), 7
"""Of Swin UNETR: layers of a stage, heads of the four stages, and the edge in tokens of the window each attends to."""

SWIN_MULTIPLE = 32
"""It embeds cubes of 2^3 voxels and halves four times."""

SWIN_WIDTH = 12
"""Its width is a multiple of it: MONAI's rule, and enough for the heads."""

MOST_LAYERS, WIDEST = 200, 1 << 16
"""Far beyond any network of use. Of blocks or layers in a row, and of any other number, edges of a patch among them: a
plan may come from others, and building its network has to come to an end."""

UNETR_NUMBERS = ("hidden", "mlp", "layers", "heads", "width")
MAE_NUMBERS = ("hidden", "mlp", "layers", "heads", "decoder_hidden", "decoder_mlp", "decoder_layers", "decoder_heads")


def check_numbers(spec: NetworkSpec, patch: Patch, where: str = "", *, sized: bool = True) -> None:
    """Raise PlanError, naming what does not fit, for numbers that make no network of the kind.

    patch  the size of its input; () will do for a network that takes any
    where  what the error calls the network
    sized  False: whether the network takes the patch is not asked
    A kind that is not known here is not checked.
    """
    if spec.kind not in CHECKS:
        return
    check, where = CHECKS[spec.kind], where or f"network {spec.kind!r}"
    for name, numbers, most in (
        ("blocks", spec.blocks, MOST_LAYERS),
        ("features", spec.features, WIDEST),
        ("input_channels", (spec.input_channels,), WIDEST),
        ("patch", patch, WIDEST),
    ):
        _check_most(numbers, most, f"{where}: {name}")
    check(spec, where)
    if sized and spec.kind in PATCH_MULTIPLES:
        _check_patch(patch, PATCH_MULTIPLES[spec.kind], where)
    # a decoder has a stage less than there are resolutions, and the last one is supervised anyway
    most = len(spec.features) - 3 if check is _check_u_shaped else 0
    if spec.deep_supervision > most:
        raise PlanError(f"{where}: deep_supervision", found=spec.deep_supervision, expected=f"at most {most}")


def _check_u_shaped(spec: NetworkSpec, where: str) -> None:
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


def _check_unetr(spec: NetworkSpec, where: str) -> None:
    numbers = _named(UNETR_NUMBERS, spec, where)
    _check_hidden(numbers["hidden"], numbers["heads"], f"{where}: hidden")


def _check_masked_vit(spec: NetworkSpec, where: str) -> None:
    numbers = _named(MAE_NUMBERS, spec, where)
    for part in ("", "decoder_"):
        _check_hidden(numbers[f"{part}hidden"], numbers[f"{part}heads"], f"{where}: {part}hidden")


def _check_swin(spec: NetworkSpec, where: str) -> None:
    width = _named(("width",), spec, where)["width"]
    if width % SWIN_WIDTH:
        raise PlanError(f"{where}: features", found=width, expected=f"a multiple of {SWIN_WIDTH}")


def _named(names: Sequence[str], spec: NetworkSpec, where: str) -> dict[str, int]:
    if len(spec.features) != len(names):
        raise PlanError(f"{where}: features", found=spec.features, expected=f"{len(names)} numbers: {', '.join(names)}")
    numbers = dict(zip(names, spec.features))
    for name in names:
        if name.endswith("layers"):
            _check_most([numbers[name]], MOST_LAYERS, f"{where}: {name}")
    return numbers


def _check_most(numbers: Sequence[int], most: int, where: str) -> None:
    if numbers and max(numbers) > most:
        raise PlanError(where, found=max(numbers), expected=f"at most {most}")


def _check_hidden(hidden: int, heads: int, where: str) -> None:
    if hidden % heads or hidden % 6:
        raise PlanError(where, found=hidden, expected=f"a multiple of its {heads} heads and of 6 (position code)")


def _check_patch(patch: Patch, multiple: int, where: str) -> None:
    if len(patch) != 3 or any(n % multiple for n in patch) or max(patch) < 2 * multiple:
        expected = f"three multiples of {multiple}, one of them at least {2 * multiple}"
        raise PlanError(f"{where}: patch", found=patch, expected=expected)


CHECKS: dict[str, Callable[[NetworkSpec, str], None]] = {
    "unet": _check_u_shaped,
    "dual_decoder": _check_u_shaped,
    "residual_unet": _check_u_shaped,
    "residual_dual_decoder": _check_u_shaped,
    "unetr": _check_unetr,
    "swin_unetr": _check_swin,
    "mae_vit": _check_masked_vit,
    "mae_swin": _check_swin,
}

PATCH_MULTIPLES = {
    "unetr": TOKEN_VOXELS,
    "swin_unetr": SWIN_MULTIPLE,
    "mae_vit": TOKEN_VOXELS,
    "mae_swin": SWIN_MULTIPLE,
}
"""Of the kinds that take no other patches."""
