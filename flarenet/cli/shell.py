"""Shared by all commands. Errors become one message and an exit code; --debug adds a traceback.

Exit codes are those of flarenet.errors. A command ended by SIGTERM (a preempted job, say) stops its processes and exits
with 75; one interrupted from the keyboard exits with 130. The message says what to type to resume from there.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import threading
import traceback
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..data.memory import processors
from ..errors import FAULT, INTERRUPTED, TERMINATED, FlarenetError, StorageError, is_out_of_memory, memory_remedy

if TYPE_CHECKING:
    from ..data.cases import Pool
    from ..data.reading import Reading
    from ..workspace import Fold, Workspace

MOST_WORKERS = 8
"""The most workers by default. Each holds a whole scan, so memory runs out before processors do."""


class _Parser(ArgumentParser):
    """A parser without abbreviated flags: `--c`, with which nnU-Net resumes, would mean --compile."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments"):
            message += "; for options of nnU-Net see docs/from-nnunet.md"
        super().error(message)


def new_parser(command: str, description: str) -> ArgumentParser:
    """An ArgumentParser with the flags that every command has."""
    parser = _Parser(prog=command, description=description)
    add_debug(parser)
    return parser


def add_debug(parser: ArgumentParser, *, default: object = False) -> None:
    parser.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")


def add_root(parser: ArgumentParser, *, default: str | None = None) -> None:
    """Add the flag --root; workspace.find_root takes its value."""
    parser.add_argument(
        "--root",
        default=default,
        metavar="DIR",
        help="the folder with raw/, prepared/, runs/ and models/ (default: $FLARENET_ROOT, else the current folder)",
    )


def add_raw(parser: ArgumentParser) -> None:
    """Add the flags that name a data set, planned or not."""
    parser.add_argument(
        "-d", "--dataset", required=True, metavar="NAME", help="the data set of ROOT/raw/NAME/dataset.json"
    )
    add_root(parser)


def add_planned(parser: ArgumentParser) -> None:
    """Add the flags that name a planned data set; `planned` reads them."""
    parser.add_argument(
        "-d", "--dataset", metavar="NAME", help="the planned data set; may be left out if there is only one"
    )
    add_root(parser)


def planned(arguments: Namespace) -> Workspace:
    """The planned data set that the flags of add_planned name. Errors list the known ones, or the command to type."""
    from ..workspace import find_root, only_planned, open_planned

    root = find_root(arguments.root)
    return open_planned(root, arguments.dataset) if arguments.dataset else only_planned(root)


def add_changes(
    parser: ArgumentParser, what: str, example: str = "trainers.DualDecoder2D.steps.0.epochs=10 (steps count from 0)"
) -> None:
    """Add the flag that changes values of the plan; planning.plan_file.override takes `arguments.changes`."""
    help = f"{what}, as in {example}"
    parser.add_argument("--set", dest="changes", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=help)


def add_device(parser: ArgumentParser) -> None:
    known = "auto (the first GPU, else the CPU), cpu, cuda or cuda:N (default: %(default)s)"
    parser.add_argument("--device", default="auto", help=known)
    # nnU-Net's spelling, which would otherwise be -d with a data set `evice`
    parser.add_argument("-device", dest="device", default=SUPPRESS, help=SUPPRESS)


def add_epochs(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--epochs", type=count, metavar="N", help="epochs of every step that is trained (default: the plan's)"
    )


def add_fold(
    parser: ArgumentParser,
    help: str = "hold out the cases of fold K of prepared/NAME/splits.json; all: hold out none (default: %(default)s)",
) -> None:
    parser.add_argument("--fold", type=_fold, default=0, metavar="K", help=help)


def _fold(text: str) -> Fold:
    if text == "all":
        return "all"
    if not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is neither a whole number from 0 nor all")
    return int(text)


def add_pool(parser: ArgumentParser, *, workers: int | None = None) -> None:
    """Add the flags that say where cases are processed; `pool` reads them.

    workers  the default of --workers; None: one for each processor, up to MOST_WORKERS
    """
    parser.add_argument(
        "--workers",
        type=index,
        default=min(processors(), MOST_WORKERS) if workers is None else workers,
        metavar="N",
        help="processes that work on cases in parallel (default: %(default)s)",
    )
    add_timeout(parser)
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="work on a dask cluster instead: tcp://HOST:PORT of its scheduler (pip extra: cluster)",
    )


def add_timeout(parser: ArgumentParser, what: str = "a case") -> None:
    help = f"give up on {what} after this many seconds (default: never)"
    parser.add_argument("--timeout-s", type=_seconds, metavar="S", help=help)


def pool(arguments: Namespace) -> Pool:
    """Where cases are processed, by the flags of add_pool."""
    from ..data.cases import Pool

    return Pool(arguments.workers, timeout_s=arguments.timeout_s, scheduler=arguments.scheduler)


def add_reading(parser: ArgumentParser) -> None:
    """Add the flags that decide how ambiguous images are read; `reading` reads them."""
    parser.add_argument(
        "--affine",
        choices=("sform", "qform"),
        default="agree",
        help="which affine of a NIfTI file to use where its two differ (default: the file is refused)",
    )
    parser.add_argument(
        "--assume-affine", action="store_true", help="take images without sform and qform as RAS (default: refused)"
    )
    parser.add_argument(
        "--volume", type=index, metavar="K", help="which volume of a 4D image to use, from 0 on (default: refused)"
    )


def reading(arguments: Namespace) -> Reading:
    """How ambiguous images are read, by the flags of add_reading."""
    from ..data.reading import Reading

    return Reading(affine=arguments.affine, assume_affine=arguments.assume_affine, volume=arguments.volume)


def run(
    parser: ArgumentParser,
    work: Callable[[Namespace], int | None],
    argv: Sequence[str] | None,
    *,
    going_on: Callable[[Namespace], str] = lambda arguments: "the same command",
) -> int:
    """Parse `argv`, do `work`, and return the exit code; errors are reported on stderr.

    going_on  returns what to type to finish the rest, for the message of a command that is ended early
    Errors that flarenet raises on purpose are shown in full, anything else in one line.
    """
    debug, again = False, "the same command"
    _print_any_name()
    try:
        with _sigterm_raises():
            arguments = parser.parse_args(argv)
            debug, again = arguments.debug, going_on(arguments)
            code = work(arguments) or 0
            sys.stdout.flush()
        return code
    except SystemExit:  # argparse: --help, or invalid arguments
        _flush()
        raise
    except BaseException as error:  # noqa: BLE001 - nothing is hidden: it becomes the exit code and the message
        if debug:
            traceback.print_exc()
        return _end(parser.prog, error, again)


@contextmanager
def importing() -> Iterator[None]:
    """Context for imports with the garbage collector off.

    Modules live to the end of the process, so collecting among them is wasted time. gc.freeze() afterwards keeps later
    collections, and the one at exit, from visiting them. Importing torch takes a tenth less time, and a process that
    imported it ends half a second sooner.
    """
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if searching:
            gc.enable()


def _print_any_name() -> None:
    """Let stdout and stderr escape characters that they cannot encode, as in file names that are not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # callers from Python may have replaced it
            stream.reconfigure(errors="backslashreplace")


class _Terminated(BaseException):
    """SIGTERM was received."""


def _end(command: str, error: BaseException, again: str) -> int:
    """Print on stderr what happened; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        return _reader_is_gone()
    message, code = _explain(error, again)
    print(f"{command}: {message}", file=sys.stderr)
    return code


def _explain(error: BaseException, again: str) -> tuple[object, int]:
    if isinstance(error, FlarenetError):
        return error, error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {again} resumes from here", INTERRUPTED
    if isinstance(error, _Terminated):
        return f"ended by SIGTERM; {again} resumes from here", TERMINATED
    if is_out_of_memory(error):
        remedy = memory_remedy(error, "fewer workers or a smaller batch size may help")
        return f"not enough memory: {remedy}", StorageError.exit_code
    if isinstance(error, OSError):
        return error, StorageError.exit_code
    first = "".join(traceback.format_exception_only(type(error), error)).strip().split("\n")[0]
    return f"a bug in flarenet: {first} (where: --debug)", FAULT


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _reader_is_gone()


def _reader_is_gone() -> int:
    """End silently, since the reader of our output, such as `head`, is gone; Python's last flush must not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return StorageError.exit_code


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    owner = os.getpid()

    def end(*_: object) -> None:
        if os.getpid() != owner:  # in a forked child, which its parent ends: behave as without a handler
            os._exit(128 + signal.SIGTERM)
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # a handler can be set in the main thread only
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def index(text: str) -> int:
    """An argument as an integer of at least 0."""
    if not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def path(text: str) -> Path:
    """An argument as an absolute path: workers of a cluster may run in another folder."""
    return Path(text).expanduser().absolute()


def count(text: str) -> int:
    """An argument as an integer of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
