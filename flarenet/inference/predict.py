"""From an image to its label map: prepare, run, resample back, lay the groups over each other.

>>> predictor = Predictor("runs/NAME/DualDecoder2D/step_4")
>>> prediction = predictor.predict("scan_0000.nii.gz")
>>> write_labels("scan.nii.gz", prediction.labels, like="scan_0000.nii.gz")

predict_files and predict_pairs never hold a label map: slices go to sinks (see slices) as they are finished.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..data.dicom import inspect_series
from ..data.findings import Finding, as_error, refusals, remark
from ..data.labels import join
from ..data.nifti import case_name, inspect_image
from ..data.plausible import doubts_on_image
from ..data.reading import STRICT, Reading
from ..errors import FlarenetError, RunError, StorageError, UsageError, unknown
from ..planning.memory import windows_at_once
from ..preparation.prepare import normalise, prepare_image
from ..preparation.upright import on_grid, upright
from ..volume import Grid, Volume, canonical
from .engines import Engine, open_engine, pick_device
from .flips import with_mirrored
from .label_file import LabelFile
from .model import Model, load_model
from .settle import settle
from .slices import FinishedSlice, LabelMap, Sink, SinkOpener, opened
from .stream import group_maps
from .views import View
from .windows import Slab, slabs

_MB = 1 << 20


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What came of predicting one scan.

    grid     the scan's own
    seconds  from reading the file (or taking the array) to the last finished slice, sinks included
    engine   what computed the logits, as in "torch fp32"
    peak_mb  most memory so far: of the GPU in this prediction, or of the whole process on the CPU
    remarks  what should be looked at about the file
    """

    grid: Grid
    seconds: float
    peak_mb: float
    engine: str
    remarks: tuple[Finding, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(Outcome):
    """The answer for one scan: `labels` uint8 [Z, Y, X] on the scan's own grid, values of the label table."""

    labels: np.ndarray


class Predictor:
    """A loaded model that answers one scan after the other.

    model       a model folder or a loaded Model
    device      as pick_device      precision  as pick_precision
    engine      as open_engine; or one that is open, which has its own device and precision
    batch_size  slices (2D) or blocks (3D) that run at once; None is memory.windows_at_once
    roi         names of the labels that come out, None for all; see data.labels.join

    Raises RunError for a model folder that cannot be used or a network that does not segment, UsageError for an
    unknown label.
    """

    def __init__(
        self,
        model: Model | Path | str,
        *,
        device: str = "auto",
        precision: str = "auto",
        engine: Engine | str = "auto",
        batch_size: int | None = None,
        roi: Sequence[str] | None = None,
    ) -> None:
        self.device = pick_device(device)
        self.model = model if isinstance(model, Model) else load_model(model, self.device)
        if not self.model.groups:
            raise RunError(
                f"model {self.model.folder}", found=f"a network of {self.model.trainer}", expected="one that segments"
            )
        self.shown = self._values(roi)
        patch = self.model.configuration.patch
        if isinstance(engine, str):
            engine = open_engine(self.model.network, patch, engine=engine, device=self.device, precision=precision)
        self.engine, self.device = engine, engine.device
        self.batch_size = batch_size or windows_at_once(patch)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of labels that are answered."""
        return self.model.groups

    def _values(self, roi: Sequence[str] | None) -> tuple[int, ...]:
        """The label values of `roi`, of all that is answered for None, in the order of the table."""
        labels = self.model.labels
        answered = sorted(value for group in self.groups for value in labels.groups[group])
        for name in roi or ():
            if name not in (names := labels.names_of(answered)):
                raise unknown("label of this model", name, names)
        return tuple(value for value in answered if roi is None or labels.names[value] in roi)

    def predict(self, image: Volume | Path | str, reading: Reading = STRICT) -> Prediction:
        """The label map of a scan (an array, a NIfTI file or a folder of DICOM slices), on its own grid.

        Raises DatasetError for a file that cannot be read.
        """
        kept: list[LabelMap] = []

        def keep(grid: Grid) -> LabelMap:
            kept.append(LabelMap(grid))
            return kept[0]

        outcome = self.predict_into([keep], image, reading)
        return Prediction(labels=kept[0].labels, **vars(outcome))

    def predict_into(
        self, openers: Sequence[Callable[[Grid], Sink]], image: Volume | Path | str, reading: Reading = STRICT
    ) -> Outcome:
        """Predict a scan as `predict` does, its slices given to sinks as they are finished.

        openers  the scan's own grid -> a sink; opened once the scan is known to be one, finished in their order
        """
        began = time.perf_counter()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        volume, remarks = (image, ()) if isinstance(image, Volume) else self._inspect(image, reading)
        with opened([partial(opener, volume.grid) for opener in openers]) as sinks:
            if any(sink.wants_probabilities for sink in sinks):
                raise UsageError("probabilities", found="a sink that wants them", expected="labels and images only")
            maps = self.predict_groups(volume)
            settle(maps, self.model.plan.fusion, labels=self.model.labels, spacing_mm=volume.grid.spacing_mm)
            labels, found = join(maps, self.model.labels, self.shown), False
            for finished in _slices(labels, volume, with_image=any(sink.wants_image for sink in sinks)):
                found = found or bool(finished.labels.any())
                for sink in sinks:
                    sink.take(finished)
        if not found:
            remarks = (*remarks, _nothing_found(image))
        return Outcome(
            grid=volume.grid,
            seconds=time.perf_counter() - began,
            peak_mb=self._peak_mb(),
            engine=self.engine.name,
            remarks=remarks,
        )

    def predict_groups(self, volume: Volume) -> dict[str, np.ndarray]:
        """{group: uint8 [Z, Y, X]} on the scan's own grid: 0 background, 1..n the group's labels in their order."""
        return next(self.predict_views(volume, [View()]))

    def predict_views(self, volume: Volume, views: Iterable[View]) -> Iterator[dict[str, np.ndarray]]:
        """What predict_groups gives, of the scan as each of `views` shows it; it is prepared once."""
        straight = upright(volume)
        prepared = prepare_image(straight, self.model.configuration, inference=True)
        image = normalise(prepared.image)
        for view in views:
            logits, fusion = self.logits(image, view), self.model.plan.fusion
            maps = group_maps(logits, prepared.frame, fusion=fusion, labels=self.model.labels)
            yield {group: on_grid(drawn, straight.grid, volume.grid) for group, drawn in maps.items()}

    def logits(self, image: np.ndarray, view: View) -> Iterator[Slab]:
        """Those of a prepared image, float32 [Z, Y, X] in [0, 1], as `view` shows it, slab by slab; see windows."""
        configuration = self.model.configuration
        view = view.within(image.shape, configuration.patch, configuration.overlap)
        seen = view.of(image)
        logits = self._slabs(seen)
        if self.model.plan.fusion.flips:
            logits = with_mirrored(logits, self._slabs(seen[..., ::-1]), self.model.labels)
        return view.back(logits)

    def _slabs(self, image: np.ndarray) -> Iterator[Slab]:
        configuration = self.model.configuration
        return slabs(
            self.engine,
            image,
            patch=configuration.patch,
            overlap=configuration.overlap,
            batch_size=self.batch_size,
            neighbours=configuration.neighbours,
        )

    def _inspect(self, image: Path | str, reading: Reading) -> tuple[Volume, tuple[Finding, ...]]:
        volume, said = inspect_series(image) if Path(image).is_dir() else inspect_image(image, reading)
        doubts = doubts_on_image(volume, image, is_ct=self.model.configuration.normalisation == "window")
        if refused := refusals(doubts):
            raise as_error(refused)
        return volume, (*said, *doubts)

    def _peak_mb(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / _MB
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / _MB if sys.platform == "darwin" else peak / 1024  # bytes there, KiB elsewhere


def _slices(labels: np.ndarray, volume: Volume, *, with_image: bool) -> Iterator[FinishedSlice]:
    turned, orientation = canonical(volume)
    for z, plane in enumerate(orientation.apply(labels)):
        yield FinishedSlice(z, plane, image=turned.data[z].astype(np.float32) if with_image else None)


def _nothing_found(image: Volume | Path | str) -> Finding:
    file = "the scan" if isinstance(image, Volume) else image
    remedy = "is it the part of the body that the model was trained on?"
    return remark(file, found="no label anywhere", expected="some of what the model knows", remedy=remedy)


Progress = Callable[[Path, Outcome | FlarenetError], None]
Failures = list[tuple[Path, FlarenetError]]


def predict_files(
    predictor: Predictor, images: Iterable[Path], out_dir: Path, *, progress: Progress
) -> tuple[list[Path], Failures]:
    """Predict X_0000.nii.gz or X.nii.gz to out_dir/X.nii.gz, one after the other.

    progress  called after each image with what came of it
    Returns the files written and (image, error) of the images that failed; the others are done. Raises UsageError
    before any work where two images would have the same output, or an output would replace an input.
    """
    return predict_pairs(predictor, output_names(images, Path(out_dir)), progress=progress)


def output_names(images: Iterable[Path], out_dir: Path) -> dict[Path, Path]:
    """Where the label map of each image goes: out_dir/X.nii.gz. Raises UsageError where two would be one file."""
    outputs: dict[Path, Path] = {}
    by_name: dict[str, Path] = {}
    for image in images:
        name = f"{case_name(image)}.nii.gz"
        twin = by_name.setdefault(name.lower(), image)
        if twin != image:
            raise UsageError(
                f"output {out_dir / name}", found=f"{twin} and {image}", expected="one image for each output"
            )
        outputs[image] = out_dir / name
    return outputs


def predict_pairs(
    predictor: Predictor,
    outputs: Mapping[Path, Path],
    *,
    progress: Progress,
    reading: Reading = STRICT,
    openers: Sequence[SinkOpener] = (),
) -> tuple[list[Path], Failures]:
    """As predict_files, for images whose output files are given, read as `reading` says.

    openers  of what else is made of each scan's finished slices; finished before the label file takes its name, so
             that where there is a label file there is everything
    """
    inputs = {image.resolve() for image in outputs}
    for output in outputs.values():
        if output.resolve() in inputs:
            raise UsageError(
                f"output {output}", found="an input image of that name", expected="another folder for the output"
            )
    done: list[Path] = []
    failures: Failures = []
    for image, output in outputs.items():
        label_file: SinkOpener = partial(LabelFile, reading=reading)
        each = [partial(opener, image, output) for opener in (*openers, label_file)]
        try:
            outcome = predictor.predict_into(each, image, reading)
        except (FlarenetError, OSError, MemoryError, torch.cuda.OutOfMemoryError) as problem:
            error = problem if isinstance(problem, FlarenetError) else _as_storage_error(image, problem)
            failures.append((image, error))
            progress(image, error)
        else:
            done.append(output)
            progress(image, outcome)
    return done, failures


def _as_storage_error(image: Path, problem: Exception) -> StorageError:
    if isinstance(problem, OSError):
        return StorageError(image, found=problem, expected="files that can be read and written")
    return StorageError(
        image, found="not enough memory", expected="enough for this scan", remedy="a smaller --batch-size"
    )
