"""Several models that answer as one: in each voxel the label of the highest mean probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UsageError
from ..planning.plan_file import override
from ..preparation.prepare import Frame
from .fuse import decided
from .model import Model, check_alike, load_model
from .predict import Predictor
from .stream import Answer, Place
from .upsample import Planes, logits_between


class Ensemble(Predictor):
    """A Predictor of several models. Each group is the mean over the models that answer it, whatever they were
    trained at: probabilities meet at the scan's own resolution, a slice at a time. The fusion is the first one's, its
    flips too.

    Arguments as Predictor's. Raises RunError as it does, and where the models' label tables differ.
    """

    def __init__(
        self,
        models: Sequence[Model | Path | str],
        *,
        device: str = "auto",
        precision: str = "auto",
        engine: str = "auto",
        batch_size: int | None = None,
        roi: Sequence[str] | None = None,
    ) -> None:
        opened = [model if isinstance(model, Model) else load_model(model) for model in models]
        first, fusion = opened[0], {"fusion": opened[0].plan.fusion}
        check_alike(opened)
        self._members = tuple(
            Predictor(
                replace(model, plan=model.plan.model_copy(update=fusion)),
                device=device,
                precision=precision,
                engine=engine,
                batch_size=batch_size,
            )
            for model in opened
        )
        super().__init__(first, device=device, engine=self._members[0].engine, batch_size=batch_size, roi=roi)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of labels that one of the models answers."""
        answered = {group for member in self.members for group in member.model.groups}
        return tuple(group for group in self.model.labels.groups if group in answered)

    @property
    def members(self) -> tuple[Predictor, ...]:
        return self._members

    def _answer(self, z: int, row: Sequence[Place | None], frames: Sequence[Frame], *, probabilities: bool) -> Answer:
        size = frames[0].orientation.apply_to_grid(frames[0].original).shape[1:]
        logits = [None if place is None else logits_between(*place) for place in row]
        totals: Planes = {}
        for group in self.groups:
            count = 1 + len(self.model.labels.groups[group])
            totals[group] = torch.zeros((count, *size), device=self.device)
            for member, said, frame in zip(self.members, logits, frames):
                if group in member.groups:
                    _add(totals[group], None if said is None else said[group], frame)
        maps = decided(totals, fusion=self.model.plan.fusion, labels=self.model.labels)
        if not probabilities:
            return Answer(z, maps)
        return Answer(z, maps, {group: (total / total.sum(0)).cpu().numpy() for group, total in totals.items()})


def open_models(
    models: Sequence[Model | Path | str],
    *,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    batch_size: int | None = None,
    changes: Sequence[str] = (),
    roi: Sequence[str] | None = None,
) -> Predictor:
    """The Predictor of one model, or the Ensemble of several; arguments as theirs.

    changes  "fusion.FIELD=VALUE": how the answers of the groups are put together, otherwise than in the models' plans
    Raises UsageError for a change of anything else, which was settled when the models were trained.
    """
    for change in changes:
        if not change.startswith("fusion."):
            raise UsageError(f"--set {change!r}", found="no field of fusion", expected="fusion.FIELD=VALUE")
    opened = [model if isinstance(model, Model) else load_model(model) for model in models]
    if changes:
        opened = [replace(model, plan=override(model.plan, changes, trained=True)) for model in opened]
    if len(opened) == 1:
        return Predictor(opened[0], device=device, precision=precision, engine=engine, batch_size=batch_size, roi=roi)
    return Ensemble(opened, device=device, precision=precision, engine=engine, batch_size=batch_size, roi=roi)


def _add(total: Tensor, logits: Tensor | None, frame: Frame) -> None:
    """Add a model's probabilities to those of a whole slice [1 + n, Y, X]: outside its box all is background."""
    total[0] += 1
    if logits is not None:
        _, rows, columns = frame.box.slices
        total[0, rows, columns] -= 1
        total[:, rows, columns] += logits.softmax(0)
