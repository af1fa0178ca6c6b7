"""What the geometry tests share: scans anywhere in the world, as files, and a network that answers what it sees.

FLARENET_FULL=1 draws many more examples, new ones each time; without it the examples are few and always the same.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import nibabel
import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from nibabel import orientations
from torch import nn

from flarenet.data.labels import LabelSet
from flarenet.inference.models.model import Model
from flarenet.inference.predict import Predictor
from flarenet.planning.plan import Configuration, NetworkSpec, Plan, Step, Subset, TrainerPlan
from flarenet.volume import Grid, orientation_of

FULL = os.environ.get("FLARENET_FULL") == "1"

LABELS = LabelSet(
    names=("background", "liver", "right kidney", "left kidney", "tumor"),
    groups={"organ": (1, 2, 3), "cancer": (4,)},
)
HU_PER_VALUE = 100
AIR_HU = -1000
ALL_48 = [
    np.array([*zip(axes, signs)])
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
"""Orientations as nibabel writes them: per array axis, the world axis and the direction along it."""


def examples(fast: int, full: int) -> settings:
    """Settings of a property: how many examples in the fast tier and in the full one."""
    return settings(
        max_examples=full if FULL else fast,
        derandomize=not FULL,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """[3, 3]: about x, then y, then z."""
    return nibabel.eulerangles.euler2mat(*np.deg2rad(degrees)[::-1])


@st.composite
def placements(draw: st.DrawFn, *, shear: float = 0.0) -> np.ndarray:
    """Affines [4, 4], index (i, j, k) -> RAS+ mm: orientation, rotation, spacing 0.3 to 6 mm, origin up to 2 m away.

    shear  the most by which an axis leans over to another, in voxels per voxel
    """
    order = draw(st.permutations([0, 1, 2]))
    signs = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    degrees = draw(st.tuples(*[st.one_of(st.just(0.0), st.floats(-180, 180))] * 3))
    spacing_mm = draw(st.tuples(*[st.floats(0.3, 6.0)] * 3))
    lean = np.eye(3)
    lean[np.triu_indices(3, 1)] = draw(st.tuples(*[st.floats(-shear, shear)] * 3)) if shear else 0
    matrix = rotation(degrees) @ lean @ (np.eye(3)[:, order] * signs) * spacing_mm
    return nibabel.affines.from_matvec(matrix, draw(st.tuples(*[st.floats(-2000, 2000)] * 3)))


@st.composite
def label_maps(draw: st.DrawFn, *, most: int = 9) -> np.ndarray:
    """Small label maps [i, j, k] of random values; never of one value, for a constant image is refused."""
    shape = draw(st.tuples(*[st.integers(2, most)] * 3))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    drawn = random.integers(0, len(LABELS.names), shape, dtype=np.uint8)
    drawn[0, 0, 0], drawn[-1, -1, -1] = 0, 1
    return drawn


def write_scan(path: Path, label_map: np.ndarray, affine: np.ndarray, *, codes: tuple[int, int] = (1, 1)) -> Path:
    """A CT whose HU tell the labels of `label_map` [i, j, k]; codes: those of qform and sform, 0 for not set."""
    image = nibabel.Nifti1Image(hounsfield(label_map), None)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def hounsfield(label_map: np.ndarray) -> np.ndarray:
    return np.where(label_map > 0, label_map.astype(np.int16) * HU_PER_VALUE, AIR_HU).astype(np.int16)


def geometry(path: Path) -> tuple[bytes, ...]:
    """The bytes of a NIfTI-1 header that say where the voxels lie: dim, pixdim, units, both forms."""
    raw = nibabel.load(path).header.binaryblock
    return raw[40:56], raw[76:108], raw[123:124], raw[252:328]


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def turned(image: nibabel.Nifti1Image, orientation: np.ndarray) -> nibabel.Nifti1Image:
    """`image` as a scanner would have stored it in `orientation`, one of ALL_48; nibabel's own turning."""
    return image.as_reoriented(orientations.ornt_transform(orientations.io_orientation(image.affine), orientation))


class Seen(nn.Module):
    """Answers with the label whose HU a voxel has."""

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        values = torch.arange(len(LABELS.names)).reshape(1, -1, 1, 1)
        fit = -((windows * values[:, -1:] - values) ** 2)
        organs, tumor = fit[:, :4], fit[:, 4:]
        return {"organ": organs, "cancer": torch.cat([organs.amax(dim=1, keepdim=True), tumor], dim=1)}


def configuration(spacing_mm: tuple[float, float, float], patch: tuple[int, ...] = (64, 64)) -> Configuration:
    top_hu = float(HU_PER_VALUE * (len(LABELS.names) - 1))
    return Configuration(spacing_mm=spacing_mm, inference_spacing_mm=spacing_mm, patch=patch, clip_hu=(0.0, top_hu))


def predictor(spacing_mm: tuple[float, float, float], network: nn.Module | None = None) -> Predictor:
    """A Predictor of single slices at `spacing_mm` (z, y, x); its network is Seen unless another is given."""
    spec = NetworkSpec(kind="unet", dimensions=2, features=(1,) * 6, groups=("organ", "cancer"))
    subset, once = Subset(patterns=((1,),)), {"batch_size": 1, "batches_per_epoch": 1, "epochs": 1}
    step = Step(subset=subset, groups=("organ",), learning_rate=1.0, **once)
    plan = Plan(
        recipe="auto",
        dataset="World",
        labels=LABELS,
        fingerprint_hash="0",
        configurations={"2d": configuration(spacing_mm)},
        trainers={"Seen": TrainerPlan(configuration="2d", network=spec, steps=(step,))},
    )
    model = Model(plan, "Seen", 1, Path("nowhere"), "0", network or Seen())
    return Predictor(model, device="cpu", precision="fp32", batch_size=64)


def grid_of(affine: np.ndarray, shape: tuple[int, ...]) -> Grid:
    """The Grid (z, y, x) of an array [i, j, k] with an affine of nibabel."""
    return Grid(shape[::-1], affine[:, [2, 1, 0, 3]])


def own_spacing_mm(grid: Grid) -> tuple[float, float, float]:
    """The spacing of a grid in canonical order: where it is planned, nothing is resampled."""
    return orientation_of(grid).apply_to_grid(grid).spacing_mm
