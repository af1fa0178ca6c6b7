"""Pictures of a few held-out patches as training goes on, `overlays/epoch_NNN.png`: labels next to predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..data.labels import LabelSet
from ..whole import whole_file
from .callbacks import EpochDone, Event, Example, Started
from .curve import Pace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 10
"""Most pictures of one run, evenly spaced in epochs, not counting that of the last epoch."""


class Overlays:
    """Callback: writes these pictures, fewer of them where epochs are short: no more often than Pace says."""

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._run, self._pace = event, Pace(event.step.epochs)
        elif isinstance(event, EpochDone) and event.examples and self._is_due(event.record.epoch):
            epoch, digits = event.record.epoch, len(str(self._run.step.epochs))
            figure = draw_examples(event.examples, self._labels, caption=f"{self._run.title}, epoch {epoch}")
            with whole_file(self._run.folder / "overlays" / f"epoch_{epoch:0{digits}}.png") as temporary:
                figure.savefig(temporary, format="png")
            self._pace.drawn()

    def _is_due(self, epoch: int) -> bool:
        return is_due(epoch, self._run.step.epochs) and self._pace.is_due(epoch)


def is_due(epoch: int, epochs: int) -> bool:
    """Whether a picture is due after this epoch: after the last one, and after at most MOST others."""
    return epoch == epochs or epoch % -(-epochs // MOST) == 0


def draw_examples(examples: Sequence[Example], labels: LabelSet, *, caption: str) -> Figure:
    """A figure with a row per example, in the colours and the layout of evaluation's pictures."""
    from ..evaluation.pictures import Row, sheet  # only a run that draws pays for importing matplotlib

    rows = [
        Row(
            example.image[:, ::-1],  # the patient's left on the right
            (example.labels[:, ::-1], example.predicted[:, ::-1]),
            note=_note(example, labels),
            window=(0.0, 1.0),
            outline=True,
        )
        for example in examples
    ]
    return sheet(rows, ("labels", "predicted; white: labels"), caption=caption, labels=labels)


def _note(example: Example, labels: LabelSet) -> str:
    missing = labels.names_of(example.not_annotated)
    if len(missing) > 3:
        return f"{example.case}\n{len(missing)} labels not annotated"
    return f"{example.case}\nnot annotated: {', '.join(missing)}" if missing else example.case
