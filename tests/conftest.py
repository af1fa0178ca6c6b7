"""What holds for all tests."""

import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from tests.no_network import sitecustomize as no_network

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    # a shell starts what it runs in the background with SIGINT ignored, and children inherit that; here it is tested
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _write_into_memory()
    os.environ["FLARENET_CACHE"] = ""  # what one test makes is not there for another, nor in the home of a user
    if not os.environ.get("FLARENET_TESTS_NETWORK"):
        _refuse_the_network(config)


MEMORY, ROOM_BYTES = "/dev/shm", 4 << 30


def _write_into_memory():
    """Temporary files lie in memory where there is room: each of the thousands that are written whole waits for a disk.

    Not where the environment names another folder, nor in docker's /dev/shm of 64 MB, from which nothing can be run.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK | os.X_OK):
        return
    found = os.statvfs(MEMORY)
    if found.f_bavail * found.f_frsize >= ROOM_BYTES and not found.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = MEMORY
        tempfile.tempdir = None  # what was found before is looked for anew


def _refuse_the_network(config):
    """In this process, and by its environment in those that it starts; these find the sources there too."""
    handle, path = tempfile.mkstemp(prefix="flarenet-attempts-")
    config.add_cleanup(lambda: os.unlink(path))
    config.stash[ATTEMPTS] = os.fdopen(handle)
    os.environ[no_network.ATTEMPTS] = path
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([no_network.FOLDER, str(ROOT), *([before] if before else [])])
    # a worker of xdist was itself started by a process of tests, and has the hook
    if getattr(sys.modules.get("sitecustomize"), "__file__", None) != no_network.__file__:
        sys.addaudithook(no_network.refuse)


LONG = ("integration", "trainers", "choice", "training", "faults", "networks")
"""Folders whose files take longest."""
SERVER = "test_distributed.py"
"""Its fork server has imported most. A process has one for all its files, which is told that before it starts."""


def pytest_collection_modifyitems(items):
    """Long files begin first, or one process would wait at the end for the other's; the order within a file stays."""
    items.sort(key=lambda item: (item.path.name != SERVER, item.path.parent.name not in LONG))


ATTEMPTS = pytest.StashKey()


@pytest.hookimpl(trylast=True)  # after fixtures have ended what they started
def pytest_runtest_teardown(item):
    """An attempt fails its test also where a library caught the error, or another process had it."""
    if attempts := new_attempts(item.config):
        pytest.fail("tests reach no network, and this one tried to:\n" + "\n".join(attempts), pytrace=False)


def new_attempts(config):
    """What was refused since this was last asked, a line each."""
    return config.stash[ATTEMPTS].read().splitlines() if ATTEMPTS in config.stash else []


@pytest.fixture
def attempts(request):
    """Call it for what was refused so far, which then does not fail the test."""
    return lambda: new_attempts(request.config)


@pytest.fixture(scope="module")
def no_pictures():
    """The runs of this file draw no progress.png and no examples, which takes longer than they train."""
    from flarenet.training.curve import Pace

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pace, "is_due", lambda *_: False)
        yield


@pytest.fixture(scope="module")
def torch_alone():
    """Predictions of this file are by torch also where OpenVINO is, which takes longer to open than they do."""
    from flarenet.inference.engines import engine as engines

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "CONVERTED", ())
        yield
