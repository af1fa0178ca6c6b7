"""Tests reach no network: what connects, binds, sends or asks for a name elsewhere is an error with test and address.

An audit hook, in the process of the tests and, as PYTHONPATH names this folder and Python imports a module of this
name when it starts, in every Python process that a test starts. A hook and no namespace without a network: it needs
no rights, so it is there wherever the tests are, and it sees what a library tries and keeps to itself, as each
attempt is written down and fails its test. What it cannot see is compiled code with sockets of its own;
docs/contributing.md has the line that runs the tests in such a namespace.
"""

import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
ATTEMPTS = "FLARENET_TESTS_ATTEMPTS"
"""The variable that names the file in which the attempts of a test and of its processes are written down."""

TO_ADDRESSES = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}  # (socket, address)
ABOUT_NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}  # (name, ...)


class NoNetwork(PermissionError):
    """An OSError, so that a library does what it does where there is no network."""


def refuse(event, arguments):
    if event in TO_ADDRESSES:
        address = arguments[1]
        elsewhere = address is not None and not _stays_here(arguments[0], address)
    elif event in ABOUT_NAMES:
        address = arguments[0]
        elsewhere = bool(address) and not _is_this_machine(address, or_by_name=True)
    else:
        return
    if elsewhere:
        test = os.environ.get("PYTEST_CURRENT_TEST", "outside of any test").rsplit(" (", 1)[0]
        attempt = f"{test}: {event} {address!r}"
        if ATTEMPTS in os.environ:
            with open(os.environ[ATTEMPTS], "a") as file:
                file.write(attempt + "\n")
        raise NoNetwork(f"tests reach no network, and this one tried to: {attempt}")


def _stays_here(socket, address):
    from socket import AF_INET, AF_INET6, AF_NETLINK, AF_UNIX

    if socket.family in (AF_UNIX, AF_NETLINK):  # other processes of this machine, its kernel
        return True
    return socket.family in (AF_INET, AF_INET6) and _is_this_machine(address[0])


def _is_this_machine(host, *, or_by_name=False):
    """Loopback; an empty host is every interface, so it is not. `or_by_name`: nobody else is asked for the own name."""
    from ipaddress import ip_address
    from socket import gethostname

    host = host.decode() if isinstance(host, (bytes, bytearray)) else host
    if host == "localhost" or (or_by_name and host == gethostname()):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return False


if __name__ == "sitecustomize":
    sys.addaudithook(refuse)
