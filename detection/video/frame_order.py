"""Assigns ascending times to frames in the order in which a decoder returns them. No av, no torch.

A decoder returns frames in presentation order. Files without presentation times (AVI) or with wrong
ones (packed B-frames) attach times in decoding order: the right times at the wrong frames. Sorting
the times gives every frame its own.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Frame = TypeVar("Frame")

# The most places by which any codec reorders a frame.
DEPTH = 17
# Reordered times differ by less; a clock that falls back further was reset.
RESET_S = 1.0
_USUAL_INTERVAL_S = 0.04


class AscendingTimes(Generic[Frame]):
    """Assigns ascending times to frames; every frame is returned once.

    Times are sorted; further frames with the same time are spread evenly before the next time. A
    clock that falls back by more than `RESET_S` was reset: its frames continue at the usual
    interval.

    depth: number of frames buffered until their time is known.
    moved: number of frames that got another time than their own, resets aside.
    resets: number of clock resets.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        self.moved = 0
        self.resets = 0
        self._depth = depth
        self._frames: deque[tuple[float, Frame]] = deque()
        self._times_s: list[float] = []
        self._latest_s = -np.inf
        self._offset_s = 0.0
        self._last_s = -np.inf
        self._interval_s = _USUAL_INTERVAL_S

    def push(self, time_s: float, frame: Frame) -> list[tuple[float, Frame]]:
        """Add the next frame with the file's time; return the frames whose time is now known."""
        own_s = time_s + self._offset_s
        ready: list[tuple[float, Frame]] = []
        if own_s < self._latest_s - RESET_S:
            ready = self.flush()
            self.resets += 1
            own_s = max(self._last_s, self._latest_s) + self._interval_s
            self._offset_s = own_s - time_s
        self._latest_s = max(self._latest_s, own_s)
        self._frames.append((own_s, frame))
        insort(self._times_s, own_s)
        while len(self._frames) > self._depth:
            ready.append(self._pop())
        return ready

    def flush(self) -> list[tuple[float, Frame]]:
        """Return the buffered frames."""
        return [self._pop() for _ in range(len(self._frames))]

    def _pop(self) -> tuple[float, Frame]:
        own_s, frame = self._frames.popleft()
        time_s = self._times_s.pop(0)
        if time_s <= self._last_s:
            equal = bisect_right(self._times_s, self._last_s)
            later = self._times_s[equal] if equal < len(self._times_s) else np.inf
            next_s = min(later, self._last_s + self._interval_s)
            time_s = self._last_s + (next_s - self._last_s) / (equal + 2)
        elif np.isfinite(self._last_s):
            self._interval_s = min(time_s - self._last_s, RESET_S)
        self.moved += time_s != own_s
        self._last_s = time_s
        return time_s, frame


def ascending_times_s(file_times_s: Iterable[float]) -> NDArray[np.float64]:
    """Return the (n,) ascending times of frames whose file times are `file_times_s`, in order."""
    order: AscendingTimes[None] = AscendingTimes()
    times_s = [time_s for own_s in file_times_s for time_s, _ in order.push(own_s, None)]
    times_s += [time_s for time_s, _ in order.flush()]
    return np.asarray(times_s, dtype=np.float64)
