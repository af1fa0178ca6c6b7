"""flarenet_predict: writes label maps of scans, in each scan's own geometry."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.names import FILE_ENDINGS
from ..errors import DatasetError, FlarenetError, StorageError, UsageError, needs_extra, some_of
from ..whole import remove_leftovers_of
from ..workspace import find_root
from . import outcomes, shell
from .process import keep_to_quota, share_one_heap

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..data.reading import Reading
    from ..inference.opening import OpenedScan
    from ..inference.outputs.outputs import Output
    from ..inference.predict import Predictor

_OTHER_KINDS = (".dcm", ".jpg", ".mha", ".mhd", ".npy", ".nrrd", ".png", ".zip")
"""Endings of files that are not written: a folder that is to be made is hardly meant by such a name."""


def main(argv: Sequence[str] | None = None) -> int:
    return shell.run(make_parser(), work, argv, going_on=_going_on)


def make_parser() -> ArgumentParser:
    parser = shell.new_parser(
        "flarenet_predict",
        "Predict label maps: X.nii.gz, X_0000.nii.gz or a folder X of DICOM slices becomes X.nii.gz.",
    )
    kinds = "an image, a folder of images, or one of DICOM slices"
    parser.add_argument("-i", "--input", required=True, type=shell.path, metavar="IN", help=kinds)
    single = "a folder; for one image also a .nii.gz file"
    parser.add_argument("-o", "--output", required=True, type=shell.path, metavar="OUT", help=single)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "-m",
        "--model",
        nargs="+",
        metavar="MODEL",
        help="an installed model's name or a model folder, or several whose probabilities are averaged; a trainer's "
        "folder means the last step of its finished folds (default: the newest model of the root, with all its folds)",
    )
    chosen.add_argument("-d", "--dataset", metavar="NAME", help="the newest model that was trained on this data set")
    shell.add_root(parser)
    shell.add_device(parser)
    numbers = "auto (bf16 where the hardware computes in it, else fp32), fp32, bf16 or fp16 (default: %(default)s)"
    parser.add_argument("--precision", default="auto", help=numbers)
    engines = "auto (the fastest that is installed), torch or openvino (default: %(default)s)"
    parser.add_argument("--engine", default="auto", help=engines)
    parser.add_argument(
        "--batch-size",
        type=shell.count,
        metavar="N",
        help="slices (2D) or blocks (3D) at once; fewer need less memory (default: as many as make it faster)",
    )
    _add_outputs(parser)
    parser.add_argument(
        "--roi", nargs="+", metavar="LABEL", help="keep only these labels; others show what lies beneath (default: all)"
    )
    parser.add_argument(
        "--continue",
        dest="resume",
        action="store_true",
        help="skip cases that are done with the same scan and model, by OUT/report.json and their files",
    )
    example = "fusion.rule=probability (docs/fusion.md) or configurations.3d.overlap=0.5"
    shell.add_changes(parser, "change how answers are fused, or how far windows overlap", example)
    shell.add_timeout(parser, "reading a scan")
    shell.add_reading(parser)
    return parser


def _add_outputs(parser: ArgumentParser) -> None:
    """Add the flags of what is written in addition to the label maps; `_outputs` reads them."""
    parser.add_argument("--statistics", action="store_true", help="volume, HU and lesions of each label: CSV and JSON")
    parser.add_argument("--preview", action="store_true", help="a picture of each case")
    parser.add_argument("--probabilities", action="store_true", help="the probabilities of each group, as 4D NIfTI")
    parser.add_argument("--dicom-seg", action="store_true", help="a DICOM Segmentation of each series")


def work(arguments: Namespace) -> int:
    keep_to_quota()  # before numpy is imported
    # otherwise torch searches all installed packages for other kinds of devices, which --device does not know
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    with shell.importing(), without_pydicom():
        from ..data.dicom import find_scans
        from ..inference.outputs.outputs import output_names, refuse_replacing
        from ..lock import locked

    share_one_heap()
    images = find_scans(arguments.input)
    if arguments.input.is_dir() and not images[0].is_dir():
        _warn_of_series(arguments.input)
    if arguments.dicom_seg and not any(image.is_dir() for image in images):  # each would fail, after torch's import
        expected, remedy = "DICOM slices, from which DICOM SEG is made", "leave --dicom-seg out"
        raise DatasetError(arguments.input, found="no folder of DICOM slices", expected=expected, remedy=remedy)
    if all(image.is_dir() for image in images):  # without pydicom each would fail, and lose an earlier answer
        with shell.importing(), needs_extra("dicom", "a DICOM series"):
            import pydicom  # noqa: F401
    if (one := _one_file(arguments, images)) and arguments.resume:
        raise UsageError("--continue", found="-o with a file", expected="a folder, which has a report.json")
    outputs = one or output_names(images, _folder(arguments.output))
    refuse_replacing(outputs)
    folders = _model_folders(arguments)
    with nullcontext() if one else locked(arguments.output):
        return _predict(arguments, outputs, folders, in_folder=not one)


def _warn_of_series(folder: Path) -> None:
    """Name the DICOM slices in a folder of images, which are ignored. What cannot be read there is only told of: it
    keeps no image from being predicted."""
    from ..data.dicom import series_in

    try:
        if not (series := series_in(folder)):
            return
        said = f"DICOM slices in {some_of([str(one) for one in series])}"
    except (OSError, StorageError) as problem:
        said = f"DICOM slices, which could not be looked for: {problem}"
    print(f"flarenet_predict: warning: ignored next to images: {said}", file=sys.stderr)


@contextmanager
def without_pydicom() -> Iterator[None]:
    """Context in which pydicom cannot be imported, for the first import of nibabel.

    nibabel imports pydicom if it is installed, for a kind of header extension that is not read here. That takes more
    than a third of the processor time before torch. For DICOM series pydicom is imported later.
    """
    if "nibabel" in sys.modules or "pydicom" in sys.modules:
        yield
        return
    sys.modules["pydicom"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["pydicom"]


def _predict(arguments: Namespace, outputs: Mapping[Path, Path], folders: Sequence[Path], *, in_folder: bool) -> int:
    """Predict `outputs` with the models in `folders`; returns the exit code.

    in_folder  whether the outputs lie in a folder, which gets a report and tables
    """
    reading = shell.reading(arguments)
    prefetched = _prefetching(folders, reading, arguments.timeout_s)
    # with --continue, the scans to do are known only after the engine; else the first is read during torch's import
    scans = None if arguments.resume else prefetched(outputs)
    predictor = _predictor(arguments, folders)
    with shell.importing():
        from ..inference.many import predict_pairs

    more = _outputs(arguments, predictor)
    answers = {
        image: [output, *(file for kind in more for file in kind.files(output))] for image, output in outputs.items()
    }
    # of these alone: runs that name one file hold no lock, and may be writing in the same folder
    remove_leftovers_of(file for files in answers.values() for file in files)
    report = outcomes.new_report(arguments.output, answers, predictor, more, reading) if in_folder else None
    before, parts = outcomes.left_to_do(outputs, report) if report and arguments.resume else (0, [outputs])
    if report:
        report.begin(image for part in parts for image in part)
    done, failures = before, list[tuple[Path, FlarenetError]]()
    for part in parts:
        finished, failed = predict_pairs(
            predictor,
            part,
            progress=partial(outcomes.tell, answers, report),
            openers=more,
            scans=prefetched(part) if scans is None else scans,
        )
        done, failures = done + len(finished), failures + failed
    if arguments.statistics and report:
        outcomes.write_tables(arguments.output, sorted(report.answered))
    return outcomes.exit_code(done, failures)


def _predictor(arguments: Namespace, folders: Sequence[Path]) -> Predictor:
    """The models in `folders`, as the flags say; stderr says what they run on."""
    with shell.importing():
        from ..inference.predict import Predictor

        predictor = Predictor(  # imports torch if it needs it
            *folders,
            device=arguments.device,
            precision=arguments.precision,
            engine=arguments.engine,
            batch_size=arguments.batch_size,
            changes=arguments.changes,
            roi=arguments.roi,
        )
    print(f"{' + '.join(map(str, folders))} on {predictor.device}, {predictor.engine_names}", file=sys.stderr)
    return predictor


def _prefetching(
    folders: Sequence[Path], reading: Reading, timeout_s: float | None
) -> Callable[[Iterable[Path]], Iterator[tuple[Path, Future[OpenedScan]]]]:
    """A function that gives images as predict_pairs takes them; a thread begins at once to read the first, for the
    models in `folders`."""
    with shell.importing():
        from ..inference.models.about import describe
        from ..inference.opening import open_scan
        from ..inference.prefetch import prefetch_files

    configurations = [describe(folder).configuration for folder in folders]
    read = partial(open_scan, configurations=configurations, reading=reading)
    return lambda images: prefetch_files(read, images, timeout_s=timeout_s)


def _outputs(arguments: Namespace, predictor: Predictor) -> list[Output]:
    """The outputs to write in addition to the label maps."""
    labels, is_ct = predictor.model.labels, predictor.model.configuration.is_ct
    outputs: list[Output] = []
    if arguments.statistics:  # only what is needed is imported
        from ..inference.outputs.statistics import Statistics

        outputs.append(Statistics(labels, predictor.shown))
    if arguments.preview:
        from ..inference.outputs.preview import Preview

        outputs.append(Preview(labels, is_ct=is_ct))
    if arguments.probabilities:
        from ..inference.outputs.probabilities import Probabilities

        outputs.append(Probabilities(labels, predictor.groups))
    if arguments.dicom_seg:
        from ..inference.outputs.dicom_seg import DicomSeg

        outputs.append(DicomSeg(labels))
    return outputs


def _names_a_file(output: Path) -> bool:
    return output.name.lower().endswith(FILE_ENDINGS) and not output.is_dir()


def _going_on(arguments: Namespace) -> str:
    return "the same command" if _names_a_file(arguments.output) else "the same command with --continue"


def _one_file(arguments: Namespace, images: Sequence[Path]) -> dict[Path, Path] | None:
    """{image: its label file} where -o names a file for one image, which -i is; else None. Raises UsageError where
    `images`, as find_scans gives them, lie in the folder -i."""
    if not _names_a_file(arguments.output):
        return None
    if images != [arguments.input]:
        raise UsageError(f"-o {arguments.output}", found="a file name for a folder of images", expected="a folder")
    return {arguments.input: arguments.output}


def _folder(path: Path) -> Path:
    if not path.is_dir() and (path.exists() or path.suffix.lower() in _OTHER_KINDS):
        found = "a file that exists" if path.exists() else "the name of another kind of file"
        raise UsageError(f"-o {path}", found=found, expected="a folder, or a name that ends in .nii.gz")
    return path


def _model_folders(arguments: Namespace) -> list[Path]:
    """The models of -m, else the newest one; remarks on them are printed. Raises UsageError, which lists the existing
    ones, where there is none."""
    with shell.importing():
        from ..inference.models.found import find_folder, models_in, newest_model, remarks_on, trained_datasets

    if arguments.model is not None:
        chosen = [find_folder(word, arguments.root) for word in arguments.model]
    else:
        root = find_root(arguments.root)
        chosen = [newest_model(root, arguments.dataset)]
        if arguments.dataset is None and len(names := trained_datasets(root)) > 1:
            print(f"{chosen[0]} is the newest; -d NAME chooses that of a data set: {some_of(names)}", file=sys.stderr)
    for said in remarks_on(chosen):
        print(f"flarenet_predict: warning: {said}", file=sys.stderr)
    return [model for folder in chosen for model in models_in(folder)]


if __name__ == "__main__":
    sys.exit(main())
