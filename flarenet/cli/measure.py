"""flarenet_measure: the cost of predicting each case with any command: time, GPU memory, processor use, memory."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from .shell import add_timeout, index, new_parser, path, run

FORM = "flarenet_measure -i IN -o OUT [--timeout-s S] [--gpu K] -- COMMAND"
PLACES = (
    "COMMAND is run once for each scan, with {input}: a folder with a copy of that scan alone, {image}: that copy, and "
    "{output}: an empty folder for CASE.nii.gz. Any program may be measured, as in: flarenet_measure -i imagesTs "
    "-o OUT -- docker run --rm --gpus device=0 --user $(id -u):$(id -g) -v {input}:/workspace/inputs -v "
    "{output}:/workspace/outputs IMAGE sh predict.sh"
)


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    at = given.index("--") if "--" in given else len(given)
    parser = new_parser(
        "flarenet_measure", "Predict scans with any command, one process per scan, and measure the cost."
    )
    parser.usage, parser.epilog = FORM, PLACES
    parser.add_argument("-i", "--input", type=path, required=True, metavar="IN", help="a scan, or a folder of scans")
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        required=True,
        metavar="OUT",
        help="where predictions, efficiency.json and logs/ go; a killed measurement resumes from there",
    )
    parser.add_argument(
        "--gpu", type=index, metavar="K", help="GPU to measure (default: the first of CUDA_VISIBLE_DEVICES, or 0)"
    )
    add_timeout(parser)
    parser.set_defaults(command=tuple(given[at + 1 :]))
    return run(parser, work, given[:at])


def work(arguments: Namespace) -> None:
    """Measure the cases that are not measured yet, then print the table.

    Raises UsageError, before anything runs, where a prediction would replace a scan, and CasesFailed, after everything
    else is done, where the command failed for a case.
    """
    from ..data.names import FILE_ENDINGS, case_name, find_images
    from ..errors import CasesFailed
    from ..evaluation.efficiency import EFFICIENCY, print_efficiency
    from ..evaluation.gpu_memory import find_gpu
    from ..evaluation.measure import Command, measure
    from ..inference.outputs.outputs import refuse_replacing
    from ..lock import locked

    command, images, gpu = Command(arguments.command), find_images(arguments.input), find_gpu(arguments.gpu)
    for ending in FILE_ENDINGS:  # a prediction may end in either
        refuse_replacing({image: arguments.output / f"{case_name(image)}{ending}" for image in images})
    with locked(arguments.output):
        found = measure(images, arguments.output, command, gpu=gpu, timeout_s=arguments.timeout_s, tell=_tell)
    print_efficiency(found)
    print(f"written: {arguments.output / EFFICIENCY}")
    if found.failed:
        raise CasesFailed(
            f"{len(found.failed)} of {len(found.failed) + len(found.cases)} cases",
            found="no prediction of " + ", ".join(found.failed),
            expected="all cases predicted; the reasons are above and in efficiency.json",
        )


def _tell(case: str, result: object) -> None:
    said = f"failed\n  {result}" if isinstance(result, str) else f"{result.seconds:.1f} s"  # type: ignore[attr-defined]
    print(f"{case}: {said}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
