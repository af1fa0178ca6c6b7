"""For the benchmarks of prediction: phantoms of 512 x 512 pixels and any length, and the paper's 2D network."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import torch
from isal import igzip

from flarenet.data.labels import LabelSet
from flarenet.inference.models.model import save_model
from flarenet.networks import build
from flarenet.phantom.anatomy import LABELS as ANATOMY
from flarenet.phantom.case import phantom_case
from flarenet.planning.plan import NetworkSpec
from flarenet.preparation.resample import resample
from flarenet.volume import canonical

from ..one_network import plan_of

PIXELS, PIXEL_MM, SLICE_MM = 512, 0.8, 2.5
NOISE_HU = 12.0
FEATURES = (16, 32, 64, 128, 256, 128)
"""Features of the paper's 2D network."""

LABELS = LabelSet(names=ANATOMY.names, groups={"organ": tuple(range(1, 14)), "cancer": (14,)})


def write_scan(path: Path, slices: int, *, pixels: int = PIXELS) -> None:
    """Write a phantom as scanners do: axial int16 slices, lowest first, gzipped; one slice is in memory at a time."""
    body, _ = canonical(phantom_case(5, 0, detail=2.0).image)
    header = nibabel.Nifti1Header()
    header.set_data_shape((pixels, pixels, slices))
    header.set_data_dtype(np.int16)
    header.set_xyzt_units("mm")
    header.set_sform(np.diag([-PIXEL_MM, -PIXEL_MM, SLICE_MM, 1.0]), code="scanner")
    header.set_qform(np.diag([-PIXEL_MM, -PIXEL_MM, SLICE_MM, 1.0]), code="scanner")
    header["vox_offset"], header["magic"] = 352, b"n+1"
    noise = np.random.default_rng(0)
    planes = (plane.astype(np.float32) for plane in body.data)
    with igzip.open(path, "wb", compresslevel=2) as stream:
        stream.write(header.binaryblock + bytes(4))
        for plane in resample(planes, body.grid.shape, (slices, pixels, pixels), "linear"):
            plane += noise.normal(0, NOISE_HU, plane.shape).astype(np.float32)
            stream.write(np.rint(np.clip(plane, -1024, 3071)).astype(np.int16)[::-1, ::-1].tobytes())


def write_model(folder: Path, *, features: tuple[int, ...] = FEATURES, patch: tuple[int, int] = (224, 224)) -> Path:
    """Write a model of the paper's network at 1 mm pixels, untrained, but biased towards background."""
    network = NetworkSpec(kind="dual_decoder", dimensions=2, features=features, groups=("organ", "cancer"))
    plan = plan_of(network, LABELS, spacing_mm=(None, 1.0, 1.0), patch=patch, trainer="Paper")
    torch.manual_seed(0)
    built = build(network, LABELS.outputs)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if "head" in name and name.endswith("bias"):
                parameter[0] += 1.0
    save_model(folder, built, plan=plan, trainer="Paper", step=1, summary={})
    return folder
