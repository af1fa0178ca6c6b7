"""Measure peak memory and time per slice of flarenet_predict on a CPU, by the length of the scan.

    python -m benchmarks.prediction.memory [--slices 55 100 554 2000] [--narrow | -m MODEL] [--pixels 512]
        [--engine auto] [--precision auto]

Each row is its own process: `flarenet_predict` with the paper's 2D network on one phantom scan of 512 x 512 pixels,
read from a gzip file and written to one; it names the engine that it takes. OpenVINO's graph of the network is kept
before. The peak is the kernel's (ru_maxrss). --narrow takes a network of four channels per layer: a quick run, in which
everything but the network weighs more. MODEL is a folder that flarenet_predict takes, of a 2D or 3D network.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from .cases import FEATURES, PIXELS, write_model, write_scan

COMMAND = "import sys; from flarenet.cli.predict import main; sys.exit(main())"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", nargs="+", type=int, default=[55, 100, 554, 2000])
    parser.add_argument("--pixels", type=int, default=PIXELS)
    parser.add_argument("--narrow", action="store_true")
    parser.add_argument("-m", "--model", type=Path, help="a trained model in place of the paper's network")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = folder / "scan.nii.gz", folder / "out.nii.gz"
        ways = {"engine": arguments.engine, "precision": arguments.precision}
        os.environ["FLARENET_CACHE"] = f"{folder}/cache"
        model = arguments.model or write_model(folder / "model", features=(4,) * 6 if arguments.narrow else FEATURES)
        write_scan(files[0], 1, pixels=arguments.pixels)
        predicted(model, *files, **ways)  # keeps the graph
        print("| slices | peak MB | seconds | ms a slice |\n|---|---|---|---|")
        for slices in arguments.slices:
            write_scan(files[0], slices, pixels=arguments.pixels)
            peak_mb, seconds = predicted(model, *files, **ways)
            print(f"| {slices} | {peak_mb:.0f} | {seconds:.1f} | {1000 * seconds / slices:.0f} |", flush=True)


def predicted(model: Path, scan: Path, out: Path, *, engine: str, precision: str) -> tuple[float, float]:
    """(peak MB of the child process, seconds from its start to its end)."""
    began = time.perf_counter()
    words = ["-i", str(scan), "-o", str(out), "-m", str(model), "--device", "cpu"]
    words += ["--engine", engine, "--precision", precision]
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", COMMAND, *words], os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"flarenet_predict ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1024, time.perf_counter() - began


if __name__ == "__main__":
    main()
