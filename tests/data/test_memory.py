"""Memory and processors: the machine's, and the limits of control groups, from files as the kernel writes them."""

from __future__ import annotations

import os
import resource

import pytest

from flarenet.data.memory import available_mb, processors

MB = 1 << 20


@pytest.fixture
def kernel(tmp_path):
    """Write files below proc/ and cgroups/; 24 GB of the machine are free."""

    def write(files: dict[str, str]):
        for name, text in {"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable: {24 * MB} kB\n", **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return available_mb(tmp_path / "proc", tmp_path / "cgroups")

    return write


def group(folder, limit_mb, used_mb, cache_mb=0):
    limit = "max" if limit_mb is None else limit_mb * MB
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used_mb * MB}\n",
        f"{folder}/memory.stat": f"anon 5\ninactive_file {cache_mb * MB}\n",
    }


def test_without_limits_it_is_what_the_machine_has(kernel):
    assert kernel({}) == 24 * 1024
    assert kernel({"proc/self/cgroup": "0::/user\n", **group("cgroups/user", None, 10)}) == 24 * 1024


def test_a_control_group_leaves_its_limit_less_what_is_used_for_good(kernel):
    files = {"proc/self/cgroup": "0::/job\n", **group("cgroups/job", 2000, 700, cache_mb=200)}
    assert kernel(files) == 2000 - 700 + 200


def test_the_tightest_group_counts(kernel):
    files = {"proc/self/cgroup": "0::/slice/job\n", **group("cgroups/slice", 900, 100)}
    assert kernel({**files, **group("cgroups/slice/job", 2000, 0)}) == 800


def test_inside_a_container_the_path_of_the_host_is_not_there(kernel):
    assert kernel({"proc/self/cgroup": "0::/docker/abc\n", **group("cgroups", 500, 100)}) == 400


def test_version_1_names_its_files_otherwise(kernel):
    folder = "cgroups/memory/job"
    files = {
        "proc/self/cgroup": "9:cpu:/elsewhere\n4:memory:/job\n",
        f"{folder}/memory.limit_in_bytes": f"{1000 * MB}\n",
        f"{folder}/memory.usage_in_bytes": f"{300 * MB}\n",
        f"{folder}/memory.stat": f"total_inactive_file {50 * MB}\n",
    }
    assert kernel(files) == 750


def test_a_group_that_is_full_leaves_nothing(kernel):
    assert kernel({"proc/self/cgroup": "0::/job\n", **group("cgroups/job", 100, 120)}) == 0


def test_the_address_space_of_a_process_is_a_limit_too(kernel, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (512 * MB, resource.RLIM_INFINITY))
    assert kernel({}) == 512


def test_this_machine_has_some():
    assert 1 < available_mb() < float("inf")


@pytest.fixture
def granted(kernel, tmp_path, monkeypatch):
    """The processors of eight, by files below proc/ and cgroups/."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))

    def write(files: dict[str, str]):
        kernel(files)
        return processors(tmp_path / "proc", tmp_path / "cgroups")

    return write


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),  # docker run --cpus=1.5
        ("10000 100000", 1),
        ("6400000 100000", 8),
    ],
)
def test_a_control_group_grants_a_share_of_the_processors(granted, quota, expected):
    assert granted({"proc/self/cgroup": "0::/docker/abc\n", "cgroups/cpu.max": f"{quota}\n"}) == expected


def test_the_group_that_is_granted_least_counts(granted):
    files = {"proc/self/cgroup": "0::/slice/job\n", "cgroups/slice/cpu.max": "300000 100000\n"}
    assert granted({**files, "cgroups/slice/job/cpu.max": "max 100000\n"}) == 3


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("250000", 3)])
def test_version_1_grants_by_two_files(granted, quota, expected):
    folder = "cgroups/cpu/job"
    files = {
        "proc/self/cgroup": "4:memory:/elsewhere\n9:cpu,cpuacct:/job\n",
        f"{folder}/cpu.cfs_quota_us": f"{quota}\n",
        f"{folder}/cpu.cfs_period_us": "100000\n",
    }
    assert granted(files) == expected


def test_without_control_groups_all_processors_are_granted(granted):
    assert granted({}) == 8
