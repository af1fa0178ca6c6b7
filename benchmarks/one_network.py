"""A plan for a network that no planner chose."""

from __future__ import annotations

from flarenet.data.labels import LabelSet
from flarenet.planning.plan import Configuration, NetworkSpec, Plan, Step, Subset, TrainerPlan


def plan_of(
    network: NetworkSpec, labels: LabelSet, *, spacing_mm: tuple, patch: tuple[int, ...], trainer: str = "Net"
) -> Plan:
    """A plan to predict with `network` on windows of `patch`, at `spacing_mm`, in a soft-tissue window. Its one step
    stands for any."""
    configuration = Configuration(
        spacing_mm=spacing_mm, inference_spacing_mm=spacing_mm, patch=patch, clip_hu=(-160.0, 240.0)
    )
    step = Step(
        subset=Subset(patterns=((),)),
        groups=network.groups,
        batch_size=1,
        batches_per_epoch=1,
        epochs=1,
        learning_rate=1e-3,
    )
    return Plan(
        recipe="auto",
        dataset="Phantom",
        labels=labels,
        fingerprint_hash="0",
        configurations={"only": configuration},
        trainers={trainer: TrainerPlan(configuration="only", network=network, steps=(step,))},
    )
