"""The 3D cancer model, M_c of the paper: the teacher of every group that is drawn over the first group."""

from __future__ import annotations

from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import TrainerPlan
from ..planning.rules.configurations import Outline
from ..planning.rules.patterns import with_any_of
from ..planning.rules.training import RATE_3D
from .stages import Stage, plan_3d
from .trainer import Trainer


class Trainer3DCancer(Trainer):
    """A 3D network for all groups of the data set but the first, with a head for each."""

    name = "3DCancer"

    @classmethod
    def plan(cls, fingerprint: Fingerprint, outline: Outline) -> TrainerPlan | None:
        """One step on every case annotated for any of these groups (D_c); None where there is no such case."""
        _, *later = fingerprint.labels.groups
        if not later:
            return None
        values = [value for group in later for value in fingerprint.labels.groups[group]]
        stage = Stage(
            with_any_of(fingerprint.patterns, values),
            tuple(later),
            RATE_3D,
            "every case in which a label of these groups was looked for, as the paper's D_c",
            warmup_epochs=5,
            paper_epochs=60,
        )
        return plan_3d(cls.name, fingerprint, outline, stages=[stage])
