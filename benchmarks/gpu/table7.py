"""Measure prediction on a GPU as in the paper's Table 7: seconds, memory and its area over time, by scan length.

    python -m benchmarks.gpu.table7
    python -m benchmarks.gpu.table7 --device cpu --narrow --slices 4 --pixels 64 --also --profile 4   # small, anywhere

case      flarenet_predict in its own process, the paper's 2D network (untrained) on a phantom of 512 x 512 pixels,
          from the start of Python to the end; memory of the whole device, sampled every 0.1 s; next to it the paper's
          row
start-up  a process that only imports and uses the device for the first time
stages    of the longest scan, from report.json: they run in parallel; "outside the case" is from the start of the
          process to the reading, and from the last file to the end
--anew    each row starts without kernels compiled by Triton, as in a new container
--also    the longest scan in other precisions, or with other batch sizes
profile   the GPU while a scan is predicted in this process, with a model that is loaded and warm: the share of the
          time in which a kernel or copy ran, and the ten that took most of it
A case that fails is named in its row, and the others go on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.prediction.cases import FEATURES, PIXELS, write_model
from benchmarks.prediction.memory import COMMAND
from flarenet.errors import RunError
from flarenet.evaluation.gpu_memory import Gpu, find_gpu
from flarenet.evaluation.process_cost import ProcessCost, run_measured
from flarenet.inference.many import predict_pairs
from flarenet.inference.outputs.run_report import REPORT, CaseReport, Report
from flarenet.inference.predict import Predictor
from flarenet.reporting.published import published
from flarenet.schema import load

NARROW = (4,) * 6
TIMEOUT_S = 120.0
ROWS = 10

WRITE = "import sys; from benchmarks.prediction.cases import write_scan as w; from pathlib import Path as P; "
WRITE += "w(P(sys.argv[1]), int(sys.argv[2]), pixels=int(sys.argv[3]))"

START = """
import sys, time
t = time.perf_counter()
def lap(what):
    global t
    print(f"| {what} | {time.perf_counter() - t:.2f} |", flush=True)
    t = time.perf_counter()
import torch
lap("import torch")
import flarenet.cli.predict, flarenet.inference.predict
lap("import flarenet")
torch.zeros(1, device=sys.argv[1]).sum().item()
lap("first number on the device")
torch.nn.Conv2d(8, 8, 3, device=sys.argv[1])(torch.zeros(1, 8, 32, 32, device=sys.argv[1])).sum().item()
lap("first convolution")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", nargs="+", type=int, default=[case.size[2] for case in published().efficiency])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="auto")
    also = ["fp32", "fp16", "auto:4"]
    parser.add_argument("--also", nargs="*", default=also, metavar="PRECISION[:BATCH]", help="default: %(default)s")
    parser.add_argument("--anew", action="store_true", help="an empty TRITON_CACHE_DIR for each row")
    parser.add_argument("--profile", type=int, default=100, metavar="SLICES", help="0: none")
    parser.add_argument("--pixels", type=int, default=PIXELS)
    parser.add_argument("--narrow", action="store_true", help="a network of four channels a layer, for a quick run")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = write_model(folder / "model", features=NARROW if arguments.narrow else FEATURES)
        lengths = sorted({*arguments.slices, *([arguments.profile] if arguments.profile else [])})
        write_scans(folder, lengths, arguments.pixels)
        print(f"scans written in {time.perf_counter() - began:.1f} s\n", flush=True)
        # this process has no CUDA context until the profile: it would count as the cases' memory
        gpu = find_gpu() if arguments.device != "cpu" else None
        if gpu:
            print(f"{gpu.name}, {gpu.used_mb():.0f} MB in use before\n", flush=True)
        attempted(start_up, arguments.device)
        attempted(table, folder, arguments, gpu)
        if arguments.profile:
            attempted(profiled, model, folder, arguments)
    print(f"{time.perf_counter() - began:.0f} s in all")
    return 0


def attempted(part: Callable, *words: object) -> None:
    """Run one part; its error is printed, so that the parts after it still run."""
    try:
        part(*words)
    except Exception as error:  # noqa: BLE001
        print(f"\n{part.__name__} failed: {type(error).__name__}: {error}", flush=True)


def write_scans(folder: Path, lengths: Sequence[int], pixels: int) -> None:
    """Write a scan of each length as folder/SLICES.nii.gz, all at the same time, each in its own process."""
    alone = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")}
    lines = [[sys.executable, "-c", WRITE, str(scan_of(folder, n)), str(n), str(pixels)] for n in lengths]
    at_work = [subprocess.Popen(line, env=alone) for line in lines]
    if any([process.wait() for process in at_work]):
        raise SystemExit("a scan could not be written")


def scan_of(folder: Path, slices: int) -> Path:
    return folder / f"{slices}.nii.gz"


def start_up(device: str) -> None:
    print("| start-up | seconds |\n|---|---|", flush=True)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", START, device], check=True, timeout=TIMEOUT_S)
    print(f"| the whole process | {time.perf_counter() - began:.2f} |\n", flush=True)


def table(folder: Path, arguments: argparse.Namespace, gpu: Gpu | None) -> None:
    """Print a row for each case when it is done, then the stages of the longest scan."""
    paper = {case.size[2]: case for case in published().efficiency}
    longest = max(arguments.slices)
    todo = [(slices, arguments.precision) for slices in arguments.slices]
    todo += [(longest, precision) for precision in arguments.also]
    print("| slices | engine | s | paper's | GPU MB | paper's | MB s | paper's | RSS MB | CPU % |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    told: list[str] = []
    for slices, precision in todo:
        word, _, batch = precision.partition(":")
        asked = ["--device", arguments.device, "--precision", word, *(["--batch-size", batch] if batch else [])]
        if arguments.anew:
            os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp(dir=folder)
        try:
            cost, case, engine = measured(folder, slices, asked, gpu)
            engine += f", batch {batch}" if batch else ""
        except (RunError, OSError) as error:
            print(f"| {slices} | {precision}: failed: {' '.join(str(error).split())} | {'| ' * 8}", flush=True)
            continue
        own, printed = (cost.seconds, cost.gpu_peak_mb, cost.gpu_area_mb_s), paper.get(slices)
        theirs = (printed.seconds, printed.gpu_peak_mb, printed.gpu_area_mb_s) if printed else (None,) * 3
        numbers = [_shown(n) for pair in zip(own, theirs) for n in pair]
        numbers += [_shown(cost.peak_rss_mb), _shown(cost.cpu_percent)]
        print(f"| {slices} | {engine} | {' | '.join(numbers)} |", flush=True)
        if slices == longest:
            told += stages(slices, engine, cost, case)
    print("\n| slices | engine | stage | seconds |\n|---|---|---|---|")
    print("\n".join(told) + "\n", flush=True)


def measured(folder: Path, slices: int, asked: Sequence[str], gpu: Gpu | None) -> tuple[ProcessCost, CaseReport, str]:
    """(cost of the process, its report of the case, name of the engine). Raises RunError where the process failed."""
    scan, out, log = scan_of(folder, slices), folder / "out", folder / "log.txt"
    line = [sys.executable, "-c", COMMAND, "-i", str(scan), "-o", str(out), "-m", str(folder / "model")]
    cost = run_measured([*line, *asked], log=log, timeout_s=TIMEOUT_S, gpu=gpu)
    if cost.exit_code:
        last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"])[-1]
        raise RunError(f"{slices} slices", found=f"exit code {cost.exit_code}: {last}", expected="a prediction")
    report = load(Report, out / REPORT, RunError)
    return cost, report.cases[str(slices)], report.settings.engine


def stages(slices: int, engine: str, cost: ProcessCost, case: CaseReport) -> Iterator[str]:
    """Rows of seconds: each stage, the case from reading to the last file, the process outside the case."""
    whole_s = case.seconds or 0.0
    for name, seconds in {**case.stage_s, "the case": whole_s, "outside the case": cost.seconds - whole_s}.items():
        yield f"| {slices} | {engine} | {name} | {seconds:.2f} |"


def profiled(model: Path, folder: Path, arguments: argparse.Namespace) -> None:
    predictor = Predictor(model, engine="torch", device=arguments.device, precision=arguments.precision)
    on_gpu = "cuda" in str(predictor.device)
    pair = {scan_of(folder, arguments.profile): folder / "profiled.nii.gz"}

    def predicted() -> float:
        began = time.perf_counter()
        _, failures = predict_pairs(predictor, pair, progress=lambda image, result: None)
        for _, error in failures:
            raise error
        return time.perf_counter() - began

    predicted()
    warm_s = predicted()
    # on a CPU the threads of the stages are profiled only with this option; on a GPU every kernel is
    every_thread = None if on_gpu else _ExperimentalConfig(profile_all_threads=True)
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity], experimental_config=every_thread) as seen:
        wall_s = predicted()
    spent_s, calls = ran(seen.events(), on_gpu=on_gpu)
    busy_s = spent_s.total()
    print(f"{arguments.profile} slices, {predictor.engine_names}: {warm_s:.2f} s; profiled {wall_s:.2f} s,")
    print(f"in which {'the GPU' if on_gpu else 'torch'} was busy for {busy_s:.2f} s, {busy_s / wall_s:.0%}\n")
    if on_gpu:
        peaks = torch.cuda.max_memory_allocated() >> 20, torch.cuda.max_memory_reserved() >> 20
        print(f"torch's peaks: {peaks[0]} MB in tensors, {peaks[1]} MB kept\n")
    print("| what ran | calls | seconds | of the wall time |\n|---|---|---|---|")
    for name, seconds in spent_s.most_common(ROWS):
        said = " ".join(name.replace("|", "/").split())[:100]
        print(f"| {said} | {calls[name]} | {seconds:.3f} | {seconds / wall_s:.1%} |")
    print(flush=True)


def ran(events: Iterable[FunctionEvent], *, on_gpu: bool) -> tuple[Counter[str], Counter[str]]:
    """({name: seconds}, {name: calls}) of each kernel and copy; one stream runs them, so none overlap. On a CPU, of
    each operator, without the operators that it calls."""
    spent_s: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in events:
        if on_gpu and event.device_type != DeviceType.CUDA:
            continue
        took_us = event.time_range.elapsed_us() if on_gpu else event.self_cpu_time_total
        spent_s[event.name] += took_us / 1e6
        calls[event.name] += 1
    return spent_s, calls


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}" if number < 100 else f"{number:.0f}"


if __name__ == "__main__":
    sys.exit(main())
