"""Measure the error of resampled images: linear, cubic, and nnU-Net's way (skimage, order 3).

    python -m benchmarks.preparation.quality [--image THIN_SLICES.nii.gz]

1. A smooth field, a sum of waves of known formula, is sampled on one grid, resampled to others and compared with the
   formula in double precision: the error in percent of the field's standard deviation, by the shortest wave.
2. The cubic spline against scipy's in double precision, on noise: the largest difference, in percent of its range.
3. Thick slices: those of a phantom, or of a scan given by --image, are averaged in groups of 2, 3 and 5, resampled to
   the thin slices by each way, and compared with them: RMS in HU, inside the window of soft tissue.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import zoom
from skimage.transform import resize

from flarenet.data.nifti import read_image
from flarenet.phantom.case import phantom_case
from flarenet.preparation.resample import Interpolation, resample, resample_nearest
from flarenet.volume import canonical

SHAPE = (48, 160, 160)
TARGETS = ((48, 125, 125), (48, 200, 200), (30, 110, 130))
SHORTEST_VOXELS = (3, 4, 6, 10, 20)
TOGETHER = (2, 3, 5)
WINDOW_HU = (-160.0, 240.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path)
    arguments = parser.parse_args()
    smooth_fields()
    beside_scipy()
    thick_slices(arguments.image)
    return 0


def smooth_fields() -> None:
    """Print the table of the first comparison."""
    print("| to | shortest wave, voxels | linear % | cubic % | nnU-Net % |\n|---|---|---|---|---|")
    for shape in TARGETS:
        for shortest in SHORTEST_VOXELS:
            wanted = field(SHAPE, shape, shortest)
            sampled = field(SHAPE, SHAPE, shortest)
            ways = (ours(sampled, shape, "linear"), ours(sampled, shape, "cubic"), nnunet(sampled, shape))
            errors = " | ".join(f"{100 * rms(found - wanted) / wanted.std():.3f}" for found in ways)
            print(f"| {shape} | {shortest} | {errors} |")


def beside_scipy() -> None:
    """Print the second comparison."""
    noise = np.random.default_rng(0).normal(size=SHAPE)
    worst = 0.0
    for shape in TARGETS:
        factors = [m / n for n, m in zip(SHAPE, shape)]
        wanted = zoom(noise, factors, order=3, mode="nearest", grid_mode=True)
        worst = max(worst, float(np.abs(ours(noise, shape, "cubic") - wanted).max()) / np.ptp(noise))
    print(f"\ncubic beside scipy's spline in double precision: at most {100 * worst:.5f} % of the range\n")


def thick_slices(path: Path | None) -> None:
    """Print the table of the third comparison."""
    image, _ = canonical(phantom_case(5, 2, detail=2.0).image if path is None else read_image(path))
    thin = image.data.astype(np.float32)
    spacing = " x ".join(f"{mm:.2f}" for mm in image.grid.spacing_mm)
    print(f"{path.name if path else 'a phantom'}, {spacing} mm\n")
    print("| slices averaged | nearest | linear | cubic |\n|---|---|---|---|")
    for together in TOGETHER:
        count = len(thin) // together
        wanted = np.clip(thin[: count * together], *WINDOW_HU)
        thick = thin[: count * together].reshape(count, together, *thin.shape[1:]).mean(axis=1)
        thick = np.clip(thick, *WINDOW_HU)
        found = [resample_nearest(thick, wanted.shape)]
        found += [ours(thick, wanted.shape, interpolation) for interpolation in ("linear", "cubic")]
        seen = (wanted > WINDOW_HU[0]) & (wanted < WINDOW_HU[1])
        errors = " | ".join(f"{rms((np.clip(volume, *WINDOW_HU) - wanted)[seen]):.2f}" for volume in found)
        print(f"| {together} | {errors} |")


def field(sampled: tuple[int, ...], shape: tuple[int, ...], shortest: float) -> np.ndarray:
    """Twenty waves no shorter than `shortest` voxels of the grid `sampled`, at the voxels of a grid `shape`."""
    draw = np.random.default_rng(int(shortest))
    places = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(sampled, shape)]
    total = np.zeros(shape)
    for _ in range(20):
        direction = draw.normal(size=3)
        per_voxel = direction / np.linalg.norm(direction) * 2 * np.pi / (shortest * draw.uniform(1, 2))
        phase = draw.uniform(0, 2 * np.pi)
        z, y, x = (k * place for k, place in zip(per_voxel, places))
        total += np.sin(z[:, None, None] + y[None, :, None] + x[None, None, :] + phase)
    return total


def ours(image: np.ndarray, shape: tuple[int, ...], interpolation: Interpolation) -> np.ndarray:
    planes = (plane.astype(np.float32) for plane in image)
    return np.stack(list(resample(planes, image.shape, shape, interpolation)))


def nnunet(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """As nnU-Net v2's resample_data_or_seg with its defaults for images of nearly isotropic spacing."""
    return resize(image.astype(np.float32), shape, order=3, mode="edge", anti_aliasing=False)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


if __name__ == "__main__":
    sys.exit(main())
