"""Boxes of a track at the keyframes where it was missed.

Legend: N people of a keyframe, A action classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from detection.structures import FillMisses
from detection.tracking.events import TrackedKeyframe

_Added = tuple[int, NDArray[np.float64]]
"""A track, and its (4,) box where it was missed."""


class MissFiller:
    """Adds boxes to the keyframes of a video, which are fed in order of time.

    fill: "between": a track gets an interpolated box at each keyframe between two of its own.
        "whole-video": also its first box at all keyframes before it, and its last at all after it.
    max_gap_s: longer stretches between two boxes of a track stay as they are.

    A keyframe is returned once nothing can be added to it any more: at "between" as soon as each
    track that it lacks has come back, or has been away for too long; at "whole-video" at the end.
    Added boxes follow a keyframe's own, by track; `seen` is false of them, their scores are NaN.
    """

    def __init__(self, fill: FillMisses, *, max_gap_s: float = np.inf) -> None:
        self._fill, self._max_gap_s = fill, max_gap_s
        self._held: deque[tuple[TrackedKeyframe, list[_Added]]] = deque()
        self._open: dict[int, _Open] = {}

    def feed(self, keyframe: TrackedKeyframe) -> Iterator[TrackedKeyframe]:
        """Add the next keyframe; yield those that are final."""
        if self._fill == "none":
            yield keyframe
            return
        time_s = keyframe.time_s
        for track, box in zip(keyframe.track.tolist(), keyframe.boxes_01, strict=True):
            known = self._open.setdefault(track, _Open(time_s, box))
            if time_s - known.seen_s <= self._max_gap_s + 1e-9:
                self._add_between(track, known, time_s, box)
            known.seen_s, known.box_01 = time_s, box
        self._held.append((keyframe, []))
        if self._fill == "between":
            self._open = {
                number: track
                for number, track in self._open.items()
                if time_s - track.seen_s <= self._max_gap_s + 1e-9
            }
            yield from self._ready(min((t.seen_s for t in self._open.values()), default=np.inf))

    def finish(self) -> Iterator[TrackedKeyframe]:
        """Yield the remaining keyframes."""
        if self._fill == "whole-video":
            for keyframe, added in self._held:
                added += [
                    (number, box)
                    for number, track in self._open.items()
                    if (box := track.outside(keyframe.time_s)) is not None
                ]
        yield from self._ready(np.inf)
        self._open = {}

    def _add_between(
        self, track: int, known: _Open, time_s: float, box: NDArray[np.floating]
    ) -> None:
        """Add the boxes of a track between the one that was its last and that at `time_s`."""
        ends_s = (known.seen_s, time_s)
        for keyframe, added in reversed(self._held):
            if keyframe.time_s <= known.seen_s:
                break
            sides = zip(known.box_01, box, strict=True)
            added.append((track, np.array([np.interp(keyframe.time_s, ends_s, s) for s in sides])))

    def _ready(self, until_s: float) -> Iterator[TrackedKeyframe]:
        while self._held and self._held[0][0].time_s <= until_s:
            keyframe, added = self._held.popleft()
            yield _with(keyframe, sorted(added, key=lambda one: one[0]))


@dataclass
class _Open:
    """A track: its first box, and its last one so far."""

    first_s: float
    first_box_01: NDArray[np.floating]
    seen_s: float = field(init=False)
    box_01: NDArray[np.floating] = field(init=False)

    def __post_init__(self) -> None:
        self.seen_s, self.box_01 = self.first_s, self.first_box_01

    def outside(self, time_s: float) -> NDArray[np.float64] | None:
        """Return the nearest box at a time before the first or after the last one, else None."""
        if time_s < self.first_s:
            return self.first_box_01.astype(np.float64)
        return self.box_01.astype(np.float64) if time_s > self.seen_s else None


def _with(keyframe: TrackedKeyframe, added: Sequence[_Added]) -> TrackedKeyframe:
    """Append boxes that were not seen."""
    num = len(added)
    track = np.array([track for track, _ in added], np.int64)
    boxes = np.array([box for _, box in added], np.float32).reshape(-1, 4)
    nothing = np.full((num, keyframe.scores.shape[1]), np.nan, np.float32)
    return replace(
        keyframe,
        track=np.concatenate([keyframe.track, track]),
        boxes_01=np.concatenate([keyframe.boxes_01, boxes]),
        person_score=np.concatenate([keyframe.person_score, np.full(num, np.nan, np.float32)]),
        scores=np.concatenate([keyframe.scores, nothing]),
        seen=np.repeat([True, False], [len(keyframe.track), num]),
    )
