"""Surface measures beside MONAI's, on drawn organs of real patients and randomly bent copies of them.

NSD: the same definition, so the same number, up to MONAI's single precision.

Hausdorff distance: MONAI's is another measure. Its surface is the set of inside *voxels* that have an outside neighbour
over a face, ours the *cells* between voxels of both kinds, so each of its points lies within half a cell's diagonal of
one of ours, and the other way round: both distances differ by at most one diagonal. And its percentile counts points,
ours area. On MONAI's own surface elements and areas ours is the published formula, number for number.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from flarenet.data.dataset_file import read_dataset
from flarenet.data.nifti import read_labels
from flarenet.data.reading import Reading
from flarenet.evaluation.masks import TwoMaps
from flarenet.evaluation.surface import hausdorff_mm, surface_dice, surface_distances
from flarenet.volume import Volume

DATA = Path(os.environ.get("FLARENET_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
CASES = ("btcv04", "btcv17", "lits02")


@pytest.fixture(params=CASES)
def bent(request):
    """(labels, truth and its bent copy as TwoMaps)"""
    if not (DATA / "FLAREmini" / "dataset.json").is_file():
        pytest.skip(f"no FLAREmini below {DATA}; set FLARENET_TEST_DATA to the folder that holds it")
    labels = read_dataset(DATA / "FLAREmini", Reading(allow_external=True)).labels
    truth = read_labels(DATA / "FLAREmini" / "labelsTr" / f"{request.param}.nii.gz", labels)
    rng = np.random.default_rng(CASES.index(request.param))
    return labels, TwoMaps(truth, Volume(_bend(truth.data, rng), truth.grid))


def _bend(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth random shift of some voxels along each axis, by nearest neighbour."""
    shifts = [gaussian_filter(rng.normal(size=data.shape).astype(np.float32), 4) for _ in range(3)]
    where = np.indices(data.shape, dtype=np.float32) + [1.5 * shift / shift.std() for shift in shifts]
    return map_coordinates(data, where, order=0, mode="nearest")


def test_surface_measures_are_those_of_monai(bent):
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    edges = pytest.importorskip("monai.metrics.utils").get_edge_surface_distance
    labels, maps = bent
    spacing_mm, seen = maps.spacing_mm, 0
    for value in labels.values:
        if (masks := maps.masks(value)) is None or not all(mask.any() for mask in masks):
            continue
        seen += 1
        truth, prediction = (torch.from_numpy(np.pad(mask, 1)) for mask in masks)
        found, tolerance_mm = surface_distances(*masks, spacing_mm), labels.tolerance_of(value)
        stacks = [mask[None, None].float() for mask in (prediction, truth)]
        expected = metrics.compute_surface_dice(
            *stacks, [tolerance_mm], include_background=True, spacing=spacing_mm, use_subvoxels=True
        ).item()
        assert surface_dice(found, tolerance_mm) == pytest.approx(expected, abs=1e-6), labels.names[value]

        there, distances, areas = edges(
            prediction, truth, spacing=spacing_mm, use_subvoxels=True, symmetric=True, warn_empty=False
        )
        areas = [area[edge] for area, edge in zip(areas, there)]
        for percent in (95, 100):
            published = max(_percentile(d, a, percent) for d, a in zip(distances, areas))
            assert hausdorff_mm(found, percent) == pytest.approx(published, abs=1e-5), labels.names[value]

        of_voxels = metrics.compute_hausdorff_distance(*stacks, include_background=True, spacing=spacing_mm).item()
        assert abs(hausdorff_mm(found, 100) - of_voxels) <= np.linalg.norm(spacing_mm) + 1e-5
    assert seen >= 1


def _percentile(distance_mm, area_mm2, percent: float) -> float:
    """compute_robust_hausdorff of surface-distance, one way."""
    order = np.argsort(distance_mm.numpy())
    share = np.cumsum(area_mm2.numpy().astype(np.float64)[order])
    at = np.searchsorted(share / share[-1], percent / 100)
    return float(distance_mm.numpy()[order][min(at, len(order) - 1)])


def test_hausdorff_distance_of_moved_boxes_is_that_of_monai():
    """Where surfaces are parallel planes of the grid, voxels and cells lie equally far apart."""
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    spacing_mm = (2.5, 0.75, 0.75)
    truth, prediction = np.zeros((2, 20, 30, 30), dtype=bool)
    truth[4:12, 5:20, 5:20] = prediction[7:15, 5:20, 5:20] = True
    stacks = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
    expected = metrics.compute_hausdorff_distance(*stacks, include_background=True, spacing=spacing_mm).item()
    assert hausdorff_mm(surface_distances(truth, prediction, spacing_mm), 100) == expected == 7.5
