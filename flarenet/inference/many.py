"""Many scans through one warm predictor, from Python.

>>> predictor = Predictor("runs/NAME/DualDecoder2D/step_4")
>>> for image, result in predict_many(predictor, sorted(Path("scans").glob("*.nii.gz"))):
...     if isinstance(result, Prediction):
...         print(image.name, result.labels.shape)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..data.reading import STRICT, Reading
from ..errors import FlarenetError
from ..volume import Volume
from .one_ahead import one_ahead
from .opening import OpenedScan
from .outcome import Prediction, as_case_error
from .predict import Predictor

Given = TypeVar("Given", Path, str, Volume)


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

    opened = one_ahead(partial(predictor.open, reading=reading), images)
    for (image, _), result in one_ahead(predicted, opened):
        yield image, result.result()
