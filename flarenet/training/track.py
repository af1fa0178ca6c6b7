"""The curves and pictures of a run for TensorBoard, in `tensorboard/` of its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..data.labels import LabelSet
from ..errors import needs_extra
from .callbacks import Ended, EpochDone, Event, Started
from .overlays import draw_examples, is_due
from .state import EpochRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class TensorBoard:
    """Callback: writes for TensorBoard. Its constructor raises UsageError where tensorboard is not installed."""

    def __init__(self, labels: LabelSet) -> None:
        with needs_extra("track", "--track tensorboard"):
            import tensorboard  # noqa: F401 - needed only where somebody asks for it
        self._labels = labels

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            from torch.utils.tensorboard import SummaryWriter

            self._run = event
            # purge_step: later epochs, which a killed process wrote, are written again
            self._writer = SummaryWriter(str(event.folder / "tensorboard"), purge_step=len(event.history) + 1)
        elif isinstance(event, EpochDone):
            self._tell(event)
        elif isinstance(event, Ended):
            self._writer.close()

    def _tell(self, event: EpochDone) -> None:
        epoch = event.record.epoch
        for name, value in _scalars(event.record).items():
            self._writer.add_scalar(name, value, epoch)
        if event.examples and is_due(epoch, self._run.step.epochs):
            figure = draw_examples(event.examples, self._labels, caption=f"{self._run.title}, epoch {epoch}")
            self._writer.add_image("held out", _pixels(figure), epoch, dataformats="HWC")
        self._writer.flush()


def _scalars(record: EpochRecord) -> dict[str, float]:
    return {
        "learning rate": record.learning_rate,
        **{f"loss/{name}": value for name, value in record.losses.items()},
        **{f"Dice of groups/{group}": value for group, value in record.dice.items()},
        **{f"Dice of labels/{label}": value for label, value in record.labels.items()},
        **{f"timing/{name}": value for name, value in record.timing.items()},
    }


def _pixels(figure: Figure) -> np.ndarray:
    """The pixels of a figure, uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
