"""From a file to a file: a real model folder whose network marks what is brighter than its slice's mean."""

import gzip
from concurrent.futures import Future

import nibabel
import numpy as np
import pytest
import torch

from flarenet.data.labels import LabelSet
from flarenet.data.nifti import read_image, read_labels
from flarenet.errors import DatasetError, PlanError, RunError, StorageError, UsageError
from flarenet.inference.engines.engine import ENGINES
from flarenet.inference.many import predict_many, predict_pairs
from flarenet.inference.models.model import Model, load_model, save_model
from flarenet.inference.outputs.outputs import output_names
from flarenet.inference.outputs.probabilities import Probabilities
from flarenet.inference.predict import Predictor
from flarenet.inference.views import View
from flarenet.networks import build
from flarenet.planning.budget import Budget
from flarenet.planning.fits import check_fits
from flarenet.planning.plan import Configuration, NetworkSpec, Plan, Step, Subset, TrainerPlan
from flarenet.volume import Grid, Volume
from tests.data.dicom_series import PATIENT, read_series, write_series
from tests.full_disk import longest_file
from tests.inference.test_engines import find_or_skip

LABELS = LabelSet(names=("background", "liver", "tumor"), groups={"organ": (1,), "cancer": (2,)})
BODY_HU, AIR_HU = 300, -1000
LIFT = 10.0


def plan_for(groups, dimensions, patch):
    network = NetworkSpec(kind="unet", dimensions=dimensions, features=(2,) * 6, groups=groups)
    step = Step(
        subset=Subset(patterns=((1,),)),
        groups=("organ",),
        batch_size=1,
        batches_per_epoch=1,
        epochs=1,
        learning_rate=1.0,
    )
    spacing = (None, 1.0, 1.0) if dimensions == 2 else (1.0, 1.0, 1.0)
    configuration = Configuration(
        spacing_mm=spacing, inference_spacing_mm=spacing, patch=patch, clip_hu=(-200.0, 300.0)
    )
    return Plan(
        recipe="auto",
        dataset="Toy",
        labels=LABELS,
        fingerprint_hash="0",
        configurations={"only": configuration},
        trainers={"Threshold": TrainerPlan(configuration="only", network=network, steps=(step,))},
    )


def threshold_network(plan):
    """A U-Net that passes its input through: liver where it is brighter than the mean of the window, never a tumor.

    Each convolution is the identity of channel 0; each norm lifts it by 10 standard deviations, where the rectifier
    does nothing. So the head sees (input - mean) / sd + 10.
    """
    network = build(plan.trainers["Threshold"].network, LABELS.outputs)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for pair in (network.conv_0, network.upcat_1.convs):
            for unit in (pair.conv_0, pair.conv_1):
                unit.conv.weight[(0, 0, *(1 for _ in unit.conv.kernel_size))] = 1
                unit.norm.weight[0] = 1
                unit.norm.bias[0] = LIFT
        if "organ" in network.heads:
            network.heads["organ"].weight[1, 0] = 1
            network.heads["organ"].bias[1] = -(LIFT + 0.01)  # of a constant window nothing is brighter than the mean
        network.heads["cancer"].bias[1] = -1
    return network


def model_folder(folder, *, groups=("organ", "cancer"), dimensions=2, patch=(32, 32)):
    plan = plan_for(groups, dimensions, patch)
    save_model(folder, threshold_network(plan), plan=plan, trainer="Threshold", step=1, summary={})
    return folder


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(model_folder(tmp_path_factory.mktemp("model")), device="cpu", precision="fp32")


def write_scan(path, body, affine):
    """body bool [i, j, k] as a CT in file order; both forms set where the affine allows it."""
    image = nibabel.Nifti1Image(np.where(body, BODY_HU, AIR_HU).astype(np.int16), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


@pytest.mark.parametrize("dimensions, patch", [(2, (32, 32)), (3, (32, 32, 32))])
@pytest.mark.parametrize("spacing", [(5.0, 0.7, 0.7), (0.8, 1.3, 1.3), (1.0, 1.0, 1.0)])
def test_a_body_keeps_its_place_whatever_the_spacing(tmp_path, dimensions, patch, spacing):
    grid = Grid((14, 36, 30), np.diag([*spacing, 1])[[2, 1, 0, 3]])
    z, y, x = np.indices(grid.shape)
    body = (abs(z - 7) <= 4) & ((y - 20) ** 2 + (x - 12) ** 2 < 100)
    scan = Volume(np.where(body, BODY_HU, AIR_HU).astype(np.int16), grid)
    model = model_folder(tmp_path / "model", dimensions=dimensions, patch=patch)
    prediction = Predictor(model, device="cpu", precision="fp32", batch_size=3).predict(scan)
    assert prediction.labels.shape == grid.shape and prediction.grid is grid
    overlap = 2 * (body & (prediction.labels == 1)).sum() / (body.sum() + (prediction.labels == 1).sum())
    assert overlap == 1 if spacing == (1.0, 1.0, 1.0) else overlap > 0.9
    assert prediction.seconds > 0 and prediction.peak_mb > 10


class Counting:
    """An Engine that counts the windows it is given and sees nothing in them."""

    name, device = "counting", torch.device("cpu")

    def __init__(self):
        self.windows = 0

    def __call__(self, windows):
        self.windows += len(windows)
        return {group: torch.zeros(len(windows), 2, *windows.shape[2:]) for group in ("organ", "cancer")}


@pytest.mark.parametrize(
    ("shape", "z_mm", "expected"),
    [
        ((40, 20, 20), 1.25, 20),  # 50 mm at 2.5 mm, a window each
        ((10, 20, 20), 5.0, 10),  # slices that are farther apart are never made up
        ((1, 80, 32), 2.5, 4),  # windows of 32 begin at 0, 16, 32 and 48
    ],
)
def test_so_many_windows_are_run_as_the_spacing_and_the_overlap_of_prediction_say(tmp_path, shape, z_mm, expected):
    plan = plan_for(("organ", "cancer"), 2, (32, 32))
    numbers = {"inference_spacing_mm": (2.5, 1.0, 1.0), "overlap": 0.5}
    plan = plan.model_copy(update={"configurations": {"only": plan.configurations["only"].model_copy(update=numbers)}})
    engine = Counting()
    predictor = Predictor(Model(plan, "Threshold", 1, tmp_path, "", torch.nn.Identity()), engine=engine)
    scan = Volume(np.full(shape, BODY_HU, dtype=np.int16), Grid(shape, np.diag([z_mm, 1, 1, 1])[[2, 1, 0, 3]]))
    assert predictor.predict(scan).labels.shape == shape
    assert engine.windows == expected


@pytest.mark.parametrize(("engine", "at_once"), [("torch", 2), ("openvino", 1)])
def test_on_a_cpu_no_more_slices_run_at_once_than_make_it_faster_unless_one_asks(tmp_path, engine, at_once):
    if engine == "openvino":
        find_or_skip()
    folder = model_folder(tmp_path / "model", patch=(224, 224))
    for asked, expected in ((None, at_once), (5, 5)):
        predictor = Predictor(folder, device="cpu", precision="fp32", engine=engine, batch_size=asked)
        assert [member.batch_size for member in predictor.members] == [expected]


def test_every_group_has_its_map_and_later_groups_lie_on_top(tmp_path):
    plan = plan_for(("organ", "cancer"), 2, (32, 32))
    network = threshold_network(plan)
    with torch.no_grad():
        network.heads["cancer"].bias[1] = 1  # tumor everywhere
    save_model(tmp_path / "model", network, plan=plan, trainer="Threshold", step=1, summary={})
    predictor = Predictor(tmp_path / "model", device="cpu", precision="fp32")
    data = np.full((3, 4, 5), AIR_HU, dtype=np.int16)
    data[1:, 1:, 1:] = BODY_HU
    scan = Volume(data, Grid(data.shape, np.eye(4)[[2, 1, 0, 3]]))
    (maps,) = predictor.predict_views(scan, [View()])
    assert {group: drawn.max() for group, drawn in maps.items()} == {"organ": 1, "cancer": 1}
    np.testing.assert_array_equal(predictor.predict(scan).labels, np.where(data > 0, 2, 0))
    # beneath the tumor lies the liver; what is brighter than the mean of its slice
    only = Predictor(tmp_path / "model", device="cpu", precision="fp32", roi=["liver"])
    np.testing.assert_array_equal(only.predict(scan).labels, maps["organ"])
    with pytest.raises(UsageError, match="did you mean 'liver'"):
        Predictor(tmp_path / "model", device="cpu", roi=["lver"])


def test_a_model_predicts_whatever_memory_its_training_was_planned_for(tmp_path):
    plan = plan_for(("organ", "cancer"), 2, (32, 32)).model_copy(update={"budget": Budget(gpu_memory_gb=0.1)})
    with pytest.raises(PlanError, match="budget.gpu_memory_gb"):
        check_fits(plan, "plan")
    save_model(tmp_path, threshold_network(plan), plan=plan, trainer="Threshold", step=1, summary={})
    scan = np.full((4, 32, 32), AIR_HU, dtype=np.int16)
    scan[:, 8:16, 8:16] = BODY_HU
    predictor = Predictor(tmp_path, device="cpu", precision="fp32")
    found = predictor.predict(Volume(scan, Grid(scan.shape, np.eye(4)[[2, 1, 0, 3]])))
    assert np.array_equal(found.labels == 1, scan == BODY_HU)


def test_a_scan_of_nothing_but_air_has_an_empty_answer(predictor):
    data = np.full((3, 40, 50), AIR_HU, dtype=np.int16)
    assert not predictor.predict(Volume(data, Grid(data.shape, np.eye(4)))).labels.any()


def test_an_array_with_voxels_that_are_no_numbers_is_taken_as_a_file_with_them(predictor):
    data = np.full((4, 32, 32), AIR_HU, dtype=np.float32)
    data[1:3, 8:20, 6:18] = BODY_HU
    grid = Grid(data.shape, np.eye(4)[[2, 1, 0, 3]])
    whole = predictor.predict(Volume(data, grid))
    data[0, 0, 0], data[3, 31, 31] = np.nan, np.inf  # 2 of 4096: as few as are air in a file
    prediction = predictor.predict(Volume(data, grid))
    np.testing.assert_array_equal(prediction.labels, whole.labels)
    assert whole.labels.any() and whole.remarks == ()
    assert [said.found for said in prediction.remarks] == ["2 voxels that are NaN or infinite"]
    assert np.isnan(data[0, 0, 0])  # the caller's own array stays as it is
    data[0] = np.nan
    with pytest.raises(DatasetError, match="1025 voxels that are NaN or infinite"):
        predictor.predict(Volume(data, grid))


def test_rows_41_and_42_an_empty_answer_is_told(predictor, tmp_path):
    """A scan of nothing but noisy air, and with it any other without a known organ: an empty map and a warning."""
    noise = np.random.default_rng(0).normal(-1000, 10, (32, 32, 4)).astype(np.int16)
    image = nibabel.Nifti1Image(noise, np.eye(4))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "x.nii.gz")
    prediction = predictor.predict(tmp_path / "x.nii.gz")
    assert not prediction.labels.any()
    assert [said.expected for said in prediction.remarks] == ["tissue, near 0 HU", "some of the model's labels"]


def test_a_patient_without_a_tumor_is_no_reason_for_a_warning(predictor, tmp_path):
    """Where the liver was found, or where nobody asks for more than tumors; the threshold network never draws one."""
    body = np.zeros((4, 32, 32), dtype=bool)
    body[1:3, 8:20, 6:18] = True
    scan = Volume(np.where(body, BODY_HU, AIR_HU).astype(np.int16), Grid(body.shape, np.eye(4)[[2, 1, 0, 3]]))
    tumor = Predictor(predictor.model, device="cpu", precision="fp32", roi=["tumor"])
    cancer = Predictor(model_folder(tmp_path / "cancer", groups=("cancer",)), device="cpu", precision="fp32")
    for one in (tumor, cancer):
        prediction = one.predict(scan)
        assert not prediction.labels.any() and prediction.remarks == ()
    air = Volume(np.full(body.shape, AIR_HU, dtype=np.int16), scan.grid)
    assert [said.expected for said in tumor.predict(air).remarks] == ["tissue, near 0 HU", "some of the model's labels"]


def test_row_43_a_scan_that_is_not_in_hu_is_refused(predictor, tmp_path):
    """From 0 to 1, in a file and as an array."""
    image = nibabel.Nifti1Image(np.random.default_rng(0).random((32, 32, 4), dtype=np.float32), np.eye(4))
    nibabel.save(image, tmp_path / "x.nii.gz")
    for scan, name in ((tmp_path / "x.nii.gz", "x.nii.gz"), (read_image(tmp_path / "x.nii.gz"), "the scan")):
        with pytest.raises(DatasetError, match=rf"{name}\n  found: values from .*\n  expected: HU"):
            predictor.predict(scan)


@pytest.mark.parametrize("tangent", [0.3, -0.3])
def test_row_4_a_leaning_scan_is_answered_on_its_own_grid(predictor, tmp_path, tangent):
    """Slices pushed along y by 0.3 of their height: the body's world position is what is marked."""
    affine = np.array([[1.0, 0, 0, 0], [0, 1, tangent * 5, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    i, j, k = np.indices((30, 40, 8))
    body = ((i - 15) ** 2 + (j - 20) ** 2 < 60) & (abs(k - 4) <= 2)
    write_scan(tmp_path / "x.nii.gz", body, affine)
    out = tmp_path / "out"
    (done,), failures = predict_pairs(predictor, output_names([tmp_path / "x.nii.gz"], out), progress=lambda *_: None)
    assert failures == []
    written = nibabel.load(done)
    np.testing.assert_array_equal(written.affine, nibabel.load(tmp_path / "x.nii.gz").affine)
    marked = np.asarray(written.dataobj) == 1
    assert 2 * (marked & body).sum() / (marked.sum() + body.sum()) > 0.95
    assert "lean" in predictor.predict(tmp_path / "x.nii.gz").remarks[0].found
    openers = [Probabilities(predictor.model.labels, predictor.groups)]
    outputs = output_names([tmp_path / "x.nii.gz"], tmp_path / "again")
    (again,), failures = predict_pairs(predictor, outputs, progress=lambda *_: None, openers=openers)
    assert failures == []
    np.testing.assert_array_equal(np.asarray(nibabel.load(again).dataobj) == 1, marked)
    shares = nibabel.load(again.parent / "probabilities" / "x_organ.nii.gz")
    np.testing.assert_array_equal(shares.affine, written.affine)
    liver = shares.get_fdata()[..., 1]
    np.testing.assert_array_equal(liver > 0.5, marked)


def test_an_answer_has_the_geometry_of_the_scan_as_it_was_read(predictor, tmp_path):
    """A sagittal file, prefetched as a whole, is replaced by one of the same shape at another place."""
    body = np.zeros((32, 6, 30), dtype=bool)
    body[8:20, 1:5, 6:18] = True
    affine = np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, 5, 0, 0], [0, 0, 0, 1]])
    moved = affine + np.array([[0, 0, 0, 70], *[[0] * 4] * 3])
    scan, out, read = tmp_path / "x.nii.gz", tmp_path / "out" / "x.nii.gz", Future()
    write_scan(scan, body, affine)
    read.set_result(predictor.open(scan))
    write_scan(scan, body, moved)
    kinds = [Probabilities(predictor.model.labels, predictor.groups)]
    done, _ = predict_pairs(predictor, {scan: out}, progress=lambda *_: None, openers=kinds, scans=[(scan, read)])
    assert done == [out]
    for written in (out, *kinds[0].files(out)):
        np.testing.assert_array_equal(nibabel.load(written).affine, affine)


def test_a_folder_of_dicom_slices_is_answered_as_nifti(predictor, tmp_path):
    body = np.zeros((6, 32, 32), dtype=bool)
    body[1:5, 8:20, 6:18] = True
    write_series(tmp_path / "patient", np.where(body, BODY_HU, AIR_HU).astype(np.int16))
    outputs = output_names([tmp_path / "patient"], tmp_path / "out")
    (done,), failures = predict_pairs(predictor, outputs, progress=lambda *_: None)
    assert failures == [] and done == tmp_path / "out" / "patient.nii.gz"
    marked, grid = read_labels(done, LABELS), read_series(tmp_path / "patient").grid
    assert marked.grid.is_near(grid, 1e-3)
    assert 2 * ((marked.data == 1) & body).sum() / ((marked.data == 1).sum() + body.sum()) > 0.9
    assert PATIENT.encode() not in gzip.decompress(done.read_bytes())


def test_one_bad_file_is_named_and_the_others_go_on(predictor, tmp_path):
    body = np.arange(64).reshape(4, 4, 4) > 0
    for name in ("a", "b", "c"):
        write_scan(tmp_path / f"{name}_0000.nii.gz", body, np.eye(4))
    content = (tmp_path / "b_0000.nii.gz").read_bytes()
    (tmp_path / "b_0000.nii.gz").write_bytes(content[: len(content) // 2])
    seen = []
    images = [tmp_path / f"{name}_0000.nii.gz" for name in "abc"]
    outputs = output_names(images, tmp_path / "out")
    done, failures = predict_pairs(
        predictor, outputs, progress=lambda image, result: seen.append((image.name[0], type(result)))
    )
    assert [path.name for path in done] == ["a.nii.gz", "c.nii.gz"]
    assert [image for image, _ in failures] == [images[1]] and isinstance(failures[0][1], DatasetError)
    assert [name for name, _ in seen] == ["a", "b", "c"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.nii.gz", "c.nii.gz"]
    assert read_labels(done[0], LABELS).data.shape == read_image(images[0]).data.shape


@pytest.mark.parametrize(
    "problem",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_a_scan_too_large_for_the_memory_fails_alone_and_a_fault_ends_all(predictor, tmp_path, monkeypatch, problem):
    predict, images = Predictor.predict_into, [tmp_path / f"{name}.nii.gz" for name in "abc"]
    for image in images:
        write_scan(image, np.arange(64).reshape(4, 4, 4) > 30, np.eye(4))

    def fails(self, openers, image, *more):
        if image.name == images[1]:
            raise problem
        return predict(self, openers, image, *more)

    monkeypatch.setattr(Predictor, "predict_into", fails)
    done, failures = predict_pairs(predictor, output_names(images, tmp_path / "out"), progress=lambda *_: None)
    assert [path.name for path in done] == ["a.nii.gz", "c.nii.gz"]
    ((image, error),) = failures
    assert image == images[1] and isinstance(error, StorageError) and error.found == "not enough memory"
    assert error.remedy.startswith("a smaller --batch-size") and ("fp32" in error.remedy) == ("engine" in str(problem))
    results = [result for _, result in predict_many(predictor, images)]
    assert [isinstance(result, StorageError) for result in results] == [False, True, False]
    problem = RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="do not fit"):
        predict_pairs(predictor, output_names(images, tmp_path / "out"), progress=lambda *_: None)


def test_a_full_disk_leaves_no_part_of_an_answer_and_with_room_it_is_that_of_an_unbroken_run(predictor, tmp_path):
    """The label map of noise takes 1 kB, a bit a voxel."""
    write_scan(tmp_path / "x.nii.gz", np.random.default_rng(0).random((32, 32, 8)) > 0.5, np.eye(4))
    beside = {"labels": [], "both": [Probabilities(predictor.model.labels, predictor.groups)]}

    def predict(place):
        outputs = output_names([tmp_path / "x.nii.gz"], tmp_path / place)
        return predict_pairs(predictor, outputs, progress=lambda *_: None, openers=beside[place.split("/")[1]])

    def written(place):
        files = (path for path in (tmp_path / place).rglob("*") if path.is_file())
        return {path.relative_to(tmp_path / place).as_posix(): path.read_bytes() for path in files}

    for kind, count in (("labels", 1), ("both", 3)):
        with longest_file(400):
            done, ((_, error),) = predict(f"broken/{kind}")
        assert done == [] and isinstance(error, StorageError) and "bytes free" in error.found
        assert written(f"broken/{kind}") == {}
        for place in ("broken", "unbroken"):
            done, failures = predict(f"{place}/{kind}")
            assert len(done) == 1 and failures == []
        assert written(f"broken/{kind}") == written(f"unbroken/{kind}")
        assert len(written(f"broken/{kind}")) == count


def test_outputs_that_would_be_lost_are_refused_before_any_work(predictor, tmp_path):
    twins = [tmp_path / "a.nii.gz", tmp_path / "sub" / "a_0000.nii.gz"]
    with pytest.raises(UsageError, match="one image for each output"):
        predict_pairs(predictor, output_names(twins, tmp_path / "out"), progress=lambda *_: None)
    series = [tmp_path / "ct", tmp_path / "ct_0000"]  # what lies beside a label map is called by the case
    with pytest.raises(UsageError, match="one image for each output"):
        predict_pairs(predictor, output_names(series, tmp_path / "out"), progress=lambda *_: None)
    with pytest.raises(UsageError, match="an input image of that name"):
        predict_pairs(predictor, output_names([tmp_path / "a.nii.gz"], tmp_path), progress=lambda *_: None)


def test_a_network_without_groups_does_not_predict(tmp_path):
    plan = plan_for((), 2, (32, 32))
    network = build(plan.trainers["Threshold"].network, {})
    save_model(tmp_path, network, plan=plan, trainer="Threshold", step=1, summary={})
    with pytest.raises(RunError, match="one that segments"):
        Predictor(tmp_path, device="cpu")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_is_given_to_several_predictors_stays_as_it_was(tmp_path, engine):
    if engine == "openvino":
        find_or_skip()
    model = load_model(model_folder(tmp_path / "model"))
    model.network.train()  # an engine sets what it runs to eval mode
    predictors = [Predictor(model, device="cpu", precision="fp32", engine=engine) for _ in range(2)]
    assert len({id(predictor.members[0].engine) for predictor in predictors}) == 2
    assert model.network.training


def test_the_fusion_of_the_plan_decides_or_what_is_said_in_its_place(tmp_path):
    """A large and a small bright body; both stay, unless only the largest part is wanted."""
    body = np.zeros((6, 30, 32), dtype=bool)
    body[1:5, 4:12, 5:15] = body[2:4, 20:24, 22:25] = True
    scan = Volume(
        np.where(body, BODY_HU, AIR_HU).astype(np.int16), Grid(body.shape, np.diag([1, 1, 1, 1])[[2, 1, 0, 3]])
    )
    model = model_folder(tmp_path / "model")

    def predicted(*changes):
        return Predictor(model, device="cpu", precision="fp32", changes=changes).predict(scan).labels

    assert np.array_equal(predicted(), body)
    assert np.array_equal(predicted("fusion.flips=true"), body)
    assert np.array_equal(predicted("fusion.rule=probability"), body)
    body[:, 20:] = False
    assert np.array_equal(predicted('fusion.largest=["liver"]'), body)
    assert np.array_equal(predicted('fusion.least_ml={"liver": 0.03}'), body)
    with pytest.raises(UsageError, match="fusion.FIELD"):
        predicted("configurations.only.patch=[64, 64]")


@pytest.mark.parametrize("name", ["only", "*"])
def test_windows_overlap_as_planned_or_as_said_for_a_trained_model(tmp_path, name):
    model = model_folder(tmp_path / "model")

    def overlaps(*changes):
        found = Predictor(model, model, device="cpu", precision="fp32", changes=changes)
        assert found.model.plan.fusion.flips == (len(changes) > 1)
        return [member.model.configuration.overlap for member in found.members]

    assert overlaps() == [0.25, 0.25]
    assert overlaps(f"configurations.{name}.overlap=0.5", "fusion.flips=true") == [0.5, 0.5]
    with pytest.raises(UsageError, match="one that a model uses: only"):
        overlaps("configurations.3d.overlap=0.5")
    with pytest.raises(PlanError, match="overlap"):
        overlaps("configurations.only.overlap=1")
