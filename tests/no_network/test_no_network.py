"""That tests reach no network, by tests that try. 192.0.2.1 is nobody's (RFC 5737), .invalid no name (RFC 2606)."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE, ELSEWHERE_6 = ("192.0.2.1", 80), ("2001:db8::1", 80, 0, 0)

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("FLARENET_TESTS_NETWORK")), reason="FLARENET_TESTS_NETWORK lets tests reach the network"
)


def udp(use, *words, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as here:
        return getattr(here, use)(*words)


@pytest.mark.parametrize(
    ("event", "attempt"),
    [
        ("connect ('192.0.2.1', 80)", lambda: udp("connect", ELSEWHERE)),
        ("connect ('2001:db8::1', 80, 0, 0)", lambda: udp("connect", ELSEWHERE_6, family=socket.AF_INET6)),
        ("connect ('192.0.2.1', 80)", lambda: udp("connect_ex", ELSEWHERE)),
        ("sendto ('192.0.2.1', 80)", lambda: udp("sendto", b"x", ELSEWHERE)),
        ("sendmsg ('192.0.2.1', 80)", lambda: udp("sendmsg", [b"x"], [], 0, ELSEWHERE)),
        ("bind ('0.0.0.0', 0)", lambda: udp("bind", ("0.0.0.0", 0))),
        ("bind ('', 0)", lambda: udp("bind", ("", 0))),
        ("getaddrinfo 'example.invalid'", lambda: socket.getaddrinfo("example.invalid", 80)),
        ("gethostbyname 'example.invalid'", lambda: socket.gethostbyname("example.invalid")),
    ],
)
def test_what_goes_elsewhere_is_refused(attempts, request, event, attempt):
    # by its base: in a worker of xdist the hook is that of the module Python imported at its start
    with pytest.raises(PermissionError, match="tests reach no network") as refused:
        attempt()
    assert str(refused.value).endswith(f"{request.node.nodeid}: socket.{event}")
    [written] = attempts()
    assert written.endswith(event)


def test_what_stays_on_this_machine_is_not(tmp_path, attempts):
    for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, str(tmp_path / "socket"))):
        with socket.socket(family) as server:
            server.bind(address)
            server.listen()
            with socket.socket(family) as client:
                client.connect(server.getsockname())
    assert socket.getaddrinfo("localhost", 80, socket.AF_INET)[0][4] == ("127.0.0.1", 80)
    assert attempts() == []


def test_a_process_that_a_test_starts_is_refused_too(attempts):
    script = "import urllib.request; urllib.request.urlopen('http://192.0.2.1', timeout=1)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and "tests reach no network" in done.stderr
    [written] = attempts()
    assert written.endswith("::test_a_process_that_a_test_starts_is_refused_too: socket.getaddrinfo '192.0.2.1'")


QUIET = """
import socket
def test_that_hides_it():
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    except OSError:
        pass
def test_that_asks_for_nothing():
    pass
"""


def test_an_error_that_a_library_keeps_to_itself_fails_its_test(tmp_path, attempts):
    (tmp_path / "test_quiet.py").write_text(QUIET)
    line = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", os.devnull, "-q"]
    done = subprocess.run([*line, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "2 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "test_that_hides_it: socket.getaddrinfo '192.0.2.1'" in done.stdout
    assert attempts() == []  # the other tests wrote it down, and their own file is theirs
