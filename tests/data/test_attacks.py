"""Scans, tables and prepared cases made to do harm, by the numbers of the attacks: S01 pickled code, S10 bombs, S12
files changed at random, S13 JSON that is too much.

Those of S10 to S13 run in processes of their own, whose memory and processor time show what refusing costs.
FLARENET_FULL=1 changes ten times as many files.
"""

import gzip
import json
import os
import struct
import subprocess
import sys

import nibabel
import numpy as np
import pytest

from flarenet.data.store import Store
from flarenet.errors import DatasetError
from flarenet.schema import digest
from flarenet.volume import Grid
from flarenet.whole import sha256_of
from tests.canary import canary_files
from tests.model_files.test_attacks import too_much

SEEDS = 20_000 if os.environ.get("FLARENET_FULL") else 2_000
MB = 1 << 20

COST = """
import json, random, sys, time
from pathlib import Path
import numpy as np
from flarenet.data.dataset_file import dataset_findings
from flarenet.data.nifti import inspect_file, inspect_image, read_grid, read_image
from flarenet.errors import FlarenetError

folder = Path(sys.argv[1])

def peak_mb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

def slowest_s(call):
    began = time.process_time()
    try:
        call()
    except FlarenetError as error:
        assert error.found and error.expected
        refused.append(1)
    return time.process_time() - began

def read_finite(path):
    volume = read_image(path)
    assert np.isfinite(volume.data).all() and volume.data.shape == volume.grid.shape
    assert np.isfinite(volume.grid.affine).all()

refused = []
slowest_s(lambda: inspect_image(folder / "sound.nii.gz"))  # all that is imported late is there now
before = peak_mb()
{body}
print(json.dumps({{"refused": len(refused), "slowest_s": slowest, "growth_mb": peak_mb() - before}}))
"""


def cost(folder, body, *words):
    """What `body`, which leaves `slowest`, the longest of its calls in seconds, costs a process."""
    line = [sys.executable, "-c", COST.format(body=body), str(folder), *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def sound(tmp_path):
    """A small sound scan, as bytes; it lies in sound.nii.gz too."""
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([1.0, 1, 2, 1]))
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    (tmp_path / "sound.nii.gz").write_bytes(gzip.compress(content))
    return content


def sealed(folder):
    """Make the record of a prepared case fit its files again, as whoever can write there may do."""
    content = json.loads((folder / "record.json").read_text())
    for name, written in content["record"]["files"].items():
        written |= {"size_bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
    content["sha256"] = digest(content["record"])
    (folder / "record.json").write_text(json.dumps(content))


@pytest.mark.parametrize("file", ["image.b2nd", "map_organ.b2nd", "places_organ.npy", "record.json"])
def test_s01_pickled_code_in_a_prepared_case_is_refused_and_not_run(tmp_path, file):
    canary, store, grid = tmp_path / "canary", Store(tmp_path / "store"), Grid((2, 3, 4), np.eye(4))
    for name, content in canary_files(canary).items():
        image, organ = np.zeros(grid.shape, np.int16), np.ones(grid.shape, np.uint8)
        store.write("a", annotated={1}, key="k", grid=grid, original=grid, image=image, maps={"organ": organ})
        (store.folder / "a" / file).write_bytes(content)
        if file != "record.json":
            sealed(store.folder / "a")
            store.verify("a")
        with pytest.raises(DatasetError, match=file):
            case = store.read("a")
            for array in (case.image, case.maps["organ"], case.places["organ"]):
                np.asarray(array)
        assert not canary.exists(), name


def of_shape(content, *shape):
    """A scan whose header says another shape."""
    return content[:40] + struct.pack("<8h", 3, *shape, 1, 1, 1, 1) + content[56:]


def zeros():
    """2 GB of them in 2 MB."""
    return gzip.compress(bytes(64 * MB)) * 32


BOMBS = {
    "32767^3": lambda content: of_shape(content, 32767, 32767, 32767),
    "32767^3, gzip": lambda content: gzip.compress(of_shape(content, 32767, 32767, 32767)),
    "2 GB of voxels": lambda content: gzip.compress(of_shape(content, 1024, 1024, 1024)[:352]) + zeros(),
    "2 GB beyond the voxels": lambda content: gzip.compress(content) + zeros(),
    "a tail of 1 GB": lambda content: content,
}


@pytest.mark.parametrize("kind", BOMBS)
def test_s10_bombs_are_refused_before_they_go_off(tmp_path, sound, kind):
    path = tmp_path / ("bomb.nii" if kind in ("32767^3", "a tail of 1 GB") else "bomb.nii.gz")
    path.write_bytes(BOMBS[kind](sound))
    if kind == "a tail of 1 GB":
        os.truncate(path, len(sound) + (1 << 30))  # a hole: it takes no disk
    body = """
readers = (read_image, inspect_image, lambda path: inspect_file(path, {-200.0}))
slowest = max(slowest_s(lambda: reader(Path(sys.argv[2]))) for reader in readers)
"""
    found = cost(tmp_path, body, path)
    assert found["refused"] == 3
    assert found["slowest_s"] <= 1 and found["growth_mb"] <= 200


def test_s12_headers_changed_at_random_are_read_or_refused(tmp_path, sound):
    (tmp_path / "sound.nii").write_bytes(sound)
    body = f"""
content, path, slowest = (folder / "sound.nii").read_bytes(), folder / "changed.nii", 0.0
for seed in range({SEEDS}):
    chance = random.Random(seed)
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        place, width = chance.randrange(352), chance.choice((1, 2, 4))
        changed[place : place + width] = chance.choice((chance.randbytes(width), b"\\0" * width, b"\\xff" * width))
    path.write_bytes(changed[: chance.choice((len(changed), chance.randrange(len(changed))))])
    for reader in (read_grid, read_finite):
        slowest = max(slowest, slowest_s(lambda: reader(path)))
"""
    found = cost(tmp_path, body)  # anything but a FlarenetError, or a crash, ends it with another exit code
    assert SEEDS < found["refused"] < 2 * SEEDS
    assert found["slowest_s"] <= 2 and found["growth_mb"] <= 1000


def test_s12_tables_changed_at_random_are_read_or_refused(tmp_path, sound):
    table = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "dataset": {"a": {"images": ["sound.nii.gz"], "label": "sound.nii.gz"}},
    }
    (tmp_path / "set").mkdir()
    (tmp_path / "sound.json").write_text(json.dumps(table))
    body = f"""
content, path, slowest = (folder / "sound.json").read_bytes(), folder / "set" / "dataset.json", 0.0
words = (b"[" * 5000, b"NaN", b"-1", b"1e999", b"9" * 5000, b"null", b'"../x"', b"{{}}", b"\\xff", b'"', b",", b"\\0")
for seed in range({SEEDS}):
    chance = random.Random(seed)
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed))
        changed[place : place + chance.randint(0, 6)] = chance.choice((*words, chance.randbytes(2)))
    path.write_bytes(changed)
    slowest = max(slowest, slowest_s(lambda: dataset_findings(path.parent)))
"""
    found = cost(tmp_path, body)
    assert found["slowest_s"] <= 2 and found["growth_mb"] <= 1000


@pytest.mark.parametrize("kind", ["deep", "long number", "large", "same key twice", "NaN", "no UTF-8", "empty"])
def test_s13_a_table_that_is_too_much_is_refused_at_once(tmp_path, sound, kind):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset.json").write_bytes(too_much(kind))
    body = """
from flarenet.data.dataset_file import read_dataset
slowest = slowest_s(lambda: read_dataset(folder / "set"))
"""
    found = cost(tmp_path, body)
    assert found["refused"] == 1
    assert found["slowest_s"] <= 1 and found["growth_mb"] <= 200
