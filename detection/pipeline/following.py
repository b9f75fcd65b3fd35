"""Follows people over the clips of keyframes, for networks that take their box in each frame.

A keyframe waits until people have been detected up to the end of its clip: then each person's box
is known, or interpolated along the track, in every frame of it.

Legend: N people of a keyframe, T frames of its clip.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.pipeline.clip_buffer import SAME_TIME_S, DetectionFrame, Group, PipelineSampling
from detection.structures import ActorBoxes
from detection.tracking.paths import boxes_along
from detection.tracking.tracker import Tracker
from detection.video.stream import Gap


class PersonPaths:
    """Where tracked people are at any time.

    tracker: gives boxes their track numbers.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._times_s: dict[int, list[float]] = {}
        self._boxes_01: dict[int, list[NDArray[np.float32]]] = {}

    def add(self, time_s: float, boxes: ActorBoxes) -> NDArray[np.int64]:
        """Add the people detected at a time; returns their (N,) track numbers, -1: no track."""
        numbers = self._tracker.update(time_s, boxes)
        for number, box in zip(numbers.tolist(), boxes.xyxy_01, strict=True):
            if number > 0:
                self._times_s.setdefault(number, []).append(time_s)
                self._boxes_01.setdefault(number, []).append(box)
        return numbers

    def boxes_at(self, number: int, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a track's (T, 4) boxes, see `boxes_along`."""
        return boxes_along(
            times_s, np.array(self._times_s[number]), np.stack(self._boxes_01[number])
        )

    def forget_before(self, time_s: float) -> None:
        """Forget what no clip from `time_s` on needs; of each track the box before it stays."""
        for number in list(self._times_s):
            first = max(0, bisect.bisect_right(self._times_s[number], time_s) - 1)
            del self._times_s[number][:first], self._boxes_01[number][:first]
            ended_s = self._tracker.now_s - self._tracker.max_gap_s - SAME_TIME_S
            if self._times_s[number][-1] < min(time_s, ended_s):
                del self._times_s[number], self._boxes_01[number]


@dataclass(frozen=True)
class FollowedFrame:
    """A detection frame with its people.

    track: (N,) numbers; -1: no track.
    paths_01: of the M people with a track, (M, T, 4) over the keyframe's clip; None where it is no
    keyframe.
    """

    frame: DetectionFrame
    boxes: ActorBoxes
    track: NDArray[np.int64]
    paths_01: NDArray[np.float64] | None


@dataclass(frozen=True)
class _Waiting:
    group: Group
    boxes: Sequence[ActorBoxes]
    tracks: list[NDArray[np.int64]]
    start_s: float
    end_s: float


class PeopleFollower:
    """Takes groups with their people in order, gives them back in order once they were followed.

    look_ahead: wait for detections up to the end of each clip; otherwise (live sources) people
    stand still after the newest one.
    """

    def __init__(
        self, tracker: Tracker, sampling: PipelineSampling, *, look_ahead: bool = True
    ) -> None:
        self._paths = PersonPaths(tracker)
        self._sampling = sampling
        self._spacing_s = sampling.interval_s / sampling.per_keyframe
        self._look_ahead = look_ahead
        self._waiting: deque[_Waiting] = deque()
        self._seen_s = -math.inf
        self._gaps: list[Gap] = []

    @property
    def next_group(self) -> int | None:
        """The number of the group that is given back next; None: none waits."""
        return self._waiting[0].group.number if self._waiting else None

    def replay(self, time_s: float, boxes: ActorBoxes) -> None:
        """Take the people of a detection frame whose scores are known already, or not required."""
        self._paths.add(time_s, boxes)
        self._seen_s = time_s
        self._paths.forget_before(self._sampling.earliest_s(time_s))  # of the clips to come

    def skip(self, gap: Gap) -> None:
        """Take a stretch without frames: nothing is to be waited for inside it."""
        self._gaps = [*(g for g in self._gaps if g.end_s > self._seen_s), gap]

    def add(self, group: Group, boxes: Sequence[ActorBoxes]) -> None:
        """Take the next group, and the people of each of its frames."""
        tracks = []
        start_s, end_s = math.inf, -math.inf
        for frame, people in zip(group.frames, boxes, strict=True):
            tracks.append(self._paths.add(frame.time_s, people))
            self._seen_s = frame.time_s
            if frame.clip is not None:
                times_s = self._clip_times_s(frame)
                start_s, end_s = min(start_s, times_s[0]), max(end_s, times_s[-1])
        self._waiting.append(_Waiting(group, boxes, tracks, start_s, end_s))

    def ready(self, *, at_end: bool = False) -> Iterator[tuple[Group, list[FollowedFrame]]]:
        """Yield the groups whose clips are covered, in order. at_end: all that wait."""
        while self._waiting:
            first = self._waiting[0]
            if self._look_ahead and not at_end and not self._is_covered(first.end_s):
                return
            self._waiting.popleft()
            if math.isfinite(first.start_s):
                self._paths.forget_before(first.start_s)
            yield (
                first.group,
                [
                    self._followed(frame, people, track)
                    for frame, people, track in zip(
                        first.group.frames, first.boxes, first.tracks, strict=True
                    )
                ],
            )

    def _is_covered(self, time_s: float) -> bool:
        """Whether no detection up to a time, and none that is nearest after it, is to come."""
        until_s = self._seen_s
        for gap in self._gaps:
            if gap.start_s < until_s + self._spacing_s + SAME_TIME_S:
                until_s = max(until_s, gap.end_s)
        return time_s <= until_s + SAME_TIME_S

    def _clip_times_s(self, frame: DetectionFrame) -> NDArray[np.float64]:
        sampling = self._sampling
        return sampling.clip.times_s(frame.time_s, within_s=sampling.within_s)

    def _followed(
        self, frame: DetectionFrame, boxes: ActorBoxes, track: NDArray[np.int64]
    ) -> FollowedFrame:
        if frame.clip is None:
            return FollowedFrame(frame, boxes, track, None)
        times_s = self._clip_times_s(frame)
        paths = [self._paths.boxes_at(number, times_s) for number in track[track > 0].tolist()]
        paths_01 = np.stack(paths) if paths else np.zeros((0, len(times_s), 4))
        return FollowedFrame(frame, boxes, track, paths_01)
