"""One step on all annotated cases at once: the alternative to the curriculum."""

from __future__ import annotations

from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import TrainerPlan
from ..planning.rules.configurations import Outline
from ..planning.rules.training import RATE
from .stages import Stage, plan_2d
from .trainer import Trainer


class TrainerJoint(Trainer):
    """Trains every group on every pattern in the same batches, by the marginal loss: no teachers, nothing frozen.

    The network is that of the curriculum. A plan may give the step teachers, and unlabelled cases for them to label.
    """

    name = "Joint"

    @classmethod
    def plan(cls, fingerprint: Fingerprint, outline: Outline) -> TrainerPlan | None:
        """One step, from random weights. None for the recipe `paper`, and where all cases have the same pattern: then
        the curriculum begins with this very step."""
        if outline.request.recipe == "paper" or len(fingerprint.patterns) < 2:
            return None
        annotated = tuple(pattern for pattern in fingerprint.patterns if pattern)
        stage = Stage(annotated, tuple(fingerprint.labels.groups), RATE)
        why = "every annotated case at once; the loss merges what nobody looked for with background"
        return plan_2d(cls.name, fingerprint, outline, stages=(stage,), why=why)
