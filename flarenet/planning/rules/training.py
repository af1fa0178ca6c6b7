"""The numbers of training that do not follow from the data, by recipe and dimensions, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from ..budget import Recipe
from ..plan import CLIP_WHY, Augmentation
from ..pseudo_rules import AUTO_RULES, AUTO_RULES_WHY, UNFILTERED, PseudoRules
from .epochs import CROPS_PER_CASE, LONGEST_EPOCH, fewest_batches
from .presets import FEWEST_SAMPLES, MOST_SAMPLES

UPDATES, UPDATES_OF_A_DECODER = 40_000, 20_000
"""How many updates of the weights a step aims at, for the whole network and for one decoder. The paper's 3D organ model
has 31,250 updates and its cancer model 44,760. With about 190 slices a case, its 2D steps on the whole network have
53,000 and 27,000, and those on a decoder 22,000 and 26,000."""

MOST_EPOCHS = {2: 200, 3: 1000}
"""Most epochs of a step, by dimensions. 2D: neighbouring slices are nearly alike, so an epoch of a small set shows each
organ dozens of times. 3D: nnU-Net's number; by then a small set is learned by heart, whatever the augmentation."""

RATE, RATE_OF_A_DECODER = 1e-3, 5e-4
"""Recipe auto's learning rates in 2D, for the whole network and for one decoder. The runs on real scans in
docs/results.md used the first; it was compared with no other. The second is the paper's for its organ decoder."""

RATE_3D = 5e-4
"""The learning rate of both recipes in 3D: the paper's Table 2."""

PAPER_TABLE = {2: "Table 3 of the paper", 3: "Table 2 of the paper"}
"""Where the paper states the numbers of training, by dimensions."""

AUTO_AUGMENTATION = Augmentation(gamma=0.3, scale=0.2, rotation_deg=20.0, zoom=0.35, foreground=0.5)
"""The augmentation of recipe auto. It varies intensity more than the paper's, and also size: a small set holds few of
the contrast phases and body sizes that a new scan may show."""


@dataclass(frozen=True)
class Constants:
    """What a recipe gives the steps of every network of 2 or 3 dimensions.

    fewest_samples  the smallest batch. The paper's is its only one: where it does not fit, the plan is refused, not
                    changed
    augmentation    of every step
    balance         of a step without teachers; 0 with them, because completed cases have all labels
    selection       of a step with annotated cases; a step without them keeps its last weights
    why             number -> the reason for it, of these and of all others that do not follow from the data
    decoder_why     what the reason for the learning rate adds where a step trains a single decoder
    pseudo          of a step with teachers
    pseudo_why      rule of `pseudo` -> the reason for it
    """

    fewest_samples: int
    augmentation: Augmentation
    balance: float
    selection: Literal["lowest loss", "best dice", "last"]
    why: Mapping[str, str]
    decoder_why: str = ""
    pseudo: PseudoRules = UNFILTERED
    pseudo_why: Mapping[str, str] = field(default_factory=dict)


def _bounds(dimensions: int) -> str:
    """The batches that an epoch of recipe auto has at least and at most, in words."""
    return f"at least {fewest_batches(MOST_EPOCHS[dimensions])} and at most {LONGEST_EPOCH} batches"


_WHY_3D: Final = {
    **dict.fromkeys(("learning_rate", "warmup_epochs", "weight_decay"), PAPER_TABLE[3]),
    "schedule": "not stated; after the warm-up it falls as in the paper's 2D steps",
}

_PAPER_2D: Final = Constants(
    fewest_samples=MOST_SAMPLES[2],
    augmentation=Augmentation(),
    balance=0.0,
    selection="best dice",
    why={
        "batches_per_epoch": "every slice once",
        **dict.fromkeys(("learning_rate", "warmup_epochs", "schedule", "weight_decay"), PAPER_TABLE[2]),
        "clip_norm": CLIP_WHY,
        "augmentation": "section 3.2 of the paper",
        "balance": "every case alike: the paper names no other way",
        "selection": "the paper keeps the weights of the best Dice on a fifth of the slices, held out by cases",
    },
)
_PAPER_3D: Final = replace(
    _PAPER_2D,
    fewest_samples=MOST_SAMPLES[3],
    selection="lowest loss",
    why={
        **_PAPER_2D.why,
        **_WHY_3D,
        "batches_per_epoch": f"{CROPS_PER_CASE} patches a case",
        "selection": "the paper keeps the weights of the lowest Dice loss",
    },
)
_AUTO_2D: Final = Constants(
    fewest_samples=FEWEST_SAMPLES[2],
    augmentation=AUTO_AUGMENTATION,
    # 0 draws all cases equally often: most batches teach nothing about labels annotated in few cases. 1 draws in
    # proportion to the labels: cohorts with few, such as tumor cohorts, nearly vanish
    balance=0.5,
    selection="last",
    why={
        **_PAPER_2D.why,
        "batches_per_epoch": f"every slice once, {_bounds(2)}",
        "learning_rate": f"{RATE:g} was used on real scans (docs/results.md) but not compared with others",
        "augmentation": "more than the paper's: a small set holds few of the contrast phases and body sizes that a "
        "scan may show",
        "balance": "by the square root of the labels that a case answers; completed by teachers, all answer alike",
        "selection": "the learning rate has fallen to 0 by then, as in nnU-Net; the best of hundreds of scores on a "
        "few held-out cases is partly luck",
    },
    decoder_why=f"; a single decoder has {RATE_OF_A_DECODER:g}, the paper's for organs",
    pseudo=AUTO_RULES,
    pseudo_why=AUTO_RULES_WHY,
)
_AUTO_3D: Final = replace(
    _AUTO_2D,
    fewest_samples=FEWEST_SAMPLES[3],
    why={
        **_AUTO_2D.why,
        **_WHY_3D,
        "batches_per_epoch": f"{CROPS_PER_CASE} patches a case, {_bounds(3)}",
    },
    decoder_why="",
)

CONSTANTS: Final[dict[tuple[Recipe, int], Constants]] = {
    ("paper", 2): _PAPER_2D,
    ("paper", 3): _PAPER_3D,
    ("auto", 2): _AUTO_2D,
    ("auto", 3): _AUTO_3D,
}
"""The constants by recipe and dimensions."""
