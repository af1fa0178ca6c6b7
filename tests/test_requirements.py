"""requirements.lock holds what pyproject.toml asks for, pinned, by hashes, from nowhere in particular."""

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it where Python has none

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12")
LOCK = (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines()
LINES = [line for line in LOCK if not line.startswith("#")]


def locked(python):
    """{name: version} of what is installed for this Python on Linux."""
    system = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
    system |= {"platform_machine": "x86_64", "platform_system": "Linux", "os_name": "posix"}
    wanted = [Requirement(line.split("--hash")[0]) for line in LINES]
    wanted = [item for item in wanted if item.marker is None or item.marker.evaluate(system)]
    versions = {canonicalize_name(item.name): str(item.specifier).removeprefix("==") for item in wanted}
    assert len(versions) == len(wanted), "one version of each"
    return versions


def core():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"]]


def test_every_line_is_one_version_and_its_hashes():
    pinned = re.compile(r"[a-z0-9-]+==[\w.]+( ; [^#@]+?)?(\s+--hash=sha256:[0-9a-f]{64})+")
    assert [line for line in LINES if not pinned.fullmatch(line)] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_holds_what_the_package_asks_for(python):
    versions = locked(python)
    for item in core():
        assert item.specifier.contains(versions[canonicalize_name(item.name)]), item
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = [Requirement(line) for line in lines if not line.startswith("#")]
    assert {constraint.name for constraint in constraints} == {"torch", "triton"}
    assert all(constraint.specifier.contains(versions[constraint.name]) for constraint in constraints)
