"""A scan that stays in its file is answered as one in memory, voxel for voxel, whatever way it is stored."""

import time

import nibabel
import numpy as np
import pytest
import torch

from flarenet.data.labels import join
from flarenet.data.nifti import inspect_file, inspect_image, read_image
from flarenet.data.reading import Reading
from flarenet.errors import DatasetError
from flarenet.inference.many import predict_pairs
from flarenet.inference.outputs.slices import LabelMap
from flarenet.inference.predict import Predictor
from flarenet.inference.views import View
from flarenet.planning.cost.memory import PLANES_WAITING
from flarenet.planning.fusion import Fusion
from flarenet.preparation.reoriented import ReorientedFile, ReorientedVolume, stays_in_file
from flarenet.volume import Grid, Volume, orientation_of
from tests.inference.test_ensemble import LABELS, model
from tests.inference.test_settle import by_whole_maps
from tests.inference.test_slices import ORIENTATIONS, Sink

SHAPE, SPACING_MM = (26, 22, 13), (1.3, 1.1, 1.7)
AS_STORED = [np.diag([-1, -1, 1]), np.diag([1, 1, 1]), np.diag([-1, -1, -1]), np.diag([1, -1, -1])]
"""Slice axis last: LPS and RAS as converters write them, and head first."""


class Net(torch.nn.Module):
    """Answers that depend on all that is within two voxels, other slices included where it sees them."""

    def __init__(self, dimensions, channels, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        convolution = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dimensions]
        self.heads = torch.nn.ModuleDict(
            {group: convolution(channels, 2, kernel_size=5, padding=2) for group in LABELS.groups}
        )

    def forward(self, image, groups=None):
        return {group: 4 * head(image - 0.4) for group, head in self.heads.items()}


def network(*, patch=(16, 16), z_mm=None, neighbours=0, pixel_mm=2.0, seed=0, window=(-500.0, 500.0), **fusion):
    made = model({"organ": 0.5, "cancer": 0.5}, window=window)
    dimensions, own = len(patch), made.plan.configurations["2d"]
    spacing = (2.0 if dimensions == 3 else z_mm, pixel_mm, pixel_mm)
    numbers = own.model_copy(
        update={"patch": patch, "spacing_mm": spacing, "inference_spacing_mm": spacing, "neighbours": neighbours}
    )
    plan = made.plan.model_copy(
        update={"configurations": {"2d": numbers}, "fusion": made.plan.fusion.model_copy(update=fusion)}
    )
    return type(made)(plan, "Toy", 1, "toy", "0", Net(dimensions, 1 + 2 * neighbours, seed))


MODELS = {
    "slices": {},
    "thinned slices": {"z_mm": 3.1},
    "neighbours": {"neighbours": 1, "z_mm": 3.1},
    "blocks": {"patch": (8, 12, 10)},
    "blocks larger than the scan": {"patch": (32, 32, 32)},
    "flips": {"flips": True},
    "probability": {"rule": "probability"},
    "largest part": {"largest": ("liver",)},
    "percentiles": {"window": None},
}


def scan_data():
    """Noise within air, [i, j, k]."""
    data = np.random.default_rng(0).normal(0, 300, SHAPE).clip(-480, 900)
    data[:3] = data[:, 20:] = data[..., :2] = data[..., 12:] = -1000
    return data.astype(np.int16)


def save(path, data, axes, spacing_mm=SPACING_MM):
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag(spacing_mm)
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def predict_file(predictor, scan, out, openers=(), reading=None):
    kept = {} if reading is None else {"reading": reading}
    done, failures = predict_pairs(predictor, {scan: out}, progress=lambda *_: None, openers=openers, **kept)
    assert failures == [] and done == [out]
    return np.asarray(nibabel.load(out).dataobj).T.reshape(read_image(scan, **kept).data.shape)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("axes", AS_STORED)
def test_a_file_is_answered_as_the_array(tmp_path, name, axes):
    predictor = Predictor(network(**MODELS[name]), device="cpu", precision="fp32", batch_size=4)
    path = save(tmp_path / "x.nii.gz", scan_data(), axes)
    expected = predictor.predict(read_image(path)).labels
    assert len(np.unique(expected)) >= 2
    np.testing.assert_array_equal(predict_file(predictor, path, tmp_path / "y.nii.gz"), expected)
    np.testing.assert_array_equal(predictor.predict(path).labels, expected)


def test_a_slow_output_holds_all_stages_back(tmp_path):
    """Between file and output are four queues; each stage has a plane in hand besides, the network a batch of four."""
    predictor = Predictor(network(), device="cpu", precision="fp32", batch_size=4)
    given = predictor.open(save(tmp_path / "x.nii", np.tile(scan_data(), 15), np.eye(3)))
    read, planes, ahead = [], given.scan.planes, []
    given.scan.planes = lambda: (read.append(None) or plane for plane in planes())

    class Slow(LabelMap):
        def take(self, finished):
            if finished.z % 60 == 50:
                time.sleep(0.3)  # long enough for the others to do all that they may
            ahead.append(len(read) - finished.z)

    predictor.predict_into([lambda scan: Slow(scan.grid)], given)
    assert len(ahead) == 15 * SHAPE[2]
    assert 4 * PLANES_WAITING <= max(ahead) <= 4 * (PLANES_WAITING + 1) + 4 + 1


def test_what_stays_in_its_file():
    """Slices last and upright, whichever way up; blocks only lowest first, percentiles never."""
    for axes in AS_STORED:
        grid = Volume(scan_data().T, _grid(axes)).grid
        configurations = {name: network(**MODELS[name]).configuration for name in MODELS}
        stays = {name for name in MODELS if stays_in_file(grid, [configurations[name]])}
        rising = axes[2, 2] > 0
        assert stays == {name for name in MODELS if name != "percentiles" and (rising or "blocks" not in name)}
    sideways = _grid(np.eye(3)[[2, 0, 1]])
    assert not stays_in_file(sideways, [network().configuration])


def _grid(axes):
    affine = np.eye(4)
    affine[:3, :3] = (axes @ np.diag(SPACING_MM))[:, ::-1]
    return Grid(SHAPE[::-1], affine)


@pytest.mark.parametrize("name", ["thinned slices", "neighbours", "blocks", "largest part"])
def test_all_48_orientations_have_one_answer(tmp_path, name):
    """The same body, stored in each of them."""
    predictor = Predictor(network(**MODELS[name]), device="cpu", precision="fp32", batch_size=4)
    image = nibabel.load(save(tmp_path / "ras.nii", scan_data(), np.eye(3)))
    expected = None
    for permutation, signs in ORIENTATIONS:
        path = tmp_path / "x.nii"
        nibabel.save(image.as_reoriented(np.column_stack([permutation, signs])), path)
        labels = predict_file(predictor, path, tmp_path / "y.nii.gz")
        turned = orientation_of(read_image(path).grid).apply(labels)
        expected = turned if expected is None else expected
        np.testing.assert_array_equal(turned, expected)
    assert len(np.unique(expected)) == 3


LEANING = np.array([[1, 0, 0.3], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("axes", [*AS_STORED[1:3], LEANING])
def test_rules_for_connected_parts_are_those_of_whole_maps(tmp_path, axes):
    """Whether the highest slice comes first, or axes lean, so that the scan is answered upright and brought back."""
    rules = {"largest": ("liver",), "least_ml": {"tumor": 0.012}, "hosts": {"tumor": ("liver",)}, "near_mm": 2.5}
    predictor = Predictor(network(**rules), device="cpu", precision="fp32", batch_size=4)
    path = save(tmp_path / "x.nii", scan_data(), axes)
    volume = read_image(path)
    (maps,) = predictor.predict_views(volume, [View()])
    turn = orientation_of(volume.grid)
    turned, affine = {group: turn.apply(drawn) for group, drawn in maps.items()}, turn.apply_to_grid(volume.grid).affine
    expected = by_whole_maps(turned, Fusion(**rules), LABELS, affine)
    assert any((expected[group] != drawn).any() for group, drawn in turned.items())
    found = turn.apply(predict_file(predictor, path, tmp_path / "y.nii.gz"))
    np.testing.assert_array_equal(found, join(expected, LABELS))


@pytest.mark.parametrize("axes", AS_STORED[1:3])
def test_an_ensemble_of_models_that_see_the_scan_otherwise(tmp_path, axes):
    models = [network(), network(seed=1), network(seed=2, z_mm=3.1, pixel_mm=1.5, window=(-300.0, 200.0))]
    predictor = Predictor(*models, device="cpu", precision="fp32", batch_size=4)
    path = save(tmp_path / "x.nii.gz", scan_data(), axes)
    expected = predictor.predict(read_image(path)).labels
    assert len(np.unique(expected)) == 3
    np.testing.assert_array_equal(predict_file(predictor, path, tmp_path / "y.nii.gz"), expected)


@pytest.mark.parametrize("fusion", [{}, {"rule": "probability"}, {"largest": ("liver",)}])
@pytest.mark.parametrize("count", [1, 2])
def test_sinks_get_images_and_probabilities(tmp_path, fusion, count):
    models = [network(seed=seed, **fusion) for seed in range(count)]
    predictor = Predictor(*models, device="cpu", precision="fp32", batch_size=4)
    path = save(tmp_path / "x.nii.gz", scan_data(), AS_STORED[2])
    sink = Sink(wants_image=True)
    sink.wants_probabilities = True
    labels = predict_file(predictor, path, tmp_path / "y.nii.gz", [sink.open])
    volume = read_image(path)
    turned = orientation_of(volume.grid)
    assert [finished.z for finished in sink.slices] == list(range(SHAPE[2]))[::-1]
    for finished in sink.slices:
        np.testing.assert_array_equal(finished.image, turned.apply(volume.data)[finished.z])
        np.testing.assert_array_equal(finished.labels, turned.apply(labels)[finished.z])
        for group in LABELS.groups:
            chances = finished.probabilities[group]
            assert chances.dtype == np.float32 and chances.shape == (2, *finished.labels.shape)
            np.testing.assert_allclose(chances.sum(0), 1, atol=1e-6)
        if not fusion:
            organ = finished.probabilities["organ"].argmax(0)
            cancer = finished.probabilities["cancer"].argmax(0)
            np.testing.assert_array_equal(np.where(cancer, 2, organ), finished.labels)


def test_views_are_those_of_the_whole(tmp_path):
    """A view moved by whole voxels changes nothing for a network that sees two voxels around, away from the edges."""
    predictor = Predictor(network(patch=(40, 40), pixel_mm=None), device="cpu", precision="fp32", batch_size=4)
    volume = Volume(scan_data().T, _grid(np.eye(3)))
    straight, moved = predictor.predict_views(volume, [View(), View(offset=(0, 3, 5))])
    for group in LABELS.groups:
        inner = (slice(None), slice(3, -8), slice(6, -4))
        np.testing.assert_array_equal(moved[group][inner], straight[group][inner])


TYPES = {
    "int8": lambda data: (data // 10).astype(np.int8),
    "uint16": lambda data: (data + 1100).astype(np.uint16),
    "large uint16": lambda data: (20 * (data.astype(int) + 1100)).astype(np.uint16),
    "int32": lambda data: data.astype(np.int32),
    "big endian": lambda data: data.astype(">i2"),
    "float32": lambda data: data.astype(np.float32) + np.float32(0.25),
    "float64": lambda data: data.astype(np.float64) / 3,
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("scaled", [False, True])
def test_a_file_gives_the_numbers_of_read_image(tmp_path, name, scaled):
    image = nibabel.Nifti1Image(TYPES[name](scan_data()), np.eye(4))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "x.nii")
    if scaled:  # nibabel writes numbers that it scaled itself
        content = bytearray((tmp_path / "x.nii").read_bytes())
        content[112:120] = np.array([0.5, -3], dtype=image.header["scl_slope"].dtype).tobytes()
        (tmp_path / "x.nii").write_bytes(content)
    volume, _, said = inspect_image(tmp_path / "x.nii")
    floors = [-1000.0, -100.5, 1e6]
    file = inspect_file(tmp_path / "x.nii", floors)
    planes = [plane.astype(np.float32) for plane in file.planes()]
    np.testing.assert_array_equal(planes, volume.data.astype(np.float32))
    reoriented, whole = ReorientedFile(file), ReorientedVolume(volume)
    assert [reoriented.box(floor) for floor in floors] == [whole.box(floor) for floor in floors]
    assert file.remarks == said
    assert (file.values.lowest, file.values.highest) == pytest.approx((volume.data.min(), volume.data.max()))
    np.testing.assert_array_equal(file.values.sample, volume.data)


@pytest.mark.parametrize("floor", [-2000.0, -500.0])
def test_a_few_voxels_that_are_no_number_are_air(tmp_path, floor):
    data = scan_data().astype(np.float32)
    data[1, 2, 3], data[4, 5, 6], data[0, 0, 0] = np.nan, np.inf, -np.inf
    path = save(tmp_path / "x.nii.gz", data, np.eye(3))
    volume, _, said = inspect_image(path)
    file = inspect_file(path, [floor])
    np.testing.assert_array_equal([plane.copy() for plane in file.planes()], volume.data)
    assert ReorientedFile(file).box(floor) == ReorientedVolume(volume).box(floor)
    assert file.remarks == said and len(said) == 1


def test_one_of_several_volumes(tmp_path):
    data = np.stack([scan_data(), scan_data()[::-1]], axis=3)
    path, reading = save(tmp_path / "x.nii.gz", data, np.eye(3)), Reading(volume=1)
    planes = [plane.copy() for plane in inspect_file(path, [], reading).planes()]
    np.testing.assert_array_equal(planes, scan_data()[::-1].T)
    predictor = Predictor(network(), device="cpu", precision="fp32")
    expected = predictor.predict(read_image(path, reading)).labels
    np.testing.assert_array_equal(predict_file(predictor, path, tmp_path / "y.nii.gz", reading=reading), expected)


def test_a_file_that_changes_between_the_readings_is_refused(tmp_path):
    path = save(tmp_path / "x.nii.gz", scan_data(), np.eye(3))
    file = inspect_file(path, [])
    save(path, scan_data(), np.eye(3), (2.0, 2.0, 2.0))
    with pytest.raises(DatasetError, match="a different header"):
        next(file.planes())
