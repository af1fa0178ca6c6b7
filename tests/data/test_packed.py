"""Packed arrays: any window is what numpy would give."""

import subprocess
import sys

import numpy as np
import pytest

from flarenet.data.packed import Packed, pack
from flarenet.errors import DatasetError


@pytest.fixture
def stored(tmp_path):
    def store(array):
        path = tmp_path / "a.b2nd"
        path.write_bytes(pack(array))
        return Packed(path, array.shape, array.dtype)

    return store


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 70, 3), (3, 130, 200)])
def test_windows(stored, shape, dtype):
    array = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    packed = stored(array)
    far = tuple(n // 2 for n in shape)
    windows = [0, (far[0],), (np.int64(far[0]), slice(0, 900), slice(far[2], far[2] + 7)), (slice(far[0], None),)]
    windows += [tuple(slice(n // 3, n // 3 + 65) for n in shape), (slice(None), far[1], far[2])]
    for window in windows:
        np.testing.assert_array_equal(packed[window], array[window])
        assert packed[window].dtype == dtype
    np.testing.assert_array_equal(packed, array)
    assert (len(packed), packed.shape) == (shape[0], shape)


def test_a_file_of_another_kind_or_none_is_named(stored):
    packed = stored(np.zeros((4, 5, 6), np.int16))
    other = Packed(packed.path, (4, 5, 7), packed.dtype)
    with pytest.raises(DatasetError, match="a.b2nd"):
        other[0]
    for content in (b"", b"nothing", packed.path.read_bytes()[:-9]):
        packed.path.write_bytes(content)
        with pytest.raises(DatasetError, match="a.b2nd"):
            packed[0]
    packed.path.unlink()
    with pytest.raises(DatasetError, match="a.b2nd"):
        packed[0]


THREADS = """
import sys
from pathlib import Path
import blosc2
import numpy as np
blosc2.set_nthreads(3)
from flarenet.data.packed import Packed
packed = Packed(Path(sys.argv[1]), (4, 5, 6), np.dtype(np.int16))
print(blosc2.nthreads, packed._open().schunk.dparams.nthreads, packed[1:3].sum())
"""


def test_a_read_takes_one_thread_and_leaves_a_users_own_arrays_their_threads(stored):
    packed = stored(np.ones((4, 5, 6), np.int16))
    done = subprocess.run([sys.executable, "-c", THREADS, packed.path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "1", "60"]
