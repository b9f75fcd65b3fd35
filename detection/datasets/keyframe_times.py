"""When a video has keyframes: every second, and more often where it is short.

One rule for detecting people, for CVAT's files and for their import, so that all three mean the
same frames. Legend: n frames, K keyframes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from detection.datasets.open_video import FrameSource
from detection.video.frame_folder import nearest_frames

# Longest first; a video has about `KEYFRAMES` of them or more, so that a clip of a second has ten.
INTERVALS_S = (1.0, 0.5, 0.25, 0.2, 0.1)
KEYFRAMES = 10
_SLACK_S = 1e-6  # annotations hold times to the microsecond


def interval_for(times_s: NDArray[np.float64]) -> float:
    """Return the seconds between keyframes for the (n,) times of a video's frames.

    1 s from 10 s on, else the longest of `INTERVALS_S` that gives 10 keyframes; never less than
    the time between two frames, unless that exceeds 1 s.
    """
    step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    length_s = float(times_s[-1] - times_s[0]) + step_s
    allowed = [s for s in INTERVALS_S if s >= step_s - _SLACK_S] or [INTERVALS_S[0]]
    enough = [s for s in allowed if length_s / s >= KEYFRAMES - 0.01]
    return enough[0] if enough else allowed[-1]


def keyframe_times(times_s: NDArray[np.float64], every_s: float) -> NDArray[np.float64]:
    """Return the (K,) times of the keyframes, of a video whose frames are shown at (n,) times.

    They are the multiples of `every_s` on the video's clock, as AVA's are, from the first frame to
    the last; where that is no whole number of seconds each is the time of its nearest frame. 0:
    every frame. A video between two multiples has its first frame.
    """
    if not every_s:
        return times_s
    first = math.ceil((float(times_s[0]) - _SLACK_S) / every_s)
    last = math.floor((float(times_s[-1]) + _SLACK_S) / every_s)
    if last < first:
        return times_s[:1]
    multiples_s = np.arange(first, last + 1, dtype=np.float64) * every_s
    if every_s == round(every_s):
        return multiples_s
    return times_s[np.unique(nearest_frames(times_s, multiples_s))]


def regular_times_of(
    video: FrameSource, every_s: float | None = None
) -> tuple[NDArray[np.float64], float]:
    """Return the (K,) times of a video's keyframes and the seconds between them.

    every_s: None: by the video's length. Of a long video only the ends are read.
    """
    first_s, last_s = video.ends_s()
    if every_s is None and last_s - first_s >= KEYFRAMES * INTERVALS_S[0]:
        every_s = INTERVALS_S[0]
    if every_s and every_s == round(every_s):
        return keyframe_times(np.array([first_s, last_s]), every_s), every_s
    times_s = video.frame_times_s()
    every_s = interval_for(times_s) if every_s is None else every_s
    return keyframe_times(times_s, every_s), every_s


def describe_intervals(every_s: Iterable[float]) -> str:
    """Say in one line how far apart keyframes are in how many videos, "" for no videos."""
    counts = sorted(Counter(every_s).items(), reverse=True)
    parts = [f"{number:,} videos every {every:g} s" for every, number in counts]
    return f"keyframes: {', '.join(parts)}" if parts else ""
