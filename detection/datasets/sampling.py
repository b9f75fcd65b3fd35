"""Which keyframes an epoch is made of. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detection.structures import Keyframe


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
