"""efficiency.json: the cost of predicting each case, which flarenet_measure writes next to the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from ..errors import DatasetError
from ..schema import LARGEST_TABLE_BYTES, Frozen, escaped, load, to_json
from ..terminal import new_table, show
from ..whole import write_text

EFFICIENCY = "efficiency.json"

TOLERATED_S, TOLERATED_MB = 15.0, 4096.0
"""The time of a case and the GPU memory above which the FLARE challenges deduct points."""


class Sample(Frozen):
    """Memory in use at one moment.

    at_s    seconds after the start
    gpu_mb  of the GPU; None without one
    rss_mb  of the process and its children
    """

    at_s: float
    gpu_mb: float | None
    rss_mb: float


class CaseCost(Frozen):
    """The cost of one case, predicted in its own process, from the start of the process to its end.

    size           (x, y, z) in voxels, as the scan stores them
    gpu_peak_mb    the most GPU memory in use; None without a GPU
    gpu_area_mb_s  the area under the curve of GPU memory over time; None without a GPU
    cpu_percent    processor use; 100 is one processor, busy all the time
    peak_rss_mb    the most memory of the process and its children
    samples        memory over time
    """

    size: tuple[int, int, int]
    seconds: float
    gpu_peak_mb: float | None
    gpu_area_mb_s: float | None
    cpu_percent: float
    peak_rss_mb: float
    samples: tuple[Sample, ...] = ()


class Totals(Frozen):
    """All cases together: times and areas summed, as the challenge does, and the largest peaks.

    gpu_*  None where no case was on a GPU
    slow   how many cases took longer than TOLERATED_S
    large  how many cases had a peak of GPU memory above TOLERATED_MB
    """

    cases: int
    seconds: float
    gpu_area_mb_s: float | None
    gpu_peak_mb: float | None
    peak_rss_mb: float
    slow: int
    large: int


class Efficiency(Frozen):
    """What efficiency.json holds.

    device   the name of the GPU, or of the processor
    cases    case -> its cost
    command  the words of the command, with placeholders
    failed   case -> why it has no cost
    """

    largest_bytes = LARGEST_TABLE_BYTES
    device: str
    cases: dict[str, CaseCost]
    command: tuple[str, ...] = ()
    failed: dict[str, str] = Field(default_factory=dict)

    @property
    def totals(self) -> Totals:
        costs = list(self.cases.values())
        areas = [cost.gpu_area_mb_s for cost in costs if cost.gpu_area_mb_s is not None]
        peaks = [cost.gpu_peak_mb for cost in costs if cost.gpu_peak_mb is not None]
        return Totals(
            cases=len(costs),
            seconds=sum(cost.seconds for cost in costs),
            gpu_area_mb_s=sum(areas) if areas else None,
            gpu_peak_mb=max(peaks, default=None),
            peak_rss_mb=max((cost.peak_rss_mb for cost in costs), default=0.0),
            slow=sum(cost.seconds > TOLERATED_S for cost in costs),
            large=sum(peak > TOLERATED_MB for peak in peaks),
        )


class EfficiencyFile:
    """Writes efficiency.json in `folder`, again after each case. Each case is serialised only once: it has hundreds of
    samples, and serialising all cases would take seconds each time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / EFFICIENCY
        self._texts: dict[str, tuple[CaseCost, str]] = {}

    def write(self, found: Efficiency) -> None:
        """Write `found`, whole or not at all."""
        fields = found.model_copy(update={"cases": {}}).model_dump(mode="json")
        texts = {name: to_json(value, 1) for name, value in fields.items()}
        if found.cases:
            # escaped, so that a name read back from the file equals that of its scan and no key appears twice
            cases = {escaped(name): self._text(name, cost) for name, cost in found.cases.items()}
            texts["cases"] = "{\n" + ",\n".join(f"  {to_json(name)}: {text}" for name, text in cases.items()) + "\n }"
        write_text(self._path, "{\n" + ",\n".join(f' "{name}": {text}' for name, text in texts.items()) + "\n}\n")

    def _text(self, name: str, cost: CaseCost) -> str:
        kept = self._texts.get(name)
        if kept is None or kept[0] is not cost:  # a case may be measured again
            kept = self._texts[name] = cost, to_json(cost.model_dump(mode="json"), 2)
        return kept[1]


def read_efficiency(folder: Path) -> Efficiency | None:
    """The measured cost of the predictions in `folder`; None where nothing was measured."""
    path = folder / EFFICIENCY
    return load(Efficiency, path, DatasetError) if path.is_file() else None


def print_efficiency(found: Efficiency) -> None:
    """Print to stdout: a row per case, the totals, how many cases exceed the challenge's tolerances, and failures."""
    totals = found.totals
    title = f"{totals.cases} cases on {found.device}"
    table = new_table(title, "case", ">size", ">s", ">GPU MB", ">GPU MB*s", ">CPU %", ">RSS MB")
    for case, cost in found.cases.items():
        numbers = (cost.gpu_peak_mb, cost.gpu_area_mb_s, cost.cpu_percent, cost.peak_rss_mb)
        table.add_row(case, " x ".join(map(str, cost.size)), f"{cost.seconds:.1f}", *_whole(numbers))
    table.add_section()
    peak, area, rss = _whole((totals.gpu_peak_mb, totals.gpu_area_mb_s, totals.peak_rss_mb))
    table.add_row("sum, peak", "", f"{totals.seconds:.1f}", peak, area, "", rss)
    show(table)
    print("wall time; peak and area of GPU memory; processors; peak of the processes' memory")
    print(f"above {TOLERATED_S:.0f} s: {totals.slow}; above {TOLERATED_MB:.0f} MB of GPU: {totals.large}")
    show(failed=found.failed)


def _whole(numbers: Sequence[float | None]) -> list[str]:
    return ["-" if number is None else f"{number:.0f}" for number in numbers]
