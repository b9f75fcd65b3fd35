"""Which moments a clip is made of, and which keyframes an epoch is made of. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detection.structures import Keyframe

# X3D's `step` counts frames of 30 per second (Feichtenhofer 2020); files of any rate are read by
# time, so that a clip spans as many seconds whatever the file's rate.
STEPS_PER_SECOND = 30.0


def clip_times_s(
    time_s: float,
    num_frames: int,
    step: float,
    *,
    within_s: tuple[float, float] | None = None,
) -> NDArray[np.float64]:
    """Return the (T,) wanted times of a clip around `time_s`, in seconds, ascending.

    Frame i of T = num_frames is wanted at time_s + (i - T // 2) * step / 30, so the moment itself
    is always among them. step: in thirtieths of a second; 0 repeats the middle frame.
    within_s: times of the first and the last frame that there is. A clip that would reach past one
    of them moves until it no longer does; one that is longer than the video is spread over it
    evenly; then the time nearest to `time_s` gives way to `time_s` itself. None: the times are what
    they are, and a video's edge frames repeat.
    """
    if num_frames < 1 or step < 0:
        raise ValueError(f"a clip needs num_frames >= 1 and step >= 0, got {num_frames} and {step}")
    offsets = np.arange(num_frames, dtype=np.float64) - num_frames // 2
    times_s = np.asarray(time_s + offsets * (step / STEPS_PER_SECOND), dtype=np.float64)
    if within_s is None or (within_s[0] <= times_s[0] and times_s[-1] <= within_s[1]):
        return times_s
    first_s, last_s = within_s
    if first_s > last_s:
        raise ValueError(f"the first frame, at {first_s} s, is after the last one, at {last_s} s")
    if times_s[-1] - times_s[0] > last_s - first_s:
        times_s = np.linspace(first_s, last_s, num_frames)
    else:
        times_s += max(first_s - times_s[0], 0.0) + min(last_s - times_s[-1], 0.0)
    times_s[np.abs(times_s - time_s).argmin()] = time_s
    return times_s


def choose_keyframes(
    keyframes: Sequence[Keyframe],
    *,
    every: int = 1,
    per_video: int | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> NDArray[np.int64]:
    """Return the positions of the keyframes that one epoch visits, ascending.

    every: take each n-th keyframe of a video, in order of time; the first one taken moves with the
    epoch, so that n epochs see them all. per_video: of those, at most so many per video, drawn anew
    for each (seed, epoch). Videos whose frames are all annotated repeat themselves otherwise.
    """
    if every < 1 or (per_video is not None and per_video < 1):
        raise ValueError(f"every and per_video must be at least 1, got {every} and {per_video}")
    by_video: dict[str, list[int]] = {}
    for position in sorted(range(len(keyframes)), key=lambda i: keyframes[i]):
        by_video.setdefault(keyframes[position].video_id, []).append(position)
    generator = np.random.default_rng((seed, epoch))
    chosen: list[int] = []
    for positions in by_video.values():
        start = epoch % min(every, len(positions))
        taken = positions[start::every]
        if per_video is not None and per_video < len(taken):
            picks = generator.choice(len(taken), size=per_video, replace=False)
            taken = [taken[pick] for pick in sorted(picks)]
        chosen.extend(taken)
    return np.asarray(sorted(chosen), dtype=np.int64)
