"""What a run of predictions did, case by case: report.json in the folder of the label maps.

It is written whole before the first case and after each one, with the case that comes next as begun. A later run
resumes from it: a case is skipped only if everything that its answer depends on, and every file of the answer, is as
the report says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ... import __version__
from ...data.file_state import ScanState, sha256_of_scan, stat_of
from ...data.findings import Finding
from ...data.names import case_name
from ...data.reading import Reading
from ...errors import FlarenetError, NoRoom, RunError, without_folders
from ...schema import LARGEST_TABLE_BYTES, Frozen, digest, escaped, load, to_json
from ...whole import sha256_of, write_text
from ..models.about import Described
from ..outcome import Outcome
from ..predict import Predictor
from .outputs import Output

REPORT = "report.json"

BEGUN = "begun, and the process ended before it was done"
"""The error of a case while it is being predicted. It stays in the report if the process is killed meanwhile."""

TABLES = (REPORT, "statistics.csv", "statistics.json")
"""The files in the folder beside the label maps."""


class ModelReport(Frozen):
    """A model that answered.

    plan_sha256  digest of the plan as used, with the changes of --set
    """

    trainer: str
    step: int
    weights_sha256: str
    plan_sha256: str


class Settings(Frozen):
    """All that an answer depends on beside the scan.

    flarenet  version of flarenet
    models    the models, in the order of -m
    device    where they ran
    engine    what computed, and in which precision; where several models differ, all of these
    labels    names of the labels that come out
    outputs   kinds of output beside the label maps
    reading   how ambiguous images are read
    """

    flarenet: str
    models: tuple[ModelReport, ...]
    device: str
    engine: str
    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    reading: Reading


class CaseReport(Frozen):
    """One scan.

    image    name of the scan's file or folder
    error    why it failed, or BEGUN; None for a scan that is done. Only such a scan has the fields below
    seconds  time from reading to the last file
    stage_s  seconds that each stage worked; stages run beside each other
    peak_mb  most memory so far: that of the GPU in this case, or, on a CPU, that of the whole process
    remarks  what should be looked at
    input    the scan as it was read; None where it has changed since or is gone
    files    path of each file of the answer, below the folder of the report -> SHA-256; None where it is gone
    """

    image: str
    error: str | None = None
    seconds: float | None = None
    stage_s: dict[str, float] = {}
    peak_mb: float | None = None
    remarks: tuple[Finding, ...] = ()
    input: ScanState | None = None
    files: dict[str, str | None] = {}


class Report(Frozen):
    """What report.json holds; `cases` by name."""

    largest_bytes = LARGEST_TABLE_BYTES
    settings: Settings
    cases: dict[str, CaseReport]


class RunReport:
    """Writes report.json in `folder`. Call `begin` before the first case and `told` after each one; to go on from an
    earlier report, call `resume` before.

    answers   scan -> files of its answer
    answered  names of the cases in the report that are done
    """

    def __init__(self, folder: Path, settings: Settings, answers: Mapping[Path, Sequence[Path]]) -> None:
        self.path, self.settings, self.answers = folder / REPORT, settings, answers
        self.answered: set[str] = set()
        self._next: Iterator[Path] = iter(())
        self._cases: dict[str, str] = {}  # as JSON, made once: each of thousands of cases is written again and again

    def resume(self) -> tuple[set[Path], set[Path]]:
        """(scans that need no prediction, scans that an earlier run has begun and not ended).

        Cases of the same settings that are not asked for now stay in the report as long as their files are there.
        Raises RunError for a file report.json that is not a report.
        """
        verified: set[Path] = set()
        unfinished: set[Path] = set()
        earlier = load(Report, self.path, RunError) if self.path.is_file() else None
        if earlier is None or earlier.settings != self.settings:
            return verified, unfinished
        asked = {escaped(case_name(image)): image for image in self.answers}
        for name, case in earlier.cases.items():
            image = asked.get(name)
            if image is None:
                if not all((self.path.parent / file).is_file() for file in case.files):
                    continue
            elif case.error == BEGUN:
                unfinished.add(image)
            elif self._is_verified(case, image):
                verified.add(image)
            else:
                continue
            self._keep(case_name(image) if image else name, case)
        return verified, unfinished

    def begin(self, images: Iterable[Path]) -> None:
        """Record the first of `images` as begun: if the process is killed, the report says which case it was. They are
        predicted in this order. Without images nothing is written."""
        self._next = iter(images)
        if self._begin_next():
            self.write()

    def told(self, image: Path, result: Outcome | FlarenetError) -> None:
        """Record that a case is done or has failed, and the next one as begun."""
        if isinstance(result, FlarenetError):
            case = CaseReport(image=escaped(image.name), error=self._without_folders(str(result), image))
        else:
            case = CaseReport(
                image=escaped(image.name),
                seconds=round(result.seconds, 3),
                stage_s={stage: round(seconds, 3) for stage, seconds in result.stage_s.items()},
                peak_mb=round(result.peak_mb, 1),
                remarks=tuple(self._of_names(said, image) for said in result.remarks),
                input=_state_as_read(image, result.stat),
                files={self._name(file): _sha256_if_there(file) for file in self.answers[image]},
            )
        self._keep(case_name(image), case)
        if not isinstance(result, NoRoom):  # which ends the run
            self._begin_next()
        self.write()

    def _begin_next(self) -> bool:
        """Record the next case as begun; False where there is none."""
        image = next(self._next, None)
        if image is not None:
            self._keep(case_name(image), CaseReport(image=escaped(image.name), error=BEGUN))
        return image is not None

    def write(self) -> None:
        cases = ",\n".join(f"  {to_json(name)}: {text}" for name, text in self._cases.items())
        settings = to_json(self.settings.model_dump(mode="json"), 1)
        write_text(self.path, f'{{\n "settings": {settings},\n "cases": {{\n{cases}\n }}\n}}\n')

    def _keep(self, name: str, case: CaseReport) -> None:
        self._cases[escaped(name)] = to_json(case.model_dump(mode="json"), 2)
        if case.error is None:
            self.answered.add(name)
        else:
            self.answered.discard(name)

    def _of_names(self, said: Finding, image: Path) -> Finding:
        words = {"file": said.file, "found": said.found, "expected": said.expected, "remedy": said.remedy}
        return said.model_copy(update={name: self._without_folders(text, image) for name, text in words.items()})

    def _without_folders(self, text: str, image: Path) -> str:
        """`text` without the folders of the scan and of the report."""
        return without_folders(text, (image.parent, self.path.parent))

    def _is_verified(self, case: CaseReport, image: Path) -> bool:
        """Whether the case is done, from the same bytes, and every file of its answer is unchanged."""
        if case.error is not None or case.input is None or case.image != escaped(image.name):
            return False
        answer = {self._name(file): file for file in self.answers[image]}
        with suppress(OSError):  # unreadable: predicted again, where a scan fails under its own name
            # files were read back when they were written: the same bytes can be read again
            return (
                answer.keys() == case.files.keys()
                and _is_same(image, case.input)
                and all(file.is_file() and sha256_of(file) == case.files[name] for name, file in answer.items())
            )
        return False

    def _name(self, file: Path) -> str:
        return escaped(file.relative_to(self.path.parent).as_posix())


def settings_of(predictor: Predictor, reading: Reading, outputs: Sequence[Output]) -> Settings:
    return Settings(
        flarenet=__version__,
        models=tuple(_of_model(member.model) for member in predictor.members),
        device=str(predictor.device),
        engine=predictor.engine_names,
        labels=predictor.model.labels.names_of(predictor.shown),
        outputs=tuple(sorted(type(output).__name__ for output in outputs)),
        reading=reading,
    )


def _of_model(model: Described) -> ModelReport:
    plan = digest(model.plan)
    return ModelReport(trainer=model.trainer, step=model.step, weights_sha256=model.weights_sha256, plan_sha256=plan)


def _state_as_read(scan: Path, stat: str | None) -> ScanState | None:
    """The state of a scan whose stat_of was `stat` before it was read; None where it has changed since or is gone."""
    with suppress(OSError):  # its answer stands; it only cannot be compared by a later run
        sha256 = sha256_of_scan(scan)
        if stat is not None and stat_of(scan) == stat:
            return ScanState(stat=stat, sha256=sha256)
    return None


def _sha256_if_there(file: Path) -> str | None:
    try:
        return sha256_of(file)
    except FileNotFoundError:  # whoever waited for it may have moved it away
        return None


def _is_same(scan: Path, state: ScanState) -> bool:
    """Whether a scan is as it was. If time or place of a file has changed, the bytes decide. Raises OSError."""
    return stat_of(scan) == state.stat or sha256_of_scan(scan) == state.sha256
