"""Cores and memory that a process may use, on made-up machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from detection.cores import memory_limit_bytes, usable_cores

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Make up a machine's cores, memory and files; return its root."""

    def make(cores: int, files: dict[str, str], *, memory_gib: int = 64) -> Path:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": memory_gib * GIB // 4096}
        monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


V2 = {"proc/self/cgroup": "0::/user/job\n"}
V1 = {"proc/self/cgroup": "9:name=systemd:/\n4:memory:/job\n2:cpu,cpuacct:/job\n0::/\n"}


@pytest.mark.parametrize(
    ("cores", "files", "expected"),
    [
        (16, {}, 16),  # not Linux, or no control groups
        (16, V2, 16),
        (16, V2 | {"sys/fs/cgroup/user/job/cpu.max": "max 100000\n"}, 16),
        (16, V2 | {"sys/fs/cgroup/user/job/cpu.max": "400000 100000\n"}, 4),
        (16, V2 | {"sys/fs/cgroup/user/cpu.max": "300000 100000\n"}, 3),  # the group above
        (16, V2 | {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),  # inside a container
        (16, V2 | {"sys/fs/cgroup/user/job/cpu.max": "150000 100000\n"}, 2),
        (16, V2 | {"sys/fs/cgroup/user/job/cpu.max": "10000 100000\n"}, 1),
        (2, V2 | {"sys/fs/cgroup/user/job/cpu.max": "400000 100000\n"}, 2),
        (16, V2 | {"sys/fs/cgroup/user/job/cpu.max": "nonsense\n"}, 16),
        (16, V2 | {"sys/fs/cgroup/other/cpu.max": "100000 100000\n"}, 16),
        (16, {"proc/self/cgroup": "0::/../../job\n"}, 16),  # outside its name space
        (
            16,
            V1
            | {
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "500000\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
        (
            16,
            V1
            | {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            16,
        ),
    ],
)
def test_cores_are_those_of_the_affinity_and_of_every_group(machine, cores, files, expected):
    assert usable_cores(machine(cores, files)) == expected


def test_without_affinity_the_cores_are_the_machines(machine, monkeypatch):
    root = machine(16, {})
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(root) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(root) == 1


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64 * GIB),
        (V2 | {"sys/fs/cgroup/user/job/memory.max": "max\n"}, 64 * GIB),
        (V2 | {"sys/fs/cgroup/user/job/memory.max": f"{4 * GIB}\n"}, 4 * GIB),
        (V2 | {"sys/fs/cgroup/user/memory.max": f"{3 * GIB}\n"}, 3 * GIB),
        (V1 | {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{2 * GIB}\n"}, 2 * GIB),
        (V1 | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 64 * GIB),
    ],
)
def test_memory_is_the_machines_or_the_groups(machine, files, expected):
    assert memory_limit_bytes(machine(16, files)) == expected


def test_memory_that_no_one_tells_is_not_known(machine, monkeypatch):
    root = machine(16, {})

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    assert memory_limit_bytes(root) is None


def test_this_machine_has_cores_and_memory():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    memory = memory_limit_bytes()
    assert memory is None or memory > 2**26
