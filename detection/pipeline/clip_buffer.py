"""Frames as they come become clips around keyframes; few are kept, and none for long.

Legend: T frames of a clip, H W pixels at the networks' sizes. Keyframe k is at k * interval_s on
the video's clock; people are detected in detection frames, `per_keyframe` in each
interval, the last of which is the keyframe itself.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.structures import ActorBoxes, ClipSampling
from detection.video.stream import Gap, StreamFrame

# As in detection.video.reader: anything closer is the same time.
SAME_TIME_S = 2e-6
# Frames further apart are no still that is shown for long but a gap: a clock that jumped, a
# recording that paused. Nothing is judged inside it.
LONGEST_STILL_S = 10.0

Rgb = NDArray[np.uint8]
# What is kept of a detection frame: all, or what one of the two networks is shown.
Gathers = Literal["all", "people", "clips"]


@dataclass(frozen=True)
class PipelineSampling:
    """Which frames of a video the networks require.

    clip: of each keyframe.
    short_side_px: of clips.
    enlarge: whether the clips of smaller videos are scaled up to it.
    people_short_side_px: of whole frames for the people detector.
    interval_s: from keyframe to keyframe.
    per_keyframe: how often people are looked for in a keyframe interval.
    group_size: keyframes that go through the networks together.
    within_s: times of the video's first and last frame, where clips are kept inside it; None: edge
    frames repeat.
    """

    clip: ClipSampling
    short_side_px: int
    people_short_side_px: int
    interval_s: float
    per_keyframe: int
    group_size: int
    within_s: tuple[float, float] | None = None
    enlarge: bool = True

    def earliest_s(self, time_s: float) -> float:
        """Return the time of the first frame of the keyframe's clip, or of a later one's."""
        if self.clip.stream:
            return float(self.clip.times_s(time_s, within_s=self.within_s)[0])
        start_s = time_s - self.clip.before_s
        if self.within_s is None:
            return start_s
        first_s, last_s = self.within_s
        return max(first_s, min(start_s, last_s - self.clip.span_s))

    def time_s(self, index: int) -> float:
        """Return the time of a detection frame; rounded, so that files of one video agree."""
        return round(index * self.interval_s / self.per_keyframe, 6)


@dataclass
class DetectionFrame:
    """A frame in which people are detected.

    index: detection frames are numbered from 0 s of the clock on.
    time_s: its time.
    rgb: (H, W, 3) for the people detector; None: not there yet, or not gathered.
    clip: T frames (H, W, 3) for the action network, empty where clips are not gathered; None where
    it is no keyframe.
    weights: (T,) of them where they are two passes of a stream; else None.
    arrived_s: when the frame came, on this machine's monotonic clock.
    missing: how many frames are still to come.
    """

    index: int
    time_s: float
    rgb: Rgb | None = None
    clip: list[Rgb | None] | None = None
    weights: NDArray[np.float32] | None = None
    arrived_s: float = 0.0
    missing: int = 0


@dataclass(frozen=True)
class FrameDetections:
    """The people in a detection frame.

    index: its number.
    time_s: its time.
    boxes: N people.
    action_scores: (N, A) float32; None where it is no keyframe.
    arrived_s: when the frame came, on this machine's monotonic clock.
    """

    index: int
    time_s: float
    boxes: ActorBoxes
    action_scores: NDArray[np.float32] | None
    arrived_s: float = 0.0


@dataclass
class Group:
    """Keyframes that go through the networks together, and the detection frames before them."""

    number: int
    frames: list[DetectionFrame] = field(default_factory=list)


def with_gaps(items: Iterator[StreamFrame | Gap]) -> Iterator[StreamFrame | Gap]:
    """Yield the items of a walk, and a gap between frames that are too far apart to be a still."""
    last_s = math.inf
    for item in items:
        if isinstance(item, Gap):
            last_s = math.inf
        else:
            if item.time_s - last_s > LONGEST_STILL_S:
                yield Gap(last_s, item.time_s, "no frames: the clock jumps or nothing was filmed")
            last_s = item.time_s
        yield item


class FrameWindow:
    """Holds frames to a stretch of time: the reader blocks until the networks catch up.

    length_s: from the first frame of the oldest clip under way to the newest frame.
    """

    def __init__(self, length_s: float) -> None:
        self.length_s = length_s
        self._starts: dict[int, float] = {}
        self._changed = threading.Condition()
        self._closed = False

    def begin(self, group: int, start_s: float) -> None:
        """Note a group whose first frame is required at `start_s`."""
        with self._changed:
            self._starts.setdefault(group, start_s)

    def finish(self, group: int) -> None:
        """Note that a group's frames are let go."""
        with self._changed:
            self._starts.pop(group, None)
            self._changed.notify_all()

    def wait_for(self, time_s: float) -> bool:
        """Return when a frame required at `time_s` may be kept; False once closed."""
        with self._changed:
            while not self._closed and not self.has_room(time_s):
                self._changed.wait()
            return not self._closed

    def has_room(self, time_s: float) -> bool:
        """Say whether a frame required at `time_s` may be kept now."""
        oldest = min(self._starts.values(), default=time_s)
        return time_s <= oldest + self.length_s + SAME_TIME_S

    def close(self) -> None:
        """Release every waiting reader."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class ClipGatherer:
    """Takes frames in order, gives groups that have all their frames, in order.

    first_group: the group to begin with.  end_s: no keyframe from there on.  The frame nearest to
    each required time is taken (a tie goes to the earlier); before the first and after the last one
    edge frames repeat. Keyframes inside a gap are left out.  may_drop: asked when a group is
    whole; True: it is let go.  gathers: what is kept; which groups there are, and of which
    detection frames, does not depend on it.
    """

    def __init__(
        self,
        sampling: PipelineSampling,
        window: FrameWindow,
        *,
        first_group: int = 0,
        start_s: float = -math.inf,
        end_s: float = math.inf,
        may_drop: Callable[[], bool] = lambda: False,
        gathers: Gathers = "all",
    ) -> None:
        self._sampling, self._window = sampling, window
        self._gathers = gathers
        self._per_group = sampling.group_size * sampling.per_keyframe
        self._spacing_s = sampling.interval_s / sampling.per_keyframe
        if sampling.within_s is not None:  # every later clip begins before the end, for ever
            end_s = min(end_s, sampling.within_s[1] + 2 * SAME_TIME_S)
        self._start_s, self._end_s = start_s, end_s
        self._may_drop = may_drop
        self.dropped = 0
        self._before: StreamFrame | None = None
        self._size: dict[int, tuple[int, ...]] = {}
        self._made: tuple[StreamFrame | None, dict[int, Rgb]] = (None, {})
        self._required: list[tuple[float, int, int]] = []  # (time, index, slot; -1: rgb)
        self._frames: dict[int, DetectionFrame] = {}
        self._groups: dict[int, Group] = {}
        self._next_index = first_group * self._per_group - sampling.per_keyframe + 1

    def from_s(self) -> float:
        """Return the earliest time at which a frame is required."""
        return self._earliest_s(self._next_index)

    def feed(self, item: StreamFrame | Gap) -> Iterator[Group]:
        """Take a frame or a gap; yield the groups that are whole now."""
        if isinstance(item, Gap):
            self._cancel(item)
            yield from self._ready(item.end_s)
            return
        if self._before is None:
            first = math.ceil((max(item.time_s, self._start_s) - SAME_TIME_S) / self._spacing_s)
            self._next_index = max(self._next_index, first)
        self._open_frames(item.time_s)
        if self._before is not None:
            yield from self._take(self._before, (self._before.time_s + item.time_s) / 2)
        self._before = item
        yield from self._ready(item.time_s)

    def finish(self) -> Iterator[Group]:
        """No more frames: yield what is left, clips ending in repeats of the last frame."""
        if self._before is not None:
            last_s = self._before.time_s + SAME_TIME_S
            late = [m for m in self._frames.values() if m.time_s > last_s]
            self._forget({each.index for each in late})
            yield from self._take(self._before, math.inf)
        yield from self._ready(math.inf)

    def _earliest_s(self, index: int) -> float:
        """Return the earliest required time of a detection frame and of all later ones."""
        per = self._sampling.per_keyframe
        keyframe = -(-index // per) * per  # the first keyframe from here on
        clip_s = self._sampling.earliest_s(self._sampling.time_s(keyframe))
        return min(self._sampling.time_s(index), clip_s)

    def _open_frames(self, now_s: float) -> None:
        """Begin with the detection frames whose clips are passing."""
        while self._earliest_s(self._next_index) <= now_s + SAME_TIME_S:
            index = self._next_index
            each = DetectionFrame(index, self._sampling.time_s(index))
            if each.time_s >= self._end_s:
                return
            self._next_index += 1
            number = -(-index // self._sampling.per_keyframe) // self._sampling.group_size
            group = self._groups.setdefault(number, Group(number))
            if index % self._sampling.per_keyframe == 0:
                self._require_clip(each)
            heapq.heappush(self._required, (each.time_s, index, -1))
            each.missing += 1
            self._frames[index] = each
            group.frames.append(each)
            # Clips alone count: frames for people are let go of before clips are.
            keyframe = -(-index // self._sampling.per_keyframe) * self._sampling.per_keyframe
            start_s = self._sampling.earliest_s(self._sampling.time_s(keyframe))
            self._window.begin(number, start_s)

    def _require_clip(self, each: DetectionFrame) -> None:
        sampling, each.clip = self._sampling, []
        if self._gathers == "people":
            return
        each.clip = [None] * sampling.clip.frames_read
        each.missing = sampling.clip.frames_read
        each.weights = sampling.clip.weights(each.time_s, within_s=sampling.within_s)
        times_s = sampling.clip.times_s(each.time_s, within_s=sampling.within_s)
        for slot, time_s in enumerate(times_s.tolist()):
            heapq.heappush(self._required, (time_s, each.index, slot))

    def _take(self, frame: StreamFrame, until_s: float) -> Iterator[Group]:
        """Give the frame to all slots that require one until then; yield groups before waiting."""
        while self._required and self._required[0][0] <= until_s + SAME_TIME_S:
            time_s, index, slot = heapq.heappop(self._required)
            each = self._frames.get(index)
            if each is None:
                continue
            if not self._window.has_room(time_s):
                yield from self._ready(time_s)
            if not self._window.wait_for(time_s):
                return
            each.missing -= 1
            if slot < 0:
                each.arrived_s = frame.arrived_s
                if self._gathers != "clips":
                    each.rgb = self._converted(frame, self._sampling.people_short_side_px)
            else:
                assert each.clip is not None
                side_px = self._sampling.short_side_px
                if not self._sampling.enlarge:
                    side_px = min(side_px, frame.width, frame.height)
                each.clip[slot] = self._converted(frame, side_px)

    def _converted(self, frame: StreamFrame, short_side: int) -> Rgb:
        """Return the frame at a size; made once, and always of the size of the first one."""
        if self._made[0] is not frame:
            self._made = (frame, {})
        made = self._made[1]
        if short_side not in made:
            rgb = frame.rgb(short_side)
            shape = self._size.setdefault(short_side, rgb.shape)
            if rgb.shape != shape:  # a source that changes its size on the way
                rgb = np.asarray(cv2.resize(rgb, (shape[1], shape[0])), np.uint8)
            made[short_side] = rgb
        return made[short_side]

    def _ready(self, now_s: float) -> Iterator[Group]:
        """Yield groups in order whose detection frames are all there and complete."""
        self._made = (None, {})
        while self._groups:
            number = min(self._groups)
            last = (number + 1) * self._per_group - self._sampling.per_keyframe
            opened = self._next_index > last or now_s == math.inf
            at_end = self._sampling.time_s(self._next_index) >= self._end_s
            group = self._groups[number]
            if not (opened or at_end) or any(m.missing for m in group.frames):
                return
            del self._groups[number]
            for each in group.frames:
                self._frames.pop(each.index, None)
            if self._may_drop():
                self.dropped += 1
                self._window.finish(number)
                continue
            yield group

    def _cancel(self, gap: Gap) -> None:
        """Leave out the detection frames inside a gap: those that were begun, and those to come."""
        begun = (m for m in self._frames.values() if gap.start_s < m.time_s < gap.end_s)
        self._forget({each.index for each in begun})
        next_s = self._sampling.time_s(self._next_index)
        if self._before is None or gap.start_s < next_s < gap.end_s:
            after = math.ceil((gap.end_s - SAME_TIME_S) / self._spacing_s)
            self._next_index = max(self._next_index, after)

    def _forget(self, indices: set[int]) -> None:
        for index in indices:
            del self._frames[index]
        for group in self._groups.values():
            group.frames = [m for m in group.frames if m.index not in indices]
