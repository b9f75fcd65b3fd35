"""Smooths action scores along tracks and turns them into events, with hysteresis.

Legend: N people of a keyframe, A action classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ActionEvent:
    """An action of one person, from start to end.

    track: track number of the person, from 1 on within a video.
    start_s, end_s: seconds on the video's clock, half a keyframe interval beyond the first and the
        last keyframe.
    peak_score: highest probability.
    """

    video_id: str
    track: int
    action: str
    action_id: int
    start_s: float
    end_s: float
    peak_score: float


@dataclass(frozen=True)
class TrackedKeyframe:
    """The tracked people of a keyframe.

    track: (N,).
    boxes_01: (N, 4).
    scores: (N, A).
    """

    time_s: float
    track: NDArray[np.int64]
    boxes_01: NDArray[np.float32]
    person_score: NDArray[np.float32]
    scores: NDArray[np.float32]


class ScoreSmoother:
    """Averages each person's scores over neighbouring keyframes of the same track.

    Weights fall linearly from 1 at the keyframe to 0 at `reach_s` before and after (0: no
    smoothing). A keyframe is returned once all keyframes within reach have been fed.
    """

    def __init__(self, reach_s: float) -> None:
        self._reach_s = reach_s
        self._held: deque[TrackedKeyframe] = deque()
        self._next = 0

    def feed(self, keyframe: TrackedKeyframe) -> Iterator[TrackedKeyframe]:
        """Add the next keyframe; yield those that are final."""
        self._held.append(keyframe)
        yield from self._ready(keyframe.time_s)

    def finish(self) -> Iterator[TrackedKeyframe]:
        """Yield the remaining keyframes."""
        yield from self._ready(np.inf)
        self._held.clear()
        self._next = 0

    def _ready(self, now_s: float) -> Iterator[TrackedKeyframe]:
        while self._next < len(self._held):
            centre = self._held[self._next]
            if now_s < centre.time_s + self._reach_s - 1e-6:
                return
            yield self._smoothed(centre)
            self._next += 1
            while self._next < len(self._held) and (
                self._held[self._next].time_s - self._held[0].time_s >= self._reach_s
            ):
                self._held.popleft()
                self._next -= 1

    def _smoothed(self, centre: TrackedKeyframe) -> TrackedKeyframe:
        if self._reach_s == 0 or not len(centre.track):
            return centre
        totals = np.zeros(centre.scores.shape, np.float64)
        weights = np.zeros(len(centre.track))
        for other in self._held:
            weight = 1 - abs(other.time_s - centre.time_s) / self._reach_s
            if weight <= 0:
                continue
            mine, theirs = np.nonzero(centre.track[:, None] == other.track[None, :])
            totals[mine] += weight * other.scores[theirs]
            weights[mine] += weight
        scores = (totals / weights[:, None]).astype(np.float32)
        return replace(centre, scores=scores)


@dataclass
class _Run:
    """Consecutive keyframes above the lower threshold.

    peak: the highest score; real: an event.
    """

    first_s: float
    last_s: float
    peak: float
    real: bool


@dataclass
class EventFinder:
    """Finds events by hysteresis: runs above the lower threshold that reach the upper one.

    names, ids: (A,) of the classes.
    on, off: (A,) thresholds.
    interval_s: between keyframes.
    max_gap_s: events of a person end when they are not seen for longer.
    top_k: only this many of a person's likeliest classes count at a keyframe (None: all).
    """

    video_id: str
    names: tuple[str, ...]
    ids: tuple[int, ...]
    on: NDArray[np.float64]
    off: NDArray[np.float64]
    interval_s: float
    max_gap_s: float
    top_k: int | None = None
    _runs: dict[tuple[int, int], _Run] = field(default_factory=dict)
    _seen_s: dict[int, float] = field(default_factory=dict)

    def feed(self, keyframe: TrackedKeyframe) -> list[ActionEvent]:
        """Add the next keyframe; return the events that ended before it."""
        ended: list[ActionEvent] = []
        for track in [t for t, s in self._seen_s.items() if keyframe.time_s - s > self.max_gap_s]:
            ended += self._end_track(track)
        for track, scores in zip(keyframe.track.tolist(), keyframe.scores, strict=True):
            self._seen_s[track] = keyframe.time_s
            among = np.ones(len(scores), bool)
            if self.top_k is not None:
                among[np.argsort(-scores, kind="stable")[self.top_k :]] = False
            reached, stays = among & (scores >= self.on), among & (scores >= self.off)
            for column in range(len(self.names)):
                key = (track, column)
                run = self._runs.get(key)
                if not stays[column]:
                    if run is not None:
                        ended += self._end(key)
                    continue
                score = float(scores[column])
                if run is None:
                    run = self._runs[key] = _Run(keyframe.time_s, 0.0, 0.0, False)
                run.last_s = keyframe.time_s
                run.peak = max(run.peak, score)
                run.real = run.real or bool(reached[column])
        return sorted(ended, key=_order)

    def active(self, track: int) -> set[int]:
        """Return the columns of a track's current events."""
        return {c for (t, c), run in self._runs.items() if t == track and run.real}

    def finish(self) -> list[ActionEvent]:
        """Return the events that were still going on at the end."""
        ended = [event for track in list(self._seen_s) for event in self._end_track(track)]
        return sorted(ended, key=_order)

    def _end_track(self, track: int) -> list[ActionEvent]:
        del self._seen_s[track]
        keys = [key for key in self._runs if key[0] == track]
        return [event for key in keys for event in self._end(key)]

    def _end(self, key: tuple[int, int]) -> list[ActionEvent]:
        run = self._runs.pop(key)
        if not run.real:
            return []
        track, column = key
        half_s = self.interval_s / 2
        return [
            ActionEvent(
                video_id=self.video_id,
                track=track,
                action=self.names[column],
                action_id=self.ids[column],
                start_s=round(max(0.0, run.first_s - half_s), 6),
                end_s=round(run.last_s + half_s, 6),
                peak_score=round(run.peak, 6),
            )
        ]


def _order(event: ActionEvent) -> tuple[float, int, int]:
    return event.start_s, event.track, event.action_id
