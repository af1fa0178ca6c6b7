"""What signals request of a training run. Handlers only note them; the loop acts on them between two batches.

SIGTERM, SIGINT   save the state and end
SIGUSR1           save the state and go on; between two runs there is none to save
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
class Requests:
    """What signals have requested, agreed by all processes that train together at each check.

    stop    whether to end
    save    whether to save the state; whoever saves it resets this
    ending  the signal by which any process was told to end; 0: none
    heard   the signal by which this process was told to end, set by its handler at any time; 0: none
    wanted  whether this process was told to save since the last check, set likewise
    """

    stop: bool = False
    save: bool = False
    ending: int = 0
    heard: int = 0
    wanted: bool = False

    def check(self) -> None:
        wanted = self.wanted  # its handler may run while the others are waited for
        self.ending, saving = highest(self.heard, wanted)
        self.stop, self.save = self.ending > 0, self.save or saving > 0
        if wanted:
            self.wanted = False


@contextmanager
def save_requests_harmless() -> Iterator[None]:
    """Within this context SIGUSR1 does nothing where nothing notes it, as by default it would end the process.

    Handlers that the program has set itself stay. Outside the main thread none can be set.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGUSR1, lambda *_: None)  # not SIG_IGN, which noted() would leave as it is
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


@contextmanager
def noted() -> Iterator[Requests]:
    """Within this context signals are noted; a signal to end is raised again when the context is left.

    Signals that the process ignores stay ignored. Outside the main thread no handler can be set, so nothing is noted.
    """
    requests, owner = Requests(), os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            requests.heard = requests.heard or number
        elif number == signal.SIGTERM:  # a forked child, which has no state to save
            os._exit(128 + number)

    def save(number: int, _: FrameType | None) -> None:
        requests.wanted = True

    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    wanted = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGUSR1: save}
    # a command started in the background may have been set to ignore Ctrl-C, and then keeps ignoring it
    heard = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, wanted[number]) for number in heard}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if ending := requests.ending or requests.heard:
        signal.raise_signal(ending)
