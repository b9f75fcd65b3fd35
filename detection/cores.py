"""How many processor cores and how much memory this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

ROOT = Path("/")  # of the system's files


def usable_cores(root: Path = ROOT) -> int:
    """Return how many cores this process may use: its affinity, less where its control group has.

    A quota of part of a core counts as a core (`docker run --cpus 1.5`: two).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([cores or 1, *(math.ceil(quota) for quota in _core_quotas(root))]))


def memory_limit_bytes(root: Path = ROOT) -> int | None:
    """Return the machine's memory, less where this process's control group has less.

    None where the system does not tell. What others use now is not taken away, so that the answer
    stays the same.
    """
    limits = list(_memory_limits(root))
    with suppress(AttributeError, ValueError, OSError):  # a system without them
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)


def _core_quotas(root: Path) -> Iterator[float]:
    for folder in _group_folders(root, "cpu"):
        quota, period = _words(folder / "cpu.max", 2)  # version 2
        if quota is None:
            (quota,) = _words(folder / "cpu.cfs_quota_us", 1)  # version 1; -1: none
            (period,) = _words(folder / "cpu.cfs_period_us", 1)
        if quota is not None and period is not None and quota > 0 and period > 0:
            yield quota / period


def _memory_limits(root: Path) -> Iterator[int]:
    for folder in _group_folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # version 2 and 1
            (limit,) = _words(folder / name, 1)
            if limit is not None and limit > 0:
                yield limit


def _group_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups, of all above them too (man 7 cgroups)."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        controllers, _, group = line.partition(":")[2].partition(":")
        mounts = [""] if not controllers else []  # version 2
        if controller in controllers.split(","):
            mounts = [controllers, controller]
        inside = PurePosixPath(group.lstrip("/"))
        for mount in dict.fromkeys(mounts):
            for part in (inside, *inside.parents):
                if ".." not in part.parts:
                    yield root / "sys/fs/cgroup" / mount / part


def _words(path: Path, count: int) -> list[int | None]:
    """Return the first whole numbers of a file; None for each that is none, such as "max"."""
    try:
        words = path.read_text(encoding="utf-8").split()[:count]
    except OSError:  # that version or that group is not there
        words = []
    found: list[int | None] = [
        int(word) if word.lstrip("-").isdecimal() else None for word in words
    ]
    return found + [None] * (count - len(found))


def has_gpu() -> bool:
    """Tell whether this machine's kernel knows a GPU of NVIDIA's; takes no PyTorch."""
    return any(Path("/proc/driver/nvidia/gpus").glob("*"))
