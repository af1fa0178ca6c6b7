"""What flarenet_predict records and says of the scans of a run: report.json, tables, messages, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CasesFailed, DatasetError, FlarenetError, NoRoom, StorageError, some_of
from ..whole import remove_leftovers_of

if TYPE_CHECKING:
    from ..data.reading import Reading
    from ..inference.outcome import Outcome
    from ..inference.outputs.outputs import Output
    from ..inference.outputs.run_report import RunReport
    from ..inference.predict import Predictor


def new_report(
    folder: Path,
    answers: Mapping[Path, Sequence[Path]],
    predictor: Predictor,
    more: Sequence[Output],
    reading: Reading,
) -> RunReport:
    """The report of `folder`, after half-written tables are removed from it.

    answers  scan -> files of its answer, its label map first
    more     what is written in addition to the label maps
    """
    from ..inference.outputs.run_report import TABLES, RunReport, settings_of

    remove_leftovers_of(folder / table for table in TABLES)
    return RunReport(folder, settings_of(predictor, reading, more), answers)


def left_to_do(outputs: Mapping[Path, Path], report: RunReport) -> tuple[int, list[Mapping[Path, Path]]]:
    """(number of cases done, parts of `outputs` still to do).

    The first part holds all cases that no run has begun. Each case that a run began and did not finish follows as a
    part of its own: if it gets the process killed again, the first part is done.
    """
    verified, unfinished = report.resume()
    if not verified:
        print(f"{report.path}: no case was done with these settings; all are predicted", file=sys.stderr)
    for image in outputs:
        if image in verified:
            print(f"{image.name} -> {outputs[image]}  done before")
    last = [image for image in outputs if image in unfinished]
    if last:
        names = ", ".join(image.name for image in last)
        print(f"begun before but not finished, so these come last: {names}", file=sys.stderr)
    rest = {image: output for image, output in outputs.items() if image not in verified | unfinished}
    return len(verified), [rest, *({image: outputs[image]} for image in last)]


def tell(
    answers: Mapping[Path, Sequence[Path]], report: RunReport | None, image: Path, result: Outcome | FlarenetError
) -> None:
    """Record and print what came of a scan. Where it failed for its own fault, an earlier run's answer is removed.

    answers  as in new_report
    report   None where -o names a file
    """
    if isinstance(result, NoRoom):  # it ends the run, which then says so
        with suppress(StorageError):  # there may be no room for the report either
            _record(report, image, result)
        return
    _record(report, image, result)
    if isinstance(result, FlarenetError):
        print(f"{image.name}: failed\n  {result}", file=sys.stderr, flush=True)
        if not isinstance(result, StorageError):  # with more room the same command succeeds
            _remove_earlier(answers[image])
    else:
        for said in result.remarks:
            print(f"{image.name}: warning\n  {said}", file=sys.stderr, flush=True)
        output = answers[image][0]
        print(f"{image.name} -> {output}  {result.seconds:.1f} s  peak {result.peak_mb:.0f} MB", flush=True)


def _record(report: RunReport | None, image: Path, result: Outcome | FlarenetError) -> None:
    if report is not None:
        report.told(image, result)


def _remove_earlier(files: Sequence[Path]) -> None:
    """Remove the outputs of an earlier run for a scan that fails now: they would be mistaken for those of this run."""
    for file in files:
        if file.is_file():
            file.unlink()
            print(f"  removed, since it was from an earlier run: {file}", file=sys.stderr, flush=True)


def write_tables(folder: Path, cases: Sequence[str]) -> None:
    """Write the statistics of `cases` as tables to `folder`; those whose files were moved away are named."""
    from ..inference.outputs import statistics

    outputs = {case: folder / f"{case}.nii.gz" for case in cases}
    there = {case: output for case, output in outputs.items() if statistics.statistics_file(output).exists()}
    if gone := sorted(outputs.keys() - there.keys()):
        print(f"the tables lack cases whose statistics were moved away: {some_of(gone)}", file=sys.stderr)
    statistics.write_tables(folder, [statistics.read_statistics(output) for output in there.values()])


def exit_code(done: int, failures: Sequence[tuple[Path, FlarenetError]]) -> int:
    """0 where no scan failed. Raises CasesFailed where some did; where all did, StorageError or DatasetError."""
    if not failures:
        return 0
    names = ", ".join(image.name for image, _ in failures)
    if done:
        raise CasesFailed(f"{len(failures)} of {done + len(failures)} images failed", found=names)
    thing, found = "no image could be predicted", f"failures in {names}"
    if all(isinstance(error, StorageError) for _, error in failures):
        raise StorageError(thing, found=found, expected="files that can be read and written, and memory for a scan")
    raise DatasetError(thing, found=found, expected="at least one usable image")
