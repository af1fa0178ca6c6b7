"""A trainer's part of the plan, made from the stages of its curriculum, for 2D and 3D networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..planning.budget import Recipe
from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import NetworkSpec, Step, Subset, TrainerPlan
from ..planning.rules.configurations import Outline
from ..planning.rules.epochs import CROPS_PER_CASE, LONGEST_EPOCH, batches_of, paced, slices_of
from ..planning.rules.patterns import Pattern
from ..planning.rules.presets import batch_size, network, network_3d, network_why, paper_network
from ..planning.rules.training import CONSTANTS, MOST_EPOCHS, PAPER_TABLE, UPDATES, Constants
from ..planning.runs import Run
from .mae import TrainerMAE


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
    spec, network_reason = _u_net(outline, "2d", tuple(fingerprint.labels.groups))
    return _part(name, fingerprint, outline, stages, spec=spec, why={"network": network_reason, "steps": why})


def plan_3d(name: str, fingerprint: Fingerprint, outline: Outline, *, stages: Sequence[Stage]) -> TrainerPlan | None:
    """The part of trainer `name`: a 3D network with a head for each group of `stages`, which are trained in order.

    A U-Net starts from random weights. A transformer starts from the encoder of MAE, which stays frozen.
    None where no case is annotated for the groups.
    """
    if not stages[0].patterns:
        return None
    budget, groups = outline.request.budget, stages[0].groups
    if budget.network == "unet":
        spec, why = _u_net(outline, "3d", groups)
        return _part(name, fingerprint, outline, stages, spec=spec, why={"network": why})
    return _part(
        name,
        fingerprint,
        outline,
        [replace(stage, trained=("decoder", "heads")) for stage in stages],
        spec=network_3d(budget, outline.configurations["3d"].patch, groups),
        why={"network": "MONAI's, in the size of its own paper; its encoder comes from MAE and stays frozen"},
        encoder_from=Run(TrainerMAE.name, 1),
    )


def _u_net(outline: Outline, configuration: str, groups: tuple[str, ...]) -> tuple[NetworkSpec, str]:
    """(the U-Net of the recipe, the reason for it)."""
    numbers = outline.configurations[configuration]
    channels = 1 + 2 * numbers.neighbours
    if outline.request.recipe == "paper":
        spec = paper_network(len(numbers.patch), groups, channels=channels)
        return spec, "the network whose number of parameters is the paper's"
    spec = network(outline.request.budget.size, numbers.patch, groups, channels=channels)
    return spec, network_why(spec, numbers.patch)


def _part(
    name: str,
    fingerprint: Fingerprint,
    outline: Outline,
    stages: Sequence[Stage],
    *,
    spec: NetworkSpec,
    why: Mapping[str, str],
    encoder_from: Run | None = None,
) -> TrainerPlan:
    """The part of trainer `name`: `spec`, trained in `stages`, each of which starts from the weights of the one before.

    why           the reasons for the network and the stages
    encoder_from  that of the first step; see planning.plan.Step
    """
    recipe, dimensions, configuration = outline.request.recipe, spec.dimensions, f"{spec.dimensions}d"
    constants = CONSTANTS[recipe, dimensions]
    samples = [_samples(fingerprint, stage, dimensions) for stage in stages]
    size, size_why = batch_size(
        spec,
        fingerprint.labels.outputs,
        outline.configurations[configuration].patch,
        budget=outline.request.budget,
        slices=max(samples) if dimensions == 2 else None,
        fewest=constants.fewest_samples,
    )
    paces = [_pace(stage, count, size, recipe=recipe, dimensions=dimensions) for stage, count in zip(stages, samples)]
    steps = tuple(
        _step(stage, constants, size, batches, epochs).model_copy(
            update={"starts_from": Run(name, before)} if before else {"encoder_from": encoder_from}
        )
        for before, (stage, (batches, epochs, _)) in enumerate(zip(stages, paces))
    )
    decoder_why = constants.decoder_why if any(stage.trained for stage in stages) else ""
    return TrainerPlan(
        configuration=configuration,
        network=spec,
        augmentation=constants.augmentation,
        steps=steps,
        why={
            **why,
            "batch_size": size_why,
            **constants.why,
            "learning_rate": constants.why["learning_rate"] + decoder_why,
            **_own_why(constants, stages, steps, [epochs_why for _, _, epochs_why in paces]),
        },
    )


def _samples(fingerprint: Fingerprint, stage: Stage, dimensions: int) -> int:
    """How many samples show the cases of a stage once: their slices in 2D, their patches in 3D."""
    if dimensions == 2:
        return slices_of(fingerprint, stage.patterns)
    return CROPS_PER_CASE * fingerprint.count(stage.patterns)


def _pace(stage: Stage, samples: int, batch_size: int, *, recipe: Recipe, dimensions: int) -> tuple[int, int, str]:
    """(batches of an epoch, epochs, the reason for the epochs)."""
    if recipe == "paper" and stage.paper_epochs:
        return batches_of(samples, batch_size), stage.paper_epochs, stage.epochs_why or PAPER_TABLE[dimensions]
    most = MOST_EPOCHS[dimensions]
    return paced(samples, batch_size, updates=stage.updates, most_epochs=most, longest=LONGEST_EPOCH)


def _step(stage: Stage, constants: Constants, batch_size: int, batches: int, epochs: int) -> Step:
    """The step of a stage, from random weights."""
    return Step(
        subset=Subset(patterns=stage.patterns),
        trained=stage.trained,
        groups=stage.groups,
        teachers=dict(stage.teachers),
        pseudo=constants.pseudo if stage.teachers else None,
        batch_size=batch_size,
        batches_per_epoch=batches,
        balance=0.0 if stage.teachers else constants.balance,
        epochs=epochs,
        learning_rate=stage.learning_rate,
        warmup_epochs=stage.warmup_epochs,
        schedule="polynomial",
        selection=constants.selection if any(stage.patterns) else "last",
    )


def _own_why(
    constants: Constants, stages: Sequence[Stage], steps: Sequence[Step], epochs_why: Sequence[str]
) -> dict[str, str]:
    """The reasons that each step has of its own."""
    no_truth = "no case of it has a truth to be judged by: it keeps its last weights"
    unjudged = [number for number, step in enumerate(steps) if step.selection != constants.selection]
    taught = [number for number, step in enumerate(steps) if step.teachers]
    return {
        **{f"steps.{number}.subset": stage.why for number, stage in enumerate(stages) if stage.why},
        **{f"steps.{number}.selection": no_truth for number in unjudged},
        **{f"steps.{number}.epochs": why for number, why in enumerate(epochs_why)},
        **{f"steps.{number}.pseudo.{rule}": why for number in taught for rule, why in constants.pseudo_why.items()},
    }
