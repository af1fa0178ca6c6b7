"""The dual-decoder 2D U-Net and its curriculum, M_1 to M_4 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..networks import module_name
from ..planning.epochs import LONGEST_EPOCH, batches_of, paced, slices_of
from ..planning.fingerprint import Fingerprint
from ..planning.patterns import Pattern, asking, fullest, only, touching_all_groups, unlabelled
from ..planning.plan import Augmentation, Step, Subset, TrainerPlan
from ..planning.presets import PAPER_RESOLUTIONS, batch_size, network, network_why
from ..planning.pseudo_rules import AUTO_RULES, AUTO_RULES_WHY, UNFILTERED, PseudoRules
from ..planning.rules import Outline
from .cancer3d import Trainer3DCancer
from .organ3d import AUTO_AUGMENTATION, AUTO_BALANCE, Trainer3DOrgan
from .trainer import Trainer

UPDATES_OF_ALL, UPDATES_OF_A_DECODER = 40_000, 20_000
"""Steps of the optimizer. With about 190 slices a case the paper's steps on the whole network have 53,000 and 27,000 of
them, and those on a decoder 22,000 and 26,000."""

MOST_EPOCHS = 200
"""Neighbouring slices are nearly alike: an epoch of a small set shows each organ dozens of times."""


@dataclass(frozen=True)
class Stage:
    """What sets the steps apart (Table 3 of the paper); epochs None: by the size of the data."""

    patterns: tuple[Pattern, ...]
    epochs: int | None
    learning_rate: float
    teachers: dict[str, str]
    trained: tuple[str, ...]
    groups: tuple[str, ...]
    balance: float = 0.0
    pseudo: PseudoRules | None = None


class TrainerDualDecoder2D(Trainer):
    """A 2D U-Net with a decoder per group: two steps of the whole network, then one per group with all else frozen."""

    name = "DualDecoder2D"

    @classmethod
    def plan(cls, fingerprint: Fingerprint, outline: Outline) -> TrainerPlan | None:
        """Steps of the whole network, then of one decoder after the other.

        paper  1 unlabelled cases, all pseudo; 2 cases that ask for every group, the rest pseudo; then per group those
               with the most of the first group, and those with nothing but a later group
        auto   all cases, with pseudo labels for what nobody looked for (where there is such); all annotated cases, by
               hand-drawn labels alone; then, where there are several groups, per group every case that asks for it.
               With few cases no cohort is worth leaving out, and the last steps, which decide, see only what people
               drew.
        A cohort that the paper's step wants and the set has not is replaced by all cases that could serve; a group
        that nobody looked for has no step of its own. Without unlabelled cases (outline.unlabelled) the first step of
        `paper` is left out, and that of `auto` has fewer. None where no case is labelled at all.
        """
        if not any(fingerprint.patterns):
            return None
        stages = (_paper if outline.recipe == "paper" else _auto)(fingerprint, outline)
        why = "the whole network on what is plenty, then each group's decoder on what is best"
        why += "" if outline.unlabelled else "; unlabelled cases are left out, as was asked for"
        return plan_2d(cls.name, fingerprint, outline, stages=stages, why=why)


def plan_2d(
    name: str, fingerprint: Fingerprint, outline: Outline, *, stages: Sequence[Stage], why: str
) -> TrainerPlan:
    """The part of trainer `name`, whose steps are `stages` of a network with a decoder for each group, one after the
    other; `why` is the reason for them."""
    paper, flat = outline.recipe == "paper", outline.configurations["2d"]
    spec = network(
        outline.budget.size,
        flat.patch,
        tuple(fingerprint.labels.groups),
        depth=PAPER_RESOLUTIONS if paper else 0,
        channels=1 + 2 * flat.neighbours,
    )
    samples, batch_why = batch_size(spec, fingerprint.labels.outputs, flat.patch, budget=outline.budget, paper=paper)
    made = [
        _step(fingerprint, stage, batch_size=samples, starts_from=f"{name}/{before}" if before else None)
        for before, stage in enumerate(stages)
    ]
    return TrainerPlan(
        configuration="2d",
        network=spec,
        augmentation=Augmentation() if paper else AUTO_AUGMENTATION,
        steps=tuple(step for step, _ in made),
        why={
            "network": network_why(spec, flat.patch, paper=paper),
            "steps": why,
            "batch_size": batch_why,
            "schedule": "polynomial decay with power 0.9, and AdamW with this weight decay: the paper's Table 3",
            "selection": "the paper keeps the weights of the best Dice on a fifth of the slices, held out by cases",
            **{f"steps.{number}.epochs": reason for number, (_, reason) in enumerate(made)},
            **{
                f"steps.{number}.pseudo.{field}": reason
                for number, stage in enumerate(stages)
                if stage.pseudo is AUTO_RULES
                for field, reason in AUTO_RULES_WHY.items()
            },
        },
    )


def _paper(fingerprint: Fingerprint, outline: Outline) -> list[Stage]:
    labels, patterns = fingerprint.labels, fingerprint.patterns
    annotated = tuple(pattern for pattern in patterns if pattern)
    first = next(iter(labels.groups))
    groups = tuple(labels.groups)
    stages = [
        Stage(serving, epochs, rate, _teachers(fingerprint, outline, serving), (), groups)
        for serving, epochs, rate in (
            (unlabelled(patterns) or patterns, 20, 1e-4),
            (touching_all_groups(patterns, labels) or annotated, 30, 5e-4),
        )[0 if outline.unlabelled else 1 :]
    ]
    for group, values in labels.groups.items():
        best = fullest(patterns, values) if group == first else only(patterns, values)
        epochs, rate = (60, 5e-4) if group == first else (20, 1e-4)
        if serving := best or asking(patterns, values):
            stages.append(Stage(serving, epochs, rate, {}, _decoder(group), (group,)))
    return stages


def _auto(fingerprint: Fingerprint, outline: Outline) -> list[Stage]:
    labels, annotated = fingerprint.labels, tuple(pattern for pattern in fingerprint.patterns if pattern)
    patterns = fingerprint.patterns if outline.unlabelled else annotated
    groups, stages = tuple(labels.groups), []
    if len(patterns) > 1:  # else every case answers the same, and there is nothing to fill in
        teachers = _teachers(fingerprint, outline, patterns)
        stages.append(Stage(patterns, None, 1e-3, teachers, (), groups, pseudo=AUTO_RULES))
    stages.append(Stage(annotated, None, 1e-3, {}, (), groups, AUTO_BALANCE))
    for group, values in labels.groups.items() if len(groups) > 1 else ():
        if serving := asking(patterns, values):
            stages.append(Stage(serving, None, 5e-4, {}, _decoder(group), (group,), AUTO_BALANCE))
    return stages


def _step(
    fingerprint: Fingerprint, stage: Stage, *, batch_size: int, starts_from: str | None
) -> tuple[Step, str]:
    """The step and the reason for its epochs."""
    slices = slices_of(fingerprint, stage.patterns)
    updates = UPDATES_OF_A_DECODER if stage.trained else UPDATES_OF_ALL
    batches, epochs, why = paced(
        slices, batch_size, updates=updates, most_epochs=MOST_EPOCHS, longest=LONGEST_EPOCH
    )
    if stage.epochs is not None:
        batches, epochs, why = batches_of(slices, batch_size), stage.epochs, "Table 3 of the paper"
    step = Step(
        subset=Subset(patterns=stage.patterns),
        starts_from=starts_from,
        trained=stage.trained,
        groups=stage.groups,
        teachers=stage.teachers,
        pseudo=stage.pseudo or (UNFILTERED if stage.teachers else None),
        batch_size=batch_size,
        batches_per_epoch=batches,
        balance=stage.balance,
        epochs=epochs,
        learning_rate=stage.learning_rate,
        schedule="polynomial",
        selection="best dice",
    )
    return step, why


def _teachers(fingerprint: Fingerprint, outline: Outline, patterns: Sequence[Pattern]) -> dict[str, str]:
    """Group -> the last step of the 3D trainer that answers it, for the groups of which cases of `patterns` lack some
    label, as far as there are cases to train such a model on."""
    runs = {}
    for trainer in (Trainer3DOrgan, Trainer3DCancer):
        part = trainer.plan(fingerprint, outline)
        if part is None:
            continue
        for group in part.network.groups:
            values = set(fingerprint.labels.groups[group])
            if asking(fingerprint.patterns, values) and not all(values <= set(pattern) for pattern in patterns):
                runs[group] = f"{trainer.name}/{len(part.steps)}"
    return runs


def _decoder(group: str) -> tuple[str, ...]:
    return (f"decoders.{module_name(group)}",)
