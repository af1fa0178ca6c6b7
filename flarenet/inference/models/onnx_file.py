"""A model for other programs: its network as an ONNX file, and a file of what to do before and after it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from ... import __version__
from ...errors import UsageError, needs_extra
from ...networks.traced import InOrder
from ...planning.fusion import Fusion
from ...preparation.prepare import FULL
from ...preparation.reoriented import PERCENTILES
from ...schema import Frozen, save
from ...silence import silent
from ...whole import together, whole_file
from ..windows import LEAST_WEIGHT, SIGMA_SHARE
from .model import Model

NETWORK, PROCESSING = "network.onnx", "processing.json"
INPUT = "windows"


class Processing(Frozen):
    """What processing.json holds; docs/onnx.md gives the order of the steps.

    orientation     axes of the arrays [Z, Y, X], in reverse order: Z rises to superior, Y to anterior, X to the right
    clip_hu         window of intensities; None: from one of the image's own `percentiles` to the other, of its voxels
                    above its lowest value
    levels          intensities are scaled from 0, the window's floor, to `levels`, its ceiling; then rounded, and
                    divided by `levels`
    spacing_mm      (z, y, x) that the image is resampled to; None leaves an axis as it is
    never_finer_z   whether slices farther apart than spacing_mm are left as they are
    patch           (y, x) or (z, y, x) of the network's input [b, channels, *patch]
    neighbours      slices on either side that are channels beside the slice that is answered
    overlap         share of a window that the next one covers
    sigma_share     standard deviation of the windows' Gaussian weight, as a share of the patch
    least_weight    least weight of a voxel
    outputs         group -> label values of its channels 1, 2 ...; in drawing order, which is that of the outputs too
    labels          label names; the index is the label value
    fusion          how groups become one label map
    weights_sha256  SHA-256 of the weights in the model folder
    """

    version: int = 1
    orientation: str = "RAS"
    clip_hu: tuple[float, float] | None
    percentiles: tuple[float, float] = PERCENTILES
    levels: int = FULL
    spacing_mm: tuple[float | None, float | None, float | None]
    never_finer_z: bool
    interpolation: str
    input: str = INPUT
    channels: int
    patch: tuple[int, ...]
    neighbours: int
    overlap: float
    sigma_share: float = SIGMA_SHARE
    least_weight: float = LEAST_WEIGHT
    outputs: dict[str, tuple[int, ...]]
    labels: tuple[str, ...]
    fusion: Fusion
    dataset: str
    trainer: str
    step: int
    weights_sha256: str
    flarenet: str = __version__


def export_onnx(model: Model, folder: Path) -> None:
    """Write network.onnx and processing.json into `folder`, made if need be. The network takes any number b of windows
    at once, or one if a layer of it cannot be exported for any number, as in UNETR.

    The network's input is float32 [b, channels, *patch] in [0, 1]. Its outputs, one for each group and named as in
    Processing.outputs, are logits [b, 1 + n, *patch].

    Raises UsageError where the library is not installed and where torch cannot convert the network, RunError for a
    network that does not segment, StorageError where a file cannot be written; a new one never lies beside an older
    one.
    """
    model.check_segments()
    processing = processing_of(model)
    content = _converted(model, processing)
    folder.mkdir(parents=True, exist_ok=True)
    with together():
        with whole_file(folder / NETWORK, size_bytes=len(content)) as temporary:
            temporary.write_bytes(content)
        save(processing, folder / PROCESSING)


def processing_of(model: Model) -> Processing:
    """What to do before and after the network of `model`."""
    configuration = model.configuration
    return Processing(
        clip_hu=configuration.clip_hu,
        spacing_mm=configuration.inference_spacing_mm,
        never_finer_z=len(configuration.patch) == 2,
        interpolation=configuration.interpolation,
        channels=model.channels,
        patch=configuration.patch,
        neighbours=configuration.neighbours,
        overlap=configuration.overlap,
        outputs={group: model.labels.groups[group] for group in model.labels.groups if group in model.groups},
        labels=model.labels.names,
        fusion=model.plan.fusion,
        dataset=model.plan.dataset,
        trainer=model.trainer,
        step=model.step,
        weights_sha256=model.weights_sha256,
    )


def _converted(model: Model, processing: Processing) -> bytes:
    onnx = _library()
    network = InOrder(deepcopy(model.network), tuple(processing.outputs)).to("cpu").eval()  # a predictor may run it
    try:
        with torch.inference_mode(), silent(), _errors_alone():  # torch warns of parts of its own
            file = _exported(network, processing, count=2)  # of one, the number would be a constant
            if file.graph.input[0].type.tensor_type.shape.dim[0].dim_value:  # a layer of the network has made it one
                file = _exported(network, processing, count=1)
    except torch.onnx.OnnxExporterError as problem:
        cause = problem.__cause__ or problem
        said, *_ = str(cause).strip().splitlines() or [type(cause).__name__]
        raise UsageError(
            "ONNX",
            found=f"cannot convert this {type(model.network).__name__}: {said}",
            expected="a network of operations that torch exports, whatever the numbers of its input",
        ) from problem
    buffer = io.BytesIO()
    onnx.save_model(file, buffer)
    onnx.checker.check_model(file)
    return buffer.getvalue()


@contextmanager
def _errors_alone() -> Iterator[None]:
    """Context in which torch.onnx logs no warnings, as of libraries that it could export too. To be entered within
    `silent`, which one thread enters at a time."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _exported(network: InOrder, processing: Processing, *, count: int) -> Any:
    """The ModelProto for `count` windows at once, a number that is free where there are several."""
    program = torch.onnx.export(
        network,
        (torch.zeros(count, processing.channels, *processing.patch),),
        dynamo=True,
        input_names=[processing.input],
        output_names=list(processing.outputs),
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},) if count > 1 else None,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return program.model_proto


def _library() -> Any:
    with needs_extra("onnx", "ONNX"):
        import onnx
        import onnxscript  # noqa: F401 - torch.onnx.export asks for it
    return onnx
