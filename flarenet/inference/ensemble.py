"""Several models that answer as one: in each voxel the label of the highest mean probability."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import RunError, UsageError
from ..planning.plan import override
from ..preparation.prepare import Frame, normalise, prepare_image
from ..preparation.upright import on_grid, upright
from ..volume import Volume
from .fuse import decided
from .model import Model, load_model
from .predict import Predictor
from .stream import slices_between
from .upsample import Planes, logits_between
from .views import View
from .windows import Slab


class Ensemble(Predictor):
    """A Predictor of several models. Each group is the mean over the models that answer it, whatever they were
    trained at: probabilities meet at the scan's own resolution, a slice at a time. The fusion is the first one's.

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
        self.members = tuple(
            Predictor(model, device=device, precision=precision, engine=engine, batch_size=batch_size)
            for model in models
        )
        first = self.members[0].model
        for member in self.members:
            if member.model.labels != first.labels:
                raise RunError(
                    f"model {member.model.folder}", found="other labels", expected=f"those of {first.folder}"
                )
        super().__init__(first, device=device, engine=self.members[0].engine, batch_size=batch_size, roi=roi)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of labels that one of the models answers."""
        answered = {group for member in self.members for group in member.groups}
        return tuple(group for group in self.model.labels.groups if group in answered)

    def predict_views(self, volume: Volume, views: Iterable[View]) -> Iterator[dict[str, np.ndarray]]:
        """As Predictor's, for every group that one of the models answers."""
        straight = upright(volume)
        seen = self._seen(straight)
        orientation = seen[0][1].orientation
        for view in views:
            answers = [
                _Answer(member.model.groups, _planes(member.logits(image, view), frame), frame)
                for member, (image, frame) in zip(self.members, seen)
            ]
            maps = self._maps(answers, orientation.apply_to_grid(straight.grid).shape)
            yield {g: on_grid(orientation.undo(drawn), straight.grid, volume.grid) for g, drawn in maps.items()}

    def _seen(self, straight: Volume) -> list[tuple[np.ndarray, Frame]]:
        """What each member sees, float32 in [0, 1], and where it lies; members of one configuration share an image."""
        prepared: dict[str, tuple[np.ndarray, Frame]] = {}
        keys = [member.model.configuration.model_dump_json() for member in self.members]
        for key, member in zip(keys, self.members):
            if key not in prepared:
                one = prepare_image(straight, member.model.configuration, inference=True)
                prepared[key] = normalise(one.image), one.frame
        return [prepared[key] for key in keys]

    def _maps(self, answers: Sequence[_Answer], shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
        """The group maps on the turned scan of `shape`."""
        counts = {group: 1 + len(values) for group, values in self.model.labels.groups.items()}
        maps = {group: np.zeros(shape, dtype=np.uint8) for group in self.groups}
        for z in range(shape[0]):
            planes = [answer.at(z) for answer in answers]
            totals: Planes = {}
            for group in self.groups:
                totals[group] = torch.zeros((counts[group], *shape[1:]), device=self.device)
                for answer, plane in zip(answers, planes):
                    if group in answer.groups:
                        answer.add(totals[group], None if plane is None else plane[group])
            for group, drawn in decided(totals, fusion=self.model.plan.fusion, labels=self.model.labels).items():
                maps[group][z] = drawn
        return maps


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
        opened = [replace(model, plan=override(model.plan, changes)) for model in opened]
    if len(opened) == 1:
        return Predictor(opened[0], device=device, precision=precision, engine=engine, batch_size=batch_size, roi=roi)
    return Ensemble(opened, device=device, precision=precision, engine=engine, batch_size=batch_size, roi=roi)


def _planes(slabs: Iterable[Slab], frame: Frame) -> Iterator[Planes]:
    """The logits of the slices of frame.box at the scan's own resolution, lowest first."""
    return (logits_between(*place) for place in slices_between(slabs, frame))


@dataclass(frozen=True)
class _Answer:
    """What one model says, slice by slice of the box that it looks at."""

    groups: Sequence[str]
    planes: Iterator[Planes]
    frame: Frame

    def at(self, z: int) -> Planes | None:
        """Its logits of slice `z` of the turned scan; None outside the box."""
        inside = self.frame.box.slices[0]
        return next(self.planes) if inside.start <= z < inside.stop else None

    def add(self, total: Tensor, logits: Tensor | None) -> None:
        """Add its probabilities to those of a whole slice [1 + n, Y, X]: outside the box all is background."""
        total[0] += 1
        if logits is not None:
            _, rows, columns = self.frame.box.slices
            total[0, rows, columns] -= 1
            total[:, rows, columns] += logits.softmax(0)
