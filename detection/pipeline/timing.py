"""Measures the CPU time of each stage over all threads, and the latency."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


class StageClock:
    """Adds up the CPU seconds of named stages over threads.

    Only the calling thread's time counts: stages that use several threads themselves are measured
    too low (benchmarks run networks with one thread per worker).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = defaultdict(float)
        self._started_s = time.monotonic()
        self.wall_s = 0.0

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the CPU time of the block to `stage`."""
        before = time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - before
            with self._lock:
                self.seconds[stage] += spent

    def stop(self) -> None:
        """End the wall-clock time."""
        self.wall_s = time.monotonic() - self._started_s

    def table(self, video_s: float) -> str:
        """Return a table of CPU seconds and seconds of video per CPU second, a row per stage."""
        lines = [f"{'stage':<14}{'CPU s':>9}{'video s / CPU s':>18}"]
        for stage, seconds in sorted(self.seconds.items(), key=lambda item: -item[1]):
            lines.append(f"{stage:<14}{seconds:>9.2f}{video_s / max(seconds, 1e-9):>18.1f}")
        total = sum(self.seconds.values())
        lines.append(f"{'together':<14}{total:>9.2f}{video_s / max(total, 1e-9):>18.1f}")
        lines.append(
            f"{video_s:.1f} s of video in {self.wall_s:.1f} s: "
            f"{video_s / max(self.wall_s, 1e-9):.1f} seconds of video a second"
        )
        return "\n".join(lines)


class Latency:
    """Seconds from the arrival of a keyframe's frame to its result, of the newest 10,000."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def note(self, seconds: float) -> None:
        """Add one."""
        self._seconds.append(seconds)
        if len(self._seconds) > 20_000:
            del self._seconds[:10_000]

    def __str__(self) -> str:
        if not self._seconds:
            return "no keyframe was judged"
        median, high = np.percentile(self._seconds[-10_000:], [50, 95])
        return f"latency {median * 1000:.0f} ms (median), {high * 1000:.0f} ms (95th percentile)"
