"""What signals ask of a training run. Handlers only note them; the loop acts on them between two batches.

SIGTERM, SIGINT   save the state and end
SIGUSR1           save the state and go on
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from .distributed import highest


@dataclass
class Asked:
    """What was asked.

    ending  the signal that asked this process, or at the last look any that trains with it, for the end; 0: none
    stop    whether there was one at the last look, which all of them take together
    save    whether a state is wanted
    """

    ending: int = 0
    stop: bool = False
    save: bool = False

    def look(self) -> None:
        self.ending = highest(self.ending)
        self.stop = self.ending > 0


@contextmanager
def noted() -> Iterator[Asked]:
    """Within this context signals are noted; a signal to end is raised again when the context is left.

    Signals that the process ignores stay ignored. Outside the main thread no handler can be set, so nothing is noted.
    """
    asked, owner = Asked(), os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            asked.ending = asked.ending or number
        elif number == signal.SIGTERM:  # a forked child, which has no state to save
            os._exit(128 + number)

    def save(number: int, _: FrameType | None) -> None:
        asked.save = True

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    wanted = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGUSR1: save}
    # a command started in the background may have been told to ignore Ctrl-C, and then goes on ignoring it
    heard = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, wanted[number]) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked.ending:
        signal.raise_signal(asked.ending)
