"""Many scans through one warm predictor, each read while the one before it is predicted.

>>> predictor = Predictor("runs/NAME/DualDecoder2D/step_4")
>>> for image, result in predict_many(predictor, sorted(Path("scans").glob("*.nii.gz"))):
...     if isinstance(result, Prediction):
...         print(image.name, result.labels.shape)

predict_pairs never holds a label map: slices go to sinks (see slices) as they are finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..data.reading import STRICT, Reading
from ..errors import FlarenetError, NoRoom
from ..volume import Volume
from .opening import OpenedScan
from .outcome import Outcome, Prediction, as_case_error
from .outputs.label_file import LabelFile
from .outputs.outputs import refuse_replacing
from .outputs.slices import SinkOpener
from .predict import Predictor
from .prefetch import prefetch, prefetch_files

Given = TypeVar("Given", Path, str, Volume)
Progress = Callable[[Path, Outcome | FlarenetError], None]
Failures = list[tuple[Path, FlarenetError]]


def predict_many(
    predictor: Predictor, images: Iterable[Given], *, reading: Reading = STRICT
) -> Iterator[tuple[Given, Prediction | FlarenetError]]:
    """Each image, in order, with its Prediction or, if it fails, its error; the others go on.

    While one result is used, the next scan is predicted and the one after it is read. `images` may be an iterator, from
    which at most three images beyond the last result are taken. To stop early, close the returned iterator: that waits
    for the work in progress.
    """

    def predicted(given: tuple[Given, Future[OpenedScan]]) -> Prediction | FlarenetError:
        image, scan = given
        try:
            return predictor.predict(scan.result())
        except Exception as problem:  # noqa: BLE001 - what is no fault of this scan is raised again
            name = "the scan" if isinstance(image, Volume) else image
            return as_case_error(name, problem)

    opened = prefetch_files(partial(predictor.open, reading=reading), images)
    for (image, _), result in prefetch(predicted, opened):
        yield image, result.result()


def predict_pairs(
    predictor: Predictor,
    outputs: Mapping[Path, Path],
    *,
    progress: Progress,
    reading: Reading = STRICT,
    openers: Sequence[SinkOpener] = (),
    scans: Iterable[tuple[Path, Future[OpenedScan]]] | None = None,
) -> tuple[list[Path], Failures]:
    """Predict images one after the other; returns the label files written, and (image, error) of those that failed.

    outputs   image -> its label file, as outputs.output_names gives them
    progress  called after each image with its Outcome or its error
    reading   how the images are read, where no `scans` are given
    openers   open a sink for what else is made of each scan's finished slices. These sinks finish before the label
              file takes its name: where there is a label file, everything else is there too
    scans     the opened images, as prefetch_files gives them, where opening them has begun already
    Raises UsageError, before any work, where an output would replace an input. Raises NoRoom, at once, where the disk
    is full or cannot be written.
    """
    refuse_replacing(outputs)
    done: list[Path] = []
    failures: Failures = []
    openers = (*openers, LabelFile)
    if scans is None:
        scans = prefetch_files(partial(predictor.open, reading=reading), outputs)
    for image, scan in scans:
        output = outputs[image]
        each = [partial(opener, output) for opener in openers]
        try:
            outcome = predictor.predict_into(each, scan.result())
        except Exception as problem:  # noqa: BLE001 - what is no fault of this scan is raised again
            error = as_case_error(image, problem)
            failures.append((image, error))
            progress(image, error)
            if isinstance(problem, NoRoom):  # the next scan would take as long and fail too
                raise
        else:
            done.append(output)
            progress(image, outcome)
    return done, failures
