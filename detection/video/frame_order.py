"""Ascending times for frames in the order in which a decoder gives them out. No av, no torch.

A decoder gives frames out in the order in which they are shown. Files that keep no presentation
times (AVI) or wrong ones (packed B-frames) give those frames times in the order of decoding: the
right times at the wrong frames. Sorted, every frame has its own.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Frame = TypeVar("Frame")

# No codec moves a frame by more places than this.
DEPTH = 17
# Reordered times lie closer; a clock that falls back further was set anew.
RESET_S = 1.0
_USUAL_INTERVAL_S = 0.04


class AscendingTimes(Generic[Frame]):
    """Gives frames times that ascend; each frame once, none left out.

    depth: frames that are held back until their time is known.  Times are sorted; of frames with
    the same time the later ones come evenly before the next time.  A clock that falls back by more
    than `RESET_S` was set anew: its frames follow on at the usual interval.
    moved: frames that got another time than they came with, but for resets.  resets: how often a
    clock was set.
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
        """Take the next frame and its time as told; return those whose time is known now."""
        own_s = time_s + self._offset_s
        given: list[tuple[float, Frame]] = []
        if own_s < self._latest_s - RESET_S:
            given = self.flush()
            self.resets += 1
            own_s = max(self._last_s, self._latest_s) + self._interval_s
            self._offset_s = own_s - time_s
        self._latest_s = max(self._latest_s, own_s)
        self._frames.append((own_s, frame))
        insort(self._times_s, own_s)
        while len(self._frames) > self._depth:
            given.append(self._pop())
        return given

    def flush(self) -> list[tuple[float, Frame]]:
        """Return the frames that are held back, at the end or before what comes otherwise."""
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


def ascending_times_s(told_s: Iterable[float]) -> NDArray[np.float64]:
    """Return the (n,) ascending times of frames that came, in their order, with `told_s`."""
    order: AscendingTimes[None] = AscendingTimes()
    times_s = [time_s for told in told_s for time_s, _ in order.push(told, None)]
    times_s += [time_s for time_s, _ in order.flush()]
    return np.asarray(times_s, dtype=np.float64)
