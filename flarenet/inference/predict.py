"""From an image to its label map; answers has the steps.

>>> predictor = Predictor("runs/NAME/DualDecoder2D/step_4")
>>> prediction = predictor.predict("scan_0000.nii.gz")
>>> write_labels("scan.nii.gz", prediction.labels, like="scan_0000.nii.gz")
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.findings import Finding, remark
from ..data.reading import STRICT, Reading
from ..errors import unknown
from ..preparation.reoriented import ReorientedVolume
from ..volume import Volume
from .answers import Answers
from .member import open_member
from .models.about import Described
from .models.changes import with_changes
from .opening import OpenedScan, open_scan
from .outcome import Image, Outcome, Prediction
from .outputs.slices import LabelMap, Sink, opened
from .stages import Stages
from .views import View

if TYPE_CHECKING:
    from .engines.engine import Engine

_MB = 1 << 20


class Predictor:
    """One or several loaded models, for one scan after the other. Several models answer as one, see ensemble.

    models      model folders, trainers' folders, which stand for their folds as in models_in, or models, loaded or not;
                the first one's fusion holds for all, its flips too. A loaded Model stays as it is: what runs is a copy
                of its network
    device      as pick_device      precision  as pick_precision
    engine      as open_engine; or, for one model, one that is open, which has its own device and precision
    batch_size  slices (2D) or blocks (3D) that run at once; None is as many as make it faster, see member
    changes     "fusion.FIELD=VALUE": how answers are put together, otherwise than in the plan; or
                "configurations.NAME.overlap=SHARE": how far windows overlap. * stands for any NAME
    roi         names of the labels that come out, None for all; see data.labels.join

    Raises RunError for a model folder that cannot be used, a network that does not segment, or label tables that
    differ. Raises UsageError for an unknown label, and for a change of anything else: the rest was settled when the
    models were trained.
    """

    def __init__(
        self,
        *models: Described | Path | str,
        device: str = "auto",
        precision: str = "auto",
        engine: Engine | str = "auto",
        batch_size: int | None = None,
        changes: Sequence[str] = (),
        roi: Sequence[str] | None = None,
    ) -> None:
        described = with_changes(models, changes)
        if len(described) > 1 and not isinstance(engine, str):
            raise ValueError("an open engine runs the network of one model")
        answered = {group for model in described for group in model.groups}
        self.model = described[0]
        self.groups = tuple(group for group in self.model.labels.groups if group in answered)
        self.shown = self._values(roi)
        self.members = tuple(
            open_member(model, engine=engine, device=device, precision=precision, batch_size=batch_size)
            for model in described
        )
        self.device = self.members[0].engine.device
        self._on_gpu = "cuda" in str(self.device)

    def _values(self, roi: Sequence[str] | None) -> tuple[int, ...]:
        """The label values of `roi`, or of all labels that are answered for None, in the order of the label table."""
        labels = self.model.labels
        answered = sorted(value for group in self.groups for value in labels.groups[group])
        for name in roi or ():
            if name not in (names := labels.names_of(answered)):
                raise unknown("label of this model", name, names)
        return tuple(value for value in answered if roi is None or labels.names[value] in roi)

    def predict(self, image: Image, reading: Reading = STRICT) -> Prediction:
        """The label map of a scan, on its own grid.

        Raises DatasetError for a file that cannot be read.
        """
        kept: list[LabelMap] = []

        def keep(scan: OpenedScan) -> LabelMap:
            kept.append(LabelMap(scan.grid))
            return kept[0]

        outcome = self.predict_into([keep], image, reading)
        return Prediction(labels=kept[0].labels, **vars(outcome))

    def predict_into(
        self, openers: Sequence[Callable[[OpenedScan], Sink]], image: Image, reading: Reading = STRICT
    ) -> Outcome:
        """Predict a scan as `predict` does, but give its slices to sinks as they are finished.

        openers  each makes a sink for the scan. They are called once it is known to be sound; their sinks are finished
                 in the same order
        """
        given = image if isinstance(image, OpenedScan) else self.open(image, reading)
        scan, remarks, began = given.scan, given.remarks, time.perf_counter() - given.seconds
        if self._on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        with Stages() as stages:
            stages.seconds["read"] = given.seconds
            with opened([partial(opener, given) for opener in openers]) as sinks:
                found = all(map(self.model.labels.of_lesions, self.groups))  # a patient may have no lesion
                for finished in Answers(scan, self.members, self.groups, stages).finished(sinks, self.shown):
                    found = found or finished.answered
                    taken = time.perf_counter()
                    for sink in sinks:
                        sink.take(finished)
                    stages.seconds["write"] += time.perf_counter() - taken
        if not found:
            remarks = (*remarks, _nothing_found(given.name))
        return Outcome(
            grid=given.grid,
            seconds=time.perf_counter() - began,
            stage_s=dict(stages.seconds),
            peak_mb=self._peak_mb(),
            engine=self.engine_names,
            remarks=remarks,
            stat=given.stat,
        )

    def open(self, image: Volume | Path | str, reading: Reading = STRICT) -> OpenedScan:
        """opening.open_scan for the networks of this predictor."""
        return open_scan(image, [member.model.configuration for member in self.members], reading)

    @property
    def engine_names(self) -> str:
        """What computes, such as "torch fp32"; where members differ, all names joined by +."""
        return " + ".join(dict.fromkeys(member.engine.name for member in self.members))

    def predict_views(self, volume: Volume, views: Iterable[View]) -> Iterator[dict[str, np.ndarray]]:
        """For each view of the scan {group: uint8 [Z, Y, X]} on the scan's own grid: 0 background, 1..n the group's
        labels in their order."""
        scan = ReorientedVolume(volume)
        for view in views:
            with Stages() as stages:
                maps = Answers(scan, self.members, self.groups, stages, view).whole()
            yield {group: np.ascontiguousarray(scan.orientation.undo(drawn)) for group, drawn in maps.items()}

    def _peak_mb(self) -> float:
        if self._on_gpu:
            import torch

            return torch.cuda.max_memory_allocated(self.device) / _MB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # from KiB


def _nothing_found(name: object) -> Finding:
    remedy = "is it the part of the body that the model was trained on?"
    return remark(name, found="no label anywhere", expected="some of the model's labels", remedy=remedy)
