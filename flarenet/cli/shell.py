"""What every command shares: errors become one message and an exit code, never a traceback unless asked."""

from __future__ import annotations

import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence

from ..errors import FlarenetError

INTERRUPTED = 130


def parser(command: str, description: str) -> ArgumentParser:
    """An ArgumentParser with the flags that every command has."""
    words = ArgumentParser(prog=command, description=description)
    words.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return words


def run(words: ArgumentParser, work: Callable[[Namespace], int | None], argv: Sequence[str] | None) -> int:
    """Parse `argv`, do `work`, return the exit code. Errors that flarenet raises on purpose go to stderr."""
    arguments = words.parse_args(argv)
    try:
        return work(arguments) or 0
    except FlarenetError as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"{words.prog}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{words.prog}: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
