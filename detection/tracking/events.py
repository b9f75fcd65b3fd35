"""Smooths action scores along tracks and turns them into events, with hysteresis.

Legend: N people of a keyframe, A action classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
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
    seen: (N,) false where the box was filled in, whose scores do not count; None: all were.
    """

    time_s: float
    track: NDArray[np.int64]
    boxes_01: NDArray[np.float32]
    person_score: NDArray[np.float32]
    scores: NDArray[np.float32]
    seen: NDArray[np.bool_] | None = None


class ScoreSmoother:
    """Averages each person's scores over neighbouring keyframes of the same track.

    Weights fall linearly from 1 at the keyframe to 0 at `reach_s` before and after (0: no
    smoothing; inf: the mean of the whole track). A keyframe is returned once all keyframes within
    reach have been fed. Filled boxes alone within reach: scores of NaN.
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
            same = centre.track[:, None] == other.track[None, :]
            mine, theirs = np.nonzero(same if other.seen is None else same & other.seen)
            totals[mine] += weight * other.scores[theirs]
            weights[mine] += weight
        unknown = np.full(totals.shape, np.nan)
        scores = np.divide(totals, weights[:, None], out=unknown, where=weights[:, None] > 0)
        scores = scores.astype(np.float32)
        return replace(centre, scores=scores)


def one_of_each_group(
    scores: NDArray[np.floating],
    may_go_on: NDArray[np.bool_],
    counts: NDArray[np.bool_],
    exclusive: Iterable[Sequence[int]],
) -> NDArray[np.bool_]:
    """Return `may_go_on` with one class alone of each group: the likeliest of those that count.

    scores: (A,) of one person.  may_go_on: (A,) classes at their lower threshold.  counts: (A,)
    some of them, those at their upper threshold or in an event; where none of a group does, the
    likeliest that may go on is left, for it may reach the upper one later.  exclusive: groups of
    columns of which a person does at most one at a time. Of equal scores the first class is left.
    """
    left = may_go_on.copy()
    for group in exclusive:
        columns = np.asarray(group, np.int64)
        able = counts[columns] if counts[columns].any() else may_go_on[columns]
        best = columns[np.where(able, scores[columns], -np.inf).argmax()]
        left[columns] &= columns == best
    return left


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
    exclusive: groups of columns of which a person does one at a time: the likeliest counts.
    """

    video_id: str
    names: tuple[str, ...]
    ids: tuple[int, ...]
    on: NDArray[np.float64]
    off: NDArray[np.float64]
    interval_s: float
    max_gap_s: float
    top_k: int | None = None
    exclusive: tuple[tuple[int, ...], ...] = ()
    _runs: dict[int, dict[int, _Run]] = field(default_factory=dict)  # by track and column
    _seen_s: dict[int, float] = field(default_factory=dict)

    def feed(self, keyframe: TrackedKeyframe) -> list[ActionEvent]:
        """Add the next keyframe; return the events that ended before it."""
        ended: list[ActionEvent] = []
        for track in [t for t, s in self._seen_s.items() if keyframe.time_s - s > self.max_gap_s]:
            ended += self._end_track(track)
        for track, scores in zip(keyframe.track.tolist(), keyframe.scores, strict=True):
            self._seen_s[track] = keyframe.time_s
            runs = self._runs.setdefault(track, {})
            reached, stays = self._above(track, scores)
            for column in [column for column in runs if not stays[column]]:
                ended += self._end(track, column)
            for column in np.flatnonzero(stays).tolist():
                run = runs.setdefault(column, _Run(keyframe.time_s, 0.0, 0.0, False))
                run.last_s = keyframe.time_s
                run.peak = max(run.peak, float(scores[column]))
                run.real = run.real or bool(reached[column])
        return sorted(ended, key=_order)

    def _above(
        self, track: int, scores: NDArray[np.floating]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which classes of a person reach the upper threshold, and which go on."""
        among = np.ones(len(scores), bool)
        if self.top_k is not None:
            among[np.argsort(-scores, kind="stable")[self.top_k :]] = False
        reached, stays = among & (scores >= self.on), among & (scores >= self.off)
        if self.exclusive:
            going_on = np.zeros(len(scores), bool)
            going_on[list(self.active(track))] = True
            stays = one_of_each_group(scores, stays, reached | (stays & going_on), self.exclusive)
        return reached, stays

    def active(self, track: int) -> set[int]:
        """Return the columns of a track's current events."""
        return {column for column, run in self._runs.get(track, {}).items() if run.real}

    def finish(self) -> list[ActionEvent]:
        """Return the events that were still going on at the end."""
        ended = [event for track in list(self._seen_s) for event in self._end_track(track)]
        return sorted(ended, key=_order)

    def _end_track(self, track: int) -> list[ActionEvent]:
        del self._seen_s[track]
        ended = [event for column in [*self._runs[track]] for event in self._end(track, column)]
        del self._runs[track]
        return ended

    def _end(self, track: int, column: int) -> list[ActionEvent]:
        run = self._runs[track].pop(column)
        if not run.real:
            return []
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
