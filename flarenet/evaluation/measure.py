"""Predict cases with a command, one process per case as challenges do, and measure what each case costs."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..data.memory import processors
from ..data.names import CHANNEL, FILE_ENDINGS, case_name, composed, stem_of
from ..data.nifti import read_grid
from ..data.reading import Reading
from ..errors import FlarenetError, RunError, UsageError, without_folders
from ..whole import remove_leftovers
from .efficiency import EFFICIENCY, CaseCost, Efficiency, EfficiencyFile, Sample, read_efficiency
from .gpu_memory import Gpu
from .process_cost import ProcessCost, run_measured

LOGS = "logs"
"""The folder, next to the predictions, with the output of the command for each case."""

MOST_SAMPLES = 150
"""The most samples kept of a case, those of the 15 s that the FLARE challenges tolerate: the file of thousands of cases
must stay readable."""

INPUTS = ("{input}", "{image}")
OUTPUT = "{output}"

_SIZE_ONLY = Reading(affine="sform", assume_affine=True, volume=0)
"""How a scan's header is read here: only its size is used, and whether the rest will do is the command's affair."""

Tell = Callable[[str, "CaseCost | str"], None]
"""Called with a case and its cost, or the reason why it has none."""


@dataclass(frozen=True)
class Command:
    """The words of a command that predicts one case, with these placeholders:

    {input}   a folder that holds nothing but a copy of the scan
    {image}   that copy
    {output}  an empty folder, in which the command is to write CASE.nii.gz or CASE.nii
    Raises UsageError where {output} or both input placeholders are missing, and for a program that does not exist.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        said = " ".join(self.words)
        if not any(name in said for name in INPUTS) or OUTPUT not in said:
            expected = "-- COMMAND with {input} (or {image}) and {output} where the folders belong"
            raise UsageError("the command to measure", found=said or "nothing", expected=expected)
        if shutil.which(self.words[0]) is None:
            raise UsageError(f"command {self.words[0]!r}", found="no such program", expected="one that can be run")

    def filled(self, image: Path, output: Path) -> list[str]:
        places = {"{input}": str(image.parent), "{image}": str(image), OUTPUT: str(output)}
        words = list(self.words)
        for name, place in places.items():
            words = [word.replace(name, place) for word in words]
        return words


def measure(
    images: Sequence[Path],
    out: Path,
    command: Command,
    *,
    gpu: Gpu | None = None,
    timeout_s: float | None = None,
    tell: Tell = lambda case, result: None,
) -> Efficiency:
    """Predict every image into `out`/CASE.nii.gz, each in its own process, in order, and write `out`/efficiency.json.

    The file is written after each case. A case that it holds, and whose prediction exists, is not run again. Of any
    other case `out`/CASE.nii.gz and .nii are removed first: a prediction of an earlier command must not stand for this
    one's. None of `images` may lie there.

    images, out  absolute paths: the command may run in another folder
    timeout_s    seconds after which the command of a case is ended, and the case counts as failed
    tell         called after each case with its cost, or with the reason why it failed

    A case fails if its scan has no readable header, or its command takes too long, ends with a non-zero exit code or by
    a signal, or leaves no prediction; the others go on. Raises UsageError where `out` holds measurements of another
    command or device.
    """
    found, file = _before(out, command, gpu.name if gpu else _processor()), EfficiencyFile(out)
    remove_leftovers(out)
    for image in images:
        case = case_name(image)
        if case in found.cases and _prediction(out, case):
            continue
        try:
            for earlier in _places(out, case):
                earlier.unlink(missing_ok=True)
            result = _measure_case(image, out, command, gpu=gpu, timeout_s=timeout_s)
        except (FlarenetError, OSError) as error:
            cases = {name: cost for name, cost in found.cases.items() if name != case}
            # the file, and pages made of it, are passed on
            reason = without_folders(str(error), (out, image.parent))
            found = found.model_copy(update={"cases": cases, "failed": {**found.failed, case: reason}})
            tell(case, str(error))
        else:
            failed = {name: reason for name, reason in found.failed.items() if name != case}
            found = found.model_copy(update={"cases": {**found.cases, case: result}, "failed": failed})
            tell(case, result)
        file.write(found)
    return found


def _before(out: Path, command: Command, device: str) -> Efficiency:
    new = Efficiency(device=device, cases={}, command=command.words)
    found = read_efficiency(out)
    if found is None:
        return new
    if (found.device, found.command) != (device, command.words):
        raise UsageError(
            out / EFFICIENCY,
            found=f"measured on {found.device}: {' '.join(found.command)}",
            expected=f"{device}: {' '.join(command.words)}",
            remedy="another folder by -o, or remove this file",
        )
    return found


def _measure_case(image: Path, out: Path, command: Command, *, gpu: Gpu | None, timeout_s: float | None) -> CaseCost:
    case, (z, y, x) = case_name(image), read_grid(image, _SIZE_ONLY).shape
    log = out / LOGS / f"{case}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with _folder(out) as temporary:
        given, output = temporary / "inputs" / image.name, temporary / "outputs"
        given.parent.mkdir()
        output.mkdir()
        shutil.copyfile(image, given)
        cost = run_measured(command.filled(given, output), log=log, timeout_s=timeout_s, gpu=gpu)
        _check(cost, case, log, timeout_s)
        # a command may keep the scan's own spelling of accents
        made = _prediction(output, case) or _prediction(output, stem_of(image.name).removesuffix(CHANNEL))
        if made is None:
            inside = ", ".join(sorted(path.name for path in output.iterdir())) or "nothing"
            raise RunError(f"the command for {case}", found=f"{inside} in {OUTPUT}", expected=f"{case}.nii.gz")
        os.replace(made, out / composed(made.name))
    return CaseCost(
        size=(x, y, z),
        seconds=round(cost.seconds, 3),
        gpu_peak_mb=cost.gpu_peak_mb,
        gpu_area_mb_s=None if cost.gpu_area_mb_s is None else round(cost.gpu_area_mb_s, 1),
        cpu_percent=round(cost.cpu_percent, 1),
        peak_rss_mb=cost.peak_rss_mb,
        samples=thinned(cost.samples),
    )


def thinned(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """At most MOST_SAMPLES samples: of each run of neighbours the one with the most GPU memory, so that its peak stays;
    without a GPU, with the most RSS."""
    step = max(1, -(-len(samples) // MOST_SAMPLES))
    runs = (samples[start : start + step] for start in range(0, len(samples), step))
    return tuple(max(run, key=lambda sample: (sample.gpu_mb or 0.0, sample.rss_mb)) for run in runs)


def _check(cost: ProcessCost, case: str, log: Path, timeout_s: float | None) -> None:
    """Raise RunError, with the last line of the command's output, where it failed."""
    if cost.out_of_time:
        found = f"not done after {timeout_s:g} s"
    elif cost.exit_code < 0:
        found = f"killed by {signal.Signals(-cost.exit_code).name}"
    elif cost.exit_code:
        found = f"exit code {cost.exit_code}"
    else:
        return
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = f"; its last output: {lines[-1].strip()[:200]}" if lines else ""
    raise RunError(f"the command for {case}", found=found + last, expected="exit code 0", remedy=f"see {log}")


def _prediction(folder: Path, case: str) -> Path | None:
    return next((path for path in _places(folder, case) if path.is_file()), None)


def _places(folder: Path, case: str) -> list[Path]:
    """The files of which one holds the prediction of a case."""
    return [folder / f"{case}{ending}" for ending in FILE_ENDINGS]


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A temporary folder next to the predictions, from which files can be moved without copying.

    Files that a container wrote there as root may be impossible to remove. They stay, and the case does not fail.
    """
    path = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp.case", dir=out))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _processor() -> str:
    """The number of processors and their name, as Linux gives it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{processors()} x {names[0] if names else platform.machine()}"
