"""How models answer one scan: prepare, run, resample back, lay the groups over each other.

Each step takes slices from the one before it. They stand here from the last, whose slices the sinks take, to the first,
which reads the scan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat, tee

import numpy as np

from ..data.labels import join
from ..planning.cost.memory import inference_spacing
from ..planning.plan import Configuration, ScanSize
from ..preparation.passing import in_order
from ..preparation.prepare import Frame, normalise, prepared_planes
from ..preparation.reoriented import ReorientedScan, ReorientedVolume
from ..preparation.upright import upright
from .member import Member
from .models.about import Described
from .outputs.slices import FinishedSlice, Sink
from .settle import Settled
from .stages import Stages
from .stream import Answer, Place, answer_of, collected, on_own_grid, places
from .views import View


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers for one scan, in the order of its planes.

    members        the models that answer as one; the first one's fusion holds for all
    groups         the groups to answer
    stages         where the steps run beside each other
    view           of the scan, for every model
    probabilities  whether the answers have them
    """

    scan: ReorientedScan
    members: Sequence[Member]
    groups: Sequence[str]
    stages: Stages
    view: View = View()
    probabilities: bool = False

    def finished(self, sinks: Sequence[Sink], shown: Collection[int]) -> Iterator[FinishedSlice]:
        """Every finished slice, with the labels whose values are `shown`, and what else the sinks want."""
        wanted = replace(self, probabilities=any(sink.wants_probabilities for sink in sinks))
        answers = wanted._settled() if self._first.plan.fusion.needs_parts else wanted._answers()
        images: Iterable[np.ndarray | None] = repeat(None)
        if any(sink.wants_image for sink in sinks):  # to read the file again costs less than to keep its slices
            images = self.stages.ahead("image", (plane.astype(np.float32) for plane in self.scan.planes()))
        for answer, image in zip(answers, images):
            drawn = join(answer.maps, self._first.labels, shown)
            answered = any(of_group.any() for of_group in answer.maps.values())
            yield FinishedSlice(answer.z, drawn, image, answer.probabilities, answered)

    def _settled(self) -> Iterator[Answer]:
        """Every slice's answer, for rules that need connected parts. For probabilities the network then runs a second
        time, because those of all slices do not fit in memory."""
        answers = replace(self, probabilities=False)._answers()
        slices = ((each.z, each.maps) for each in answers)
        fusion, labels = self._first.plan.fusion, self._first.labels
        settled = Settled(slices, fusion, groups=self.groups, labels=labels, grid=self.scan.grid)
        again = self._answers() if self.probabilities else (Answer(z, {}) for z in self._order)
        for each in again:
            yield replace(each, maps=settled.maps(each.z))

    def whole(self) -> dict[str, np.ndarray]:
        """{group: uint8 [Z, Y, X]} for the reoriented scan, before Settled: 0 background, 1..n the group's labels."""
        return collected(self._answers(), self.scan.grid.shape)

    def _answers(self) -> Iterator[Answer]:
        """Every slice's answer, before Settled."""
        if self.scan.original.leans:
            return self._leaning()
        frames, columns = zip(*self._places())
        rows = zip(self._order, self.stages.ahead("network", zip(*columns)))
        return self.stages.ahead("labels", (self._answer(z, row, frames) for z, row in rows))

    def _leaning(self) -> Iterator[Answer]:
        """The answers for a scan whose axes lean: those for the upright scan, brought back."""
        if not isinstance(self.scan, ReorientedVolume):
            raise ValueError("a scan with axes that lean is read into memory")
        straight = replace(self, scan=ReorientedVolume(upright(self.scan.volume)))
        labels = {group: len(self._first.labels.groups[group]) for group in self.groups}
        return on_own_grid(
            straight._answers(), straight.scan.grid, self.scan.grid, labels=labels, probabilities=self.probabilities
        )

    def _answer(self, z: int, row: Sequence[Place | None], frames: Sequence[Frame]) -> Answer:
        """The answer for slice `z`, from the place that each member gives for it."""
        groups, probabilities = self.groups, self.probabilities
        if len(self.members) > 1:
            from .ensemble import mean_answer

            return mean_answer(z, row, frames, members=self.members, groups=groups, probabilities=probabilities)
        return answer_of(
            z,
            row[0],
            frames[0],
            groups=groups,
            fusion=self._first.plan.fusion,
            labels=self._first.labels,
            probabilities=probabilities,
        )

    def _places(self) -> Iterator[tuple[Frame, Iterator[Place | None]]]:
        """For each member the Frame of what it sees, and the places of all slices in it. Members of one configuration
        share the prepared image."""
        keys = [member.model.configuration.model_dump_json() for member in self.members]
        shared: dict[str, tuple[Frame, list[Iterator[np.ndarray]]]] = {}
        for key, member in zip(keys, self.members):
            if key not in shared:
                frame, planes = self._prepared(member.model.configuration)
                shared[key] = frame, list(tee(planes, keys.count(key)))
            frame, copies = shared[key]
            logits = member.logits(copies.pop(), frame.grid.shape, self.view, descending=self.scan.descending)
            yield frame, places(logits, frame, descending=self.scan.descending)

    def _prepared(self, configuration: Configuration) -> tuple[Frame, Iterator[np.ndarray]]:
        """The Frame of the image that a network of `configuration` sees, and its planes, float32 [Y, X] in [0, 1]."""
        grid = self.scan.grid
        spacing_mm = inference_spacing(ScanSize(shape=grid.shape, spacing_mm=grid.spacing_mm), configuration)
        # in a stage of its own, as unpacking planes takes as long as resampling them
        unpacked = partial(self.stages.ahead, "unpack")
        frame, planes = prepared_planes(self.scan, configuration, spacing_mm=spacing_mm, ahead=unpacked)
        return frame, self.stages.ahead("prepare", (normalise(plane) for plane in planes))

    @property
    def _first(self) -> Described:
        """The model whose fusion and label table hold for all."""
        return self.members[0].model

    @property
    def _order(self) -> Sequence[int]:
        """The numbers of the scan's planes, as these come."""
        return in_order(range(self.scan.grid.shape[0]), self.scan.descending)
