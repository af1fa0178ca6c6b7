"""The errors shown to users; each says what it is about, what was found, what was expected and what to do.

Exit codes of all commands: 0 done, 1 a fault of flarenet, 2 usage, 3 some cases failed, 4 input invalid,
5 environment (disk, memory, permission), 6 locked by another run, 7 refused as unsafe, 75 ended by SIGTERM,
130 ended by Ctrl-C. After 75 and 130 the same command resumes where it ended; flarenet_predict into a folder needs
--continue in addition.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FAULT, TERMINATED, INTERRUPTED = 1, 75, 130
"""Exit codes that belong to no error below; 75 is EX_TEMPFAIL of sysexits.h: try again later."""

_NO_ENGINE = "unable to find an engine"
"""Part of torch's message when no cuDNN algorithm could compute a convolution: usually because none got its workspace,
an error that torch does not report; otherwise because the GPU lacks the number type."""

_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED", _NO_ENGINE)
"""Parts of the messages of torch's CPU allocator, of CUDA, and of cuDNN and cuBLAS."""


class FlarenetError(Exception):
    """Base of all errors that flarenet raises on purpose.

    thing     what the error is about: a file, a key of a file, an argument of the command line
    found     what was there
    expected  what should have been there
    remedy    what the user can do now
    """

    exit_code = FAULT

    def __init__(
        self, thing: object, *, found: object = None, expected: object = None, remedy: str | None = None
    ) -> None:
        super().__init__(str(thing))
        self.thing = str(thing)
        self.found = None if found is None else str(found)
        self.expected = None if expected is None else str(expected)
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.thing]
        if self.found is not None:
            parts.append(f"found: {self.found}")
        if self.expected is not None:
            parts.append(f"expected: {self.expected}")
        if self.remedy is not None:
            parts.append(f"what to do: {self.remedy}")
        return "\n  ".join(parts)


class UsageError(FlarenetError):
    """A command line or an argument that cannot be used, such as an unknown name."""

    exit_code = 2


class CasesFailed(FlarenetError):
    """Some cases of a run failed; the others are done."""

    exit_code = 3


class DatasetError(FlarenetError):
    """A data set, an image or a label file that cannot be used as it is."""

    exit_code = 4


class GeometryError(DatasetError):
    """Grids that do not fit each other or cannot be trusted."""


class PlanError(FlarenetError):
    """A plan that is missing, malformed or contradicts itself."""

    exit_code = 4


class RunError(FlarenetError):
    """A training run or model folder that is missing, unfinished or damaged."""

    exit_code = 4


class StorageError(FlarenetError):
    """Disk, memory, permissions or the system do not allow the work."""

    exit_code = 5


class NoRoom(StorageError):
    """The disk that all cases are stored on is full or cannot be written, so every other case would fail too."""


class LockedError(FlarenetError):
    """Another process is using a folder."""

    exit_code = 6


class UnsafeError(FlarenetError):
    """Input that is refused because using it could do harm."""

    exit_code = 7


@contextmanager
def needs_extra(extra: str, thing: str, *, otherwise: str = "") -> Iterator[None]:
    """Context for an import that `thing` needs and the extra `extra` installs. Raises UsageError where it is missing.

    otherwise  what the user can do instead of installing it
    """
    try:
        yield
    except ImportError as missing:
        remedy = f"pip install 'flarenet[{extra}]'" + (otherwise and f", or {otherwise}")
        raise UsageError(thing, found=missing, expected=f"the extra `{extra}`", remedy=remedy) from missing


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: Python's own, or torch's of the CPU or a GPU.

    A failed allocation of CUDA, cuDNN or cuBLAS outside torch's allocator is a plain RuntimeError, known by its text.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def memory_remedy(error: BaseException, usual: str) -> str:
    """The remedy for an out-of-memory error: `usual`, and --precision fp32 where the number type may be the cause."""
    return usual + ("; or --precision fp32, where the GPU lacks the number type" if _NO_ENGINE in str(error) else "")


def without_frames(error: FlarenetError) -> FlarenetError:
    """`error`, with tracebacks stripped from it and its causes: a kept frame would keep the whole scan alive."""
    done, todo = set[int](), list[BaseException | None]([error])
    while todo:
        one = todo.pop()
        if one is not None and id(one) not in done:
            done.add(id(one))
            one.__traceback__ = None
            todo += [one.__cause__, one.__context__]
    return error


def without_folders(text: str, folders: Iterable[Path]) -> str:
    """`text` without the absolute paths of `folders` before file names, for reports that are passed on."""
    for folder in folders:
        if folder.is_absolute():
            text = text.replace(f"{folder}/", "")
    return text


def some_of(names: Sequence[str], most: int = 10) -> str:
    """The first `most` of `names`, and how many others there are, so that a message stays readable."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts, `one` or `many` (default: with an s): "1 voxel", "2 voxels"."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def unknown(kind: str, name: str, choices: Iterable[str], *, otherwise: str = "") -> UsageError:
    """The error for an unknown name; it lists the real names and suggests the nearest.

    kind       what the name should have been, as in "trainer" or "data set"
    otherwise  what may stand in place of a name, in words
    """
    real = sorted(choices)
    expected = (", ".join(real) or f"no {kind} exists yet") + (otherwise and f", or {otherwise}")
    return UsageError(f"unknown {kind} {name!r}", expected=expected, remedy=did_you_mean(name, real, cutoff=0.4))


def did_you_mean(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The remedy that names the nearest of `choices`, ignoring case; None where difflib finds none at `cutoff`."""
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=cutoff)
    return f"did you mean {by_lower[near[0]]!r}?" if near else None
