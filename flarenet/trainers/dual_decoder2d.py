"""The dual-decoder 2D U-Net and its curriculum, M_1 to M_4 of the paper."""

from __future__ import annotations

from collections.abc import Sequence

from ..networks import module_name
from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import TrainerPlan
from ..planning.rules.configurations import Outline
from ..planning.rules.patterns import Pattern, fullest, only, touching_all_groups, unlabelled, with_any_of
from ..planning.rules.training import RATE, RATE_OF_A_DECODER, UPDATES_OF_A_DECODER
from ..planning.runs import Run
from .cancer3d import Trainer3DCancer
from .organ3d import Trainer3DOrgan
from .stages import Stage, plan_2d
from .trainer import Trainer


class TrainerDualDecoder2D(Trainer):
    """A 2D U-Net with a decoder per group: two steps of the whole network, then one per group with all else frozen."""

    name = "DualDecoder2D"

    @classmethod
    def plan(cls, fingerprint: Fingerprint, outline: Outline) -> TrainerPlan | None:
        """Steps of the whole network, then of one decoder after the other.

        Recipe paper:
        1. unlabelled cases, with all labels pseudo labels
        2. cases annotated for some label of every group, with pseudo labels for the rest
        3. the first group's decoder, on the cases with the most labels of that group
        4. each later group's decoder, on the cases annotated for that group alone

        Recipe auto:
        1. all cases, with pseudo labels for what is not annotated; no such step where all cases have one pattern
        2. all annotated cases, without pseudo labels
        3. where there are several groups, each group's decoder, on every case annotated for it
        With few cases no cohort is worth leaving out, and the last steps, which decide, see only manual annotations.

        Where the data set lacks a cohort that a step of `paper` needs, all cases that could serve take its place. A
        group that is nowhere annotated has no step of its own. With Request.without the first step of `paper` is left
        out, and that of `auto` has no unlabelled cases. None where no case is annotated at all.
        """
        if not any(fingerprint.patterns):
            return None
        stages = (_paper if outline.request.recipe == "paper" else _auto)(fingerprint, outline)
        why = "the whole network on the most cases, then each group's decoder on the best ones"
        why += "; unlabelled cases are left out, as requested" if outline.request.without else ""
        return plan_2d(cls.name, fingerprint, outline, stages=stages, why=why)


def _paper(fingerprint: Fingerprint, outline: Outline) -> list[Stage]:
    labels, patterns = fingerprint.labels, fingerprint.patterns
    annotated = tuple(pattern for pattern in patterns if pattern)
    first, *_ = groups = tuple(labels.groups)
    stages = [
        Stage(serving, groups, rate, teachers=_teachers(fingerprint, outline, serving), paper_epochs=epochs)
        for serving, epochs, rate in (
            (unlabelled(patterns) or patterns, 20, 1e-4),
            (touching_all_groups(patterns, labels) or annotated, 30, 5e-4),
        )[1 if outline.request.without else 0 :]
    ]
    for group, values in labels.groups.items():
        best = fullest(patterns, values) if group == first else only(patterns, values)
        epochs, rate = (60, 5e-4) if group == first else (20, 1e-4)
        if serving := best or with_any_of(patterns, values):
            stages.append(_of_decoder(group, serving, rate, paper_epochs=epochs))
    return stages


def _auto(fingerprint: Fingerprint, outline: Outline) -> list[Stage]:
    labels, annotated = fingerprint.labels, tuple(pattern for pattern in fingerprint.patterns if pattern)
    patterns = annotated if outline.request.without else fingerprint.patterns
    groups, stages = tuple(labels.groups), []
    if len(patterns) > 1:  # with one pattern there is nothing to fill in
        stages.append(Stage(patterns, groups, RATE, teachers=_teachers(fingerprint, outline, patterns)))
    stages.append(Stage(annotated, groups, RATE))
    for group, values in labels.groups.items() if len(groups) > 1 else ():
        if serving := with_any_of(patterns, values):
            stages.append(_of_decoder(group, serving, RATE_OF_A_DECODER))
    return stages


def _of_decoder(group: str, serving: tuple[Pattern, ...], learning_rate: float, *, paper_epochs: int = 0) -> Stage:
    trained = (f"decoders.{module_name(group)}",)
    return Stage(
        serving, (group,), learning_rate, trained=trained, updates=UPDATES_OF_A_DECODER, paper_epochs=paper_epochs
    )


def _teachers(fingerprint: Fingerprint, outline: Outline, patterns: Sequence[Pattern]) -> dict[str, Run]:
    """{group: last step of the 3D trainer that predicts it}, for groups of which some case of `patterns` lacks a label
    and some case of the data set is annotated."""
    runs = {}
    for trainer in (Trainer3DOrgan, Trainer3DCancer):
        part = trainer.plan(fingerprint, outline)
        if part is None:
            continue
        for group in part.network.groups:
            values = set(fingerprint.labels.groups[group])
            if with_any_of(fingerprint.patterns, values) and not all(values <= set(pattern) for pattern in patterns):
                runs[group] = Run(trainer.name, len(part.steps))
    return runs
