"""Measure bytes on disk and random reads of a prepared scan: the layout of the store against others.

    OMP_NUM_THREADS=1 python -m benchmarks.preparation.reads

A scan of 512 x 512 x 150 voxels is prepared; then slices, and blocks of up to 128 voxels a side, are read at random
positions, with a warm cache. Milliseconds are medians.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter

import blosc2
import numpy as np

from flarenet.data.packed import BLOCK, CHUNK_SLICES, Packed, pack
from flarenet.preparation.prepare import prepare_image

from .one_case import configurations, timed
from .scans import scan

CODECS = {"lz4": blosc2.Codec.LZ4, "zstd": blosc2.Codec.ZSTD}
BLOCKS = (BLOCK, (1, 512, 512), (8, 32, 32), (4, 64, 64))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=150)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--reads", type=int, default=100)
    arguments = parser.parse_args()
    image, _ = scan(0, arguments.slices, pixels=arguments.pixels)
    prepared = prepare_image(image, configurations("linear")["3d"]).image
    print(f"{prepared.shape} voxels, {prepared.nbytes / 1e6:.1f} MB\n")
    print("| layout | MB | write ms | slice ms | block ms |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, write, read in layouts(Path(folder) / "array", prepared):
            write_ms = 1000 * timed(write, clock=perf_counter, repeat=3)
            size_mb = (Path(folder) / "array").stat().st_size / 1e6
            slice_ms, block_ms = (1000 * s for s in read_s(read, prepared, arguments.reads))
            print(f"| {name} | {size_mb:.1f} | {write_ms:.0f} | {slice_ms:.2f} | {block_ms:.2f} |", flush=True)
    return 0


Layout = tuple[str, Callable[[], object], Callable[[], object]]


def layouts(path: Path, array: np.ndarray) -> list[Layout]:
    """(name, write the array to path, open it for reading) of each layout."""
    found: list[Layout] = [
        (
            f"the store: lz4, {BLOCK}",
            lambda: path.write_bytes(pack(array)),
            lambda: Packed(path, array.shape, array.dtype),
        ),
        (".npy, mapped", partial(_save, path, array), lambda: np.load(path, mmap_mode="r", allow_pickle=False)),
    ]
    for (name, codec), block in product(CODECS.items(), BLOCKS):
        write = partial(_compress, path, array, codec, block)
        found.append((f"{name}, {block}", write, lambda: blosc2.ndarray_from_cframe(np.memmap(path, np.uint8, "r"))))
    return found


def read_s(open_array: Callable[[], object], array: np.ndarray, reads: int) -> tuple[float, float]:
    """Median seconds to read one slice and one block, opening included; one slice is compared with `array` first."""
    draw = np.random.default_rng(0)
    assert np.array_equal(open_array()[5], array[5])
    corners = [tuple(int(draw.integers(max(1, n - 127))) for n in array.shape) for _ in range(reads)]
    blocks = iter([tuple(slice(a, a + 128) for a in corner) for corner in corners])
    slices = iter(draw.integers(array.shape[0], size=reads).tolist())
    clock = {"clock": perf_counter, "repeat": reads}
    # a mapped .npy is copied, as compressed arrays are anyway
    return (
        timed(lambda: np.array(open_array()[next(slices)]), **clock),
        timed(lambda: np.array(open_array()[next(blocks)]), **clock),
    )


def _save(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as stream:
        np.save(stream, array, allow_pickle=False)


def _compress(path: Path, array: np.ndarray, codec: blosc2.Codec, block: tuple[int, ...]) -> None:
    frame = blosc2.asarray(
        array,
        chunks=(CHUNK_SLICES, *array.shape[1:]),
        blocks=tuple(min(most, n) for most, n in zip(block, array.shape)),
        cparams={"codec": codec, "clevel": 1, "filters": [blosc2.Filter.BITSHUFFLE], "nthreads": 1},
    )
    path.write_bytes(frame.to_cframe())


if __name__ == "__main__":
    sys.exit(main())
