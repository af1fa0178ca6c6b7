"""A trainer's part of the plan, made from the stages of its curriculum, for 2D and 3D networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import CLIP_WHY, Augmentation, Step, Subset, TrainerPlan
from ..planning.pseudo_rules import AUTO_RULES, AUTO_RULES_WHY, UNFILTERED
from ..planning.rules.configurations import Outline
from ..planning.rules.epochs import CROPS_PER_CASE, LONGEST_EPOCH, batches_of, fewest_batches, paced, slices_of
from ..planning.rules.patterns import Pattern
from ..planning.rules.presets import batch_size, network, network_3d, network_why
from ..planning.runs import Run
from .mae import TrainerMAE

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

LAST_WHY = (
    "the learning rate has fallen to 0 by then, as in nnU-Net; the best of hundreds of scores on a few held-out cases "
    "is partly luck"
)

AUTO_BALANCE = 0.5
"""Recipe auto's balance, see Step.balance. 0 draws all cases equally often: most batches teach nothing about labels
annotated in few cases. 1 draws in proportion to the labels: cohorts with few, such as tumor cohorts, nearly vanish."""


@dataclass(frozen=True)
class Stage:
    """What distinguishes one step of a curriculum from the others (Tables 2 and 3 of the paper).

    patterns       of the cases that it trains on
    why            the reason for the patterns
    teachers       as Step.teachers
    trained        the submodules that learn; empty: all
    updates        how many updates of the weights recipe auto aims at; with the size of the data they give the epochs
    paper_epochs   epochs of recipe paper; 0: as for auto
    epochs_why     the reason for paper_epochs, where no table of the paper gives them
    """

    patterns: tuple[Pattern, ...]
    groups: tuple[str, ...]
    learning_rate: float
    why: str = ""
    teachers: Mapping[str, Run] = field(default_factory=dict)
    trained: tuple[str, ...] = ()
    updates: int = UPDATES
    warmup_epochs: int = 0
    paper_epochs: int = 0
    epochs_why: str = ""


def plan_2d(name: str, fingerprint: Fingerprint, outline: Outline, *, stages: Sequence[Stage], why: str) -> TrainerPlan:
    """The part of trainer `name`: a 2D network with a decoder for each group, trained in `stages`, one after the other.

    why  the reason for these stages
    """
    paper, budget, flat = outline.request.recipe == "paper", outline.request.budget, outline.configurations["2d"]
    spec = network(
        budget.size,
        flat.patch,
        tuple(fingerprint.labels.groups),
        paper=paper,
        channels=1 + 2 * flat.neighbours,
    )
    slices = max(slices_of(fingerprint, stage.patterns) for stage in stages)
    samples, batch_why = batch_size(
        spec, fingerprint.labels.outputs, flat.patch, budget=budget, slices=slices, paper=paper
    )
    steps, epochs_why = _steps(name, fingerprint, stages, dimensions=2, batch_size=samples, paper=paper)
    return TrainerPlan(
        configuration="2d",
        network=spec,
        augmentation=Augmentation() if paper else AUTO_AUGMENTATION,
        steps=steps,
        why={
            "network": network_why(spec, flat.patch, paper=paper),
            "steps": why,
            "batch_size": batch_why,
            **_constants_why(stages, dimensions=2, paper=paper),
            "selection": "the paper keeps the weights of the best Dice on a fifth of the slices, held out by cases"
            if paper
            else LAST_WHY,
            **{
                f"steps.{number}.selection": "no case of it has a truth to be judged by: it keeps its last weights"
                for number, step in enumerate(steps)
                if paper and step.selection == "last"
            },
            **{f"steps.{number}.epochs": reason for number, reason in enumerate(epochs_why)},
            **{
                f"steps.{number}.pseudo.{rule}": reason
                for number, step in enumerate(steps)
                if step.pseudo == AUTO_RULES
                for rule, reason in AUTO_RULES_WHY.items()
            },
        },
    )


def plan_3d(name: str, fingerprint: Fingerprint, outline: Outline, *, stages: Sequence[Stage]) -> TrainerPlan | None:
    """The part of trainer `name`: a 3D network with a head for each group of `stages`, which are trained in order.

    A U-Net starts from random weights. A transformer starts from the encoder of MAE, which stays frozen.
    None where no case is annotated for the groups.
    """
    if not stages[0].patterns:
        return None
    paper, budget = outline.request.recipe == "paper", outline.request.budget
    patch = outline.configurations["3d"].patch
    spec = network_3d(budget, patch, stages[0].groups, paper=paper)
    samples, batch_why = batch_size(spec, fingerprint.labels.outputs, patch, budget=budget, paper=paper)
    encoder: Run | None = None
    if budget.network != "unet":
        encoder = Run(TrainerMAE.name, 1)
        stages = [replace(stage, trained=("decoder", "heads")) for stage in stages]
    steps, epochs_why = _steps(
        name, fingerprint, stages, dimensions=3, batch_size=samples, paper=paper, encoder_from=encoder
    )
    return TrainerPlan(
        configuration="3d",
        network=spec,
        augmentation=Augmentation() if paper else AUTO_AUGMENTATION,
        steps=steps,
        why={
            "network": network_why(spec, patch, paper=paper),
            "subset": "; then ".join(stage.why for stage in stages),
            "batch_size": batch_why,
            "epochs": "; then ".join(epochs_why),
            **_constants_why(stages, dimensions=3, paper=paper),
            "selection": "the paper keeps the weights of the lowest Dice loss" if paper else LAST_WHY,
        },
    )


def _constants_why(stages: Sequence[Stage], *, dimensions: int, paper: bool) -> dict[str, str]:
    """The reasons for the numbers of `stages` that do not follow from the data."""
    table = PAPER_TABLE[dimensions]
    why = {
        "batches_per_epoch": {2: "every slice once", 3: f"{CROPS_PER_CASE} patches a case"}[dimensions],
        "learning_rate": table,
        "warmup_epochs": table,
        "schedule": {2: table, 3: "not stated; after the warm-up it falls as in the paper's 2D steps"}[dimensions],
        "weight_decay": table,
        "clip_norm": CLIP_WHY,
        "augmentation": "section 3.2 of the paper",
        "balance": "every case alike: the paper names no other way",
    }
    if paper:
        return why
    least = fewest_batches(MOST_EPOCHS[dimensions])
    why["batches_per_epoch"] += f", at least {least} and at most {LONGEST_EPOCH} batches"
    why["augmentation"] = (
        "more than the paper's: a small set holds few of the contrast phases and body sizes that a scan may show"
    )
    why["balance"] = "by the square root of the labels that a case answers; completed by teachers, all answer alike"
    if dimensions == 2:
        why["learning_rate"] = f"{RATE:g} was used on real scans (docs/results.md) but not compared with others"
        if any(stage.trained for stage in stages):
            why["learning_rate"] += f"; a single decoder has {RATE_OF_A_DECODER:g}, the paper's for organs"
    return why


def _steps(
    name: str,
    fingerprint: Fingerprint,
    stages: Sequence[Stage],
    *,
    dimensions: int,
    batch_size: int,
    paper: bool,
    encoder_from: Run | None = None,
) -> tuple[tuple[Step, ...], list[str]]:
    """(the steps, each of which starts from the weights of the one before; for each the reason for its epochs).

    encoder_from  that of the first step; see planning.plan.Step
    """
    made = list[Step]()
    reasons = list[str]()
    selection: Literal["lowest loss", "best dice"] = "lowest loss" if dimensions == 3 else "best dice"  # the paper's
    for before, stage in enumerate(stages):
        crops = CROPS_PER_CASE * fingerprint.count(stage.patterns)
        samples = crops if dimensions == 3 else slices_of(fingerprint, stage.patterns)
        batches, epochs, why = paced(
            samples, batch_size, updates=stage.updates, most_epochs=MOST_EPOCHS[dimensions], longest=LONGEST_EPOCH
        )
        if paper and stage.paper_epochs:
            batches, epochs = batches_of(samples, batch_size), stage.paper_epochs
            why = stage.epochs_why or PAPER_TABLE[dimensions]
        step = Step(
            subset=Subset(patterns=stage.patterns),
            starts_from=Run(name, before) if before else None,
            encoder_from=None if before else encoder_from,
            trained=stage.trained,
            groups=stage.groups,
            teachers=dict(stage.teachers),
            pseudo=(UNFILTERED if paper else AUTO_RULES) if stage.teachers else None,
            batch_size=batch_size,
            batches_per_epoch=batches,
            balance=0.0 if paper or stage.teachers else AUTO_BALANCE,  # completed by teachers, cases have all labels
            epochs=epochs,
            learning_rate=stage.learning_rate,
            warmup_epochs=stage.warmup_epochs,
            schedule="polynomial",
            selection=selection if paper and any(stage.patterns) else "last",
        )
        made.append(step)
        reasons.append(why)
    return tuple(made), reasons
