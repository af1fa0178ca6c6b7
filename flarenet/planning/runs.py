"""How a plan names a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .plan import Plan


class Run(NamedTuple):
    """Step `step`, counted from 1, of a trainer. In plans and on the command line it is written "TRAINER/STEP"."""

    trainer: str
    step: int

    @classmethod
    def parse(cls, text: str) -> Run:
        """The run that `text`, from a checked plan, names."""
        trainer, _, step = text.rpartition("/")
        return cls(trainer, int(step))

    def __str__(self) -> str:
        return f"{self.trainer}/{self.step}"


def runs_of(plan: Plan) -> list[Run]:
    """Every run of a plan, trainer by trainer."""
    return [Run(name, number) for name, part in plan.trainers.items() for number in range(1, len(part.steps) + 1)]
