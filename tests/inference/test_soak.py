"""Many cases in one process, and a long one: what is taken is given back. FLARENET_FULL=1 runs all of it."""

import gzip
import multiprocessing
import os
import random
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import nibabel
import numpy as np
import psutil
import pytest
import torch

from flarenet.data.labels import LabelSet
from flarenet.data.reading import STRICT
from flarenet.inference.many import predict_pairs
from flarenet.inference.models.model import Model
from flarenet.inference.outcome import Outcome
from flarenet.inference.outputs.outputs import output_names
from flarenet.inference.outputs.run_report import RunReport, settings_of
from flarenet.inference.outputs.statistics import Statistics
from flarenet.inference.predict import Predictor
from tests.inference.test_predict import model_folder, plan_for, write_scan

FULL = os.environ.get("FLARENET_FULL") == "1"
CASES, WARM = (1000, 50) if FULL else (150, 50)
MOST_KB_PER_CASE, MOST_SLOWER = 10, 1.1
SLICES, CLASSES = 2000 if FULL else 60, 15
MOST_MB, MOST_GROWTH_MB = 8192, 800


@dataclass
class Soak:
    """What a process was seen to do, case by case."""

    done: list[str] = field(default_factory=list)  # names of label maps
    failures: dict[str, str] = field(default_factory=dict)  # {name of the image: class of the error}
    rss_kb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    children: int = 0  # processes left at the end


def predict_all(folder):
    """Predict folder/in into folder/out as `flarenet_predict` does; return a Soak.

    It runs in a process of its own: the heap of one in which a thousand tests ran grows and shrinks by megabytes.
    """
    predictor = Predictor(model_folder(folder / "model"), device="cpu", precision="fp32")
    outputs = output_names(sorted((folder / "in").iterdir()), folder / "out")
    statistics = Statistics(predictor.model.labels, predictor.shown)
    answers = {image: [output, *statistics.files(output)] for image, output in outputs.items()}
    report = RunReport(folder / "out", settings_of(predictor, STRICT, [statistics]), answers)
    process, seen = psutil.Process(), Soak()

    def progress(image, result):
        report.told(image, result)
        seen.rss_kb.append(process.memory_info().rss / 1024)
        seen.files.append(process.num_fds())
        seen.threads.append(threading.active_count())
        if isinstance(result, Outcome):
            seen.seconds.append(result.seconds)

    done, failures = predict_pairs(predictor, outputs, progress=progress, openers=[statistics])
    seen.done = [path.name for path in done]
    seen.failures = {image.name: type(error).__name__ for image, error in failures}
    seen.children = len(process.children())
    return seen


@pytest.mark.parametrize("broken", [False, True], ids=["l01", "l06"])
def test_many_cases_in_one_process(tmp_path, broken):
    """RSS grows by at most 10 kB a case, files and threads stay, nothing is left on the disk. In full, the last
    100 are at most a tenth slower than the first.

    broken  whether half of the cases, drawn at random, are of a file that was cut
    """
    (tmp_path / "in").mkdir()
    body = np.random.default_rng(0).random((32, 32, 32)) > 0.5
    write_scan(tmp_path / "sound.nii.gz", body, np.eye(4))
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "sound.nii.gz").read_bytes()[:-1000])
    names = [f"case{number:04}" for number in range(CASES)]
    cut = set(random.Random(0).sample(names, CASES // 2)) if broken else set()
    for name in names:
        os.link(tmp_path / ("cut.nii.gz" if name in cut else "sound.nii.gz"), tmp_path / "in" / f"{name}.nii.gz")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        seen = alone.submit(predict_all, tmp_path).result()
    assert seen.done == [f"{name}.nii.gz" for name in names if name not in cut]
    assert seen.failures == {f"{name}.nii.gz": "DatasetError" for name in cut}
    slope_kb, _ = np.polyfit(np.arange(WARM, CASES), seen.rss_kb[WARM:], 1)
    print(f"{CASES} cases: {slope_kb:.2f} kB a case, {seen.rss_kb[-1] / 1024:.0f} MB at the end")
    assert slope_kb <= MOST_KB_PER_CASE
    if FULL:  # of fewer cases a single busy moment would decide
        assert np.median(seen.seconds[-100:]) <= MOST_SLOWER * np.median(seen.seconds[WARM : WARM + 100])
    for counts in (seen.files[WARM:], seen.threads[WARM:]):
        assert max(counts) - min(counts) <= 2
    assert seen.children == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*seen.done, "report.json", "statistics"]
    )


def rss_mb():
    return psutil.Process().memory_info().rss / (1 << 20)


class Bands:
    """An Engine: the class of a pixel is its brightness, in steps of 1 / CLASSES."""

    name, device = "bands", torch.device("cpu")

    def __init__(self):
        self.rss_mb = []

    def __call__(self, windows):
        self.rss_mb.append(rss_mb())
        place = windows * CLASSES  # [b, 1, y, x]
        organs = -(place - torch.arange(CLASSES).view(1, -1, 1, 1)).abs()
        tumor = place - (CLASSES - 0.5)
        return {"organ": organs, "cancer": torch.cat([-tumor, tumor], dim=1)}


def test_l02_a_long_scan_of_15_classes(tmp_path):
    """512 x 512 x 2000: at most 8 GB, whatever ran before in this process, and each voxel is of the class it shows.

    However long it is, it takes 300 to 500 MB beyond what the process had; the logits of 60 slices are 1070 MB.
    """
    names = ("background", *(f"organ {value}" for value in range(1, CLASSES)), "tumor")
    labels = LabelSet(names=names, groups={"organ": tuple(range(1, CLASSES)), "cancer": (CLASSES,)})
    plan = plan_for(("organ", "cancer"), 2, (512, 512)).model_copy(update={"labels": labels})
    engine = Bands()
    predictor = Predictor(Model(plan, "Threshold", 1, tmp_path, "", torch.nn.Identity()), engine=engine)
    lowest_hu, highest_hu = plan.configurations["only"].clip_hu
    band_hu = np.rint(np.linspace(lowest_hu, highest_hu, 1 + CLASSES)).astype(np.int16)
    classes = np.zeros((512, 512), dtype=np.uint8)
    classes[20:500, 32:480] = np.arange(448) // 28  # 16 bands of 28 pixels
    header = nibabel.Nifti1Header()
    header.set_data_shape((512, 512, SLICES))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), code="scanner")
    header.set_xyzt_units("mm")
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with gzip.open(tmp_path / "a.nii.gz", "wb", compresslevel=1) as file:
        file.write(header.binaryblock + bytes(4))
        for z in range(SLICES):
            file.write(band_hu[np.roll(classes, z, axis=1)].tobytes())
    peaks_mb, before_mb = [], rss_mb()

    def progress(image, result):
        peaks_mb.append(result.peak_mb)
        print(f"peak {result.peak_mb:.0f} MB, {result.seconds:.0f} s, {dict(result.stage_s)}")

    outputs = output_names([tmp_path / "a.nii.gz"], tmp_path / "out")
    (done,), failures = predict_pairs(predictor, outputs, progress=progress)
    growth_mb = max(engine.rss_mb) - before_mb
    print(f"{growth_mb:.0f} MB more than before")
    assert failures == [] and peaks_mb[0] <= MOST_MB and growth_mb <= MOST_GROWTH_MB
    with gzip.open(done) as written:
        assert len(written.read(352)) == 352
        for z in range(SLICES):
            assert written.read(512 * 512) == np.roll(classes, z, axis=1).tobytes(), f"slice {z}"
        assert not written.read(1)
