"""How a plan names a training run."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import PlainSerializer, PlainValidator


class Run(NamedTuple):
    """Step `step`, counted from 1, of a trainer. In files and on the command line it is written "TRAINER/STEP"."""

    trainer: str
    step: int

    def __str__(self) -> str:
        return f"{self.trainer}/{self.step}"


def as_run(value: object) -> Run:
    """The run that `value` is, or that it names as "TRAINER/STEP". Raises a ValueError for anything else."""
    if isinstance(value, Run):
        return value
    trainer, _, step = value.rpartition("/") if isinstance(value, str) else ("", "", "")
    if not (trainer and step.isdecimal()):
        raise ValueError('a run, as "TRAINER/STEP"')  # what was expected, as schema.parse_all has it
    return Run(trainer, int(step))


RunName = Annotated[Run, PlainValidator(as_run), PlainSerializer(Run.__str__)]
"""A run as a field of data: a Run, but "TRAINER/STEP" in JSON."""
