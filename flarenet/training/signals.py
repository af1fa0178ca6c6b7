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
    """What was asked of the processes that train together, as of the last look, which all of them take together.

    stop    whether the end was
    save    whether a state was; whoever saves one sets it back
    ending  the signal that asked any of them for the end; 0: none
    heard   the signal that asked this process for the end, and `wanted` whether it was asked for a state: what signals
            write, at any moment, and a look only reads, or sets back where it passed it on
    """

    stop: bool = False
    save: bool = False
    ending: int = 0
    heard: int = 0
    wanted: bool = False

    def look(self) -> None:
        wanted = self.wanted
        self.ending, saving = highest(self.heard, wanted)
        self.stop, self.save = self.ending > 0, self.save or saving > 0
        if wanted:
            self.wanted = False


@contextmanager
def noted() -> Iterator[Asked]:
    """Within this context signals are noted; a signal to end is raised again when the context is left.

    Signals that the process ignores stay ignored. Outside the main thread no handler can be set, so nothing is noted.
    """
    asked, owner = Asked(), os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            asked.heard = asked.heard or number
        elif number == signal.SIGTERM:  # a forked child, which has no state to save
            os._exit(128 + number)

    def save(number: int, _: FrameType | None) -> None:
        asked.wanted = True

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
    if ending := asked.ending or asked.heard:
        signal.raise_signal(ending)
