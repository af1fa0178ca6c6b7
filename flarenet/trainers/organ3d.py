"""The 3D organ model, M_o2 of the paper: the teacher of the first group."""

from __future__ import annotations

from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import TrainerPlan
from ..planning.rules.configurations import Outline
from ..planning.rules.patterns import fullest, with_any_of
from ..planning.rules.training import RATE_3D
from .stages import Stage, plan_3d
from .trainer import Trainer


class Trainer3DOrgan(Trainer):
    """A 3D network on the first group of the data set."""

    name = "3DOrgan"

    @classmethod
    def plan(cls, fingerprint: Fingerprint, outline: Outline) -> TrainerPlan | None:
        """One step. With `paper`: the cases annotated for the most organs; with `auto`: those annotated for any.

        A transformer has two steps, where these cases differ: on those annotated for any, then on those annotated for
        the most, M_o1 and M_o2 of the paper. None where no case is annotated for the group.
        """
        group, values = next(iter(fingerprint.labels.groups.items()))
        every = Stage(
            with_any_of(fingerprint.patterns, values),
            (group,),
            RATE_3D,
            "every case in which any label of the group was looked for; the loss merges the others with background",
            warmup_epochs=10,
            paper_epochs=60,
            epochs_why="the paper does not say; those of its cancer model, which has about as many cases",
        )
        best = Stage(
            fullest(fingerprint.patterns, values),
            (group,),
            RATE_3D,
            "the cases with the most labels of the group, as the paper's D_o13",
            warmup_epochs=10,
            paper_epochs=250,
        )
        if outline.request.budget.network == "unet" or every.patterns == best.patterns:
            stages = [best if outline.request.recipe == "paper" else every]
        else:
            stages = [every, best]
        return plan_3d(cls.name, fingerprint, outline, stages=stages)
