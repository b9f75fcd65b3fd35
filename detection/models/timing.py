"""Milliseconds and peak memory of a call on this machine."""

from __future__ import annotations

import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def time_and_memory(
    call: Callable[[], object], *, device: torch.device, repeats: int
) -> tuple[float, float | None]:
    """Return the median seconds of `call` and the peak of memory above its start, in MB.

    The first call warms up and is not timed; memory is read over it. On the CPU the peak is that
    of the process (Linux only, None elsewhere): an upper bound, since freed memory counts too.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        peak: float | None = (torch.cuda.max_memory_allocated(device) - before) / 1e6
    else:
        before_mb = reset_peak_mb()
        call()
        after_mb = peak_mb()
        peak = None if before_mb is None or after_mb is None else max(0.0, after_mb - before_mb)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), peak


def reset_peak_mb() -> float | None:
    """Begin a new peak of this process's memory; return what it takes now (None: not Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return peak_mb()


def peak_mb() -> float | None:
    """Return the peak of this process's resident memory since the last reset, in MB."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return None if found is None else int(found[1]) * 1024 / 1e6


def describe_device(device: torch.device) -> str:
    """Name the device, and the threads where it is a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} thread(s)"


def processor_name() -> str:
    """Return the processor's name; its architecture's where the system is not Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1].strip() if found else platform.processor() or platform.machine()
