"""Spans of a long video: the networks' work on one does not depend on the others.

Boxes, features and scores at keyframes are computed span by span, in any order and anywhere; what
links them over time (tracks, averaged scores, events) is done once, over all of them in order. A
span begins and ends between groups of keyframes, so that the batches are those of a run over the
whole video, and its first and last clips read frames across the cut.

What an action network that follows people sees of a person depends on the tracks before. People
are then detected in all spans first; the tracks of all that was detected up to a span, made anew
in little time, are those of one run, and with them the networks' work on that span.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from detection.errors import UserError
from detection.pipeline.clip_buffer import FrameDetections, Group, PipelineSampling
from detection.pipeline.options import Plan
from detection.pipeline.segments import read_segment
from detection.structures import ActorBoxes
from detection.video.stream import Gap


class NotInSpansError(UserError):
    """A video that is to be computed from its beginning on."""


@dataclass(frozen=True)
class VideoSpan:
    """Groups of keyframes `first_group` to before `end_group` (None: to the end of the video)."""

    first_group: int = 0
    end_group: int | None = None

    def end_s(self, sampling: PipelineSampling) -> float:
        """Return the time from which on detection frames belong to later spans."""
        if self.end_group is None:
            return math.inf
        last_keyframe = self.end_group * sampling.group_size - 1
        return sampling.time_s(last_keyframe * sampling.per_keyframe + 1)

    def start_s(self, sampling: PipelineSampling) -> float:
        """Return the time from which on detection frames belong to this span."""
        if self.first_group == 0:
            return -math.inf
        return VideoSpan(0, self.first_group).end_s(sampling)

    def ends_before(self, group: int) -> bool:
        """Whether a group belongs to later spans."""
        return self.end_group is not None and group >= self.end_group

    @property
    def name(self) -> str:
        """Return a name for its file; names of one video's spans sort in order of time."""
        end = "end" if self.end_group is None else f"{self.end_group:08d}"
        return f"{self.first_group:08d}-{end}"


WHOLE = VideoSpan()


@dataclass(frozen=True)
class SpanPlan:
    """How a video is cut.

    spans: in order; together all of it.
    key: a digest of the video's content, the networks and the options: what was computed under
    another is of something else.
    length_s: of the video; None: unknown.
    people_first: whether the people of all spans are to be detected before any is scored.
    """

    spans: tuple[VideoSpan, ...]
    key: str
    length_s: float | None
    people_first: bool = False


def plan_spans(plan: Plan, *, duration_s: float, span_s: float) -> list[VideoSpan]:
    """Cut what is planned of a video into spans of about `span_s`, whole segments each.

    What is left at the end is a span of its own unless it is shorter than a segment.
    duration_s: of the video: its end on its own clock.  span_s: inf cuts none.
    """
    if math.isinf(span_s):
        return [WHOLE]
    per_span = max(1, round(span_s / plan.segment_s)) * plan.groups_per_segment
    group_s = plan.sampling.group_size * plan.sampling.interval_s
    first = max(0, math.floor(plan.start_s / group_s)) // per_span
    last = math.floor(min(plan.end_s, duration_s) / group_s) // per_span
    cuts = [number * per_span for number in range(first + 1, last + 1)]
    if cuts and min(plan.end_s, duration_s) - cuts[-1] * group_s < plan.segment_s:
        cuts.pop()  # the rest is not worth a span
    edges: list[int | None] = [0, *cuts, None]
    return [VideoSpan(begin or 0, end) for begin, end in zip(edges[:-1], edges[1:], strict=True)]


def read_spans(
    paths: Sequence[Path], sampling: PipelineSampling, *, first_group: int
) -> Iterator[Gap | tuple[int, list[FrameDetections]]]:
    """Yield the gaps and the groups (number, detections) of computed spans, in order of time.

    first_group: earlier groups, and gaps before them, are left out.
    """
    from_s = VideoSpan(first_group).start_s(sampling)
    for path in paths:
        segment = read_segment(path, advice="remove it; the same command makes it again")
        gaps = [gap for gap in segment.gaps if gap.start_s >= from_s]
        for number, frames in groupby(segment.frames, lambda frame: _group_of(frame, sampling)):
            if number < first_group:
                continue
            group = list(frames)
            while gaps and gaps[0].start_s < group[-1].time_s:
                yield gaps.pop(0)
            yield number, group
        yield from gaps


class KnownPeople:
    """The people of a video, as they were detected span by span; taken in order of time.

    paths: files of all spans, in order.  video: its name, for errors.
    """

    def __init__(self, paths: Sequence[Path], sampling: PipelineSampling, *, video: str) -> None:
        read = read_spans(paths, sampling, first_group=0)
        self._groups = (item for item in read if not isinstance(item, Gap))
        self._next = next(self._groups, None)
        self._video = video

    def before(self, first_group: int) -> Iterator[FrameDetections]:
        """Yield the detection frames of all groups before one."""
        while self._next is not None and self._next[0] < first_group:
            yield from self._next[1]
            self._next = next(self._groups, None)

    def of(self, group: Group) -> list[ActorBoxes]:
        """Return the people of each frame of the next group.

        Raises `UserError` where the files are of other frames: of another video, say.
        """
        if not (required := [frame.index for frame in group.frames]):
            return []  # all were inside a gap
        frames = [] if self._next is None or self._next[0] != group.number else self._next[1]
        if (found := [frame.index for frame in frames]) != required:
            raise UserError(
                f"{self._video}: people at detection frames {required} are required, its spans' "
                f"files have {found or 'none of them'}: it has changed, or they are of another "
                "video"
            )
        self._next = next(self._groups, None)
        return [frame.boxes for frame in frames]


def _group_of(frame: FrameDetections, sampling: PipelineSampling) -> int:
    """Return the group of a detection frame: that of the keyframe that it leads to."""
    return -(-frame.index // sampling.per_keyframe) // sampling.group_size
