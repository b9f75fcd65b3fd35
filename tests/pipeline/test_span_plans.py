"""Where a long video is cut, and what is read of its spans: in numbers, without networks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detection.pipeline.clip_buffer import FrameDetections, PipelineSampling
from detection.pipeline.options import Plan
from detection.pipeline.segments import Segment, write_segment
from detection.pipeline.spans import WHOLE, VideoSpan, plan_spans, read_spans
from detection.structures import ActorBoxes, ClipSampling
from detection.video.stream import Gap


def sampling(per_keyframe=1):
    """Groups of 6 keyframes, 3 s."""
    return PipelineSampling(ClipSampling(4, 6, "repeat"), 64, 64, 0.5, per_keyframe, 6)


def cuts(duration_s, span_s, start_s=0.0, end_s=math.inf):
    """Return the groups at which a video is cut; segments are of 2 groups, 6 s."""
    plan = Plan("v", sampling(), 9.0, 2, 1, start_s, end_s, film=False, page=False)
    spans = plan_spans(plan, duration_s=duration_s, span_s=span_s)
    assert spans[0].first_group == 0 and spans[-1].end_group is None
    assert [one.end_group for one in spans[:-1]] == [one.first_group for one in spans[1:]]
    return [one.first_group for one in spans[1:]]


@pytest.mark.parametrize(
    ("duration_s", "span_s", "found"),
    [
        (0.0, 6, []),
        (5.9, 6, []),
        (6.0, 6, []),
        (6.1, 6, []),  # longer by a hair
        (11.9, 6, []),
        (12.0, 6, [2]),
        (12.1, 6, [2]),
        (17.9, 6, [2]),
        (18.0, 6, [2, 4]),  # three spans exactly
        (18.1, 6, [2, 4]),
        (17.9, 12, []),
        (18.0, 12, [4]),  # what is left is a segment
        (30.0, 12, [4, 8]),
        (30.0, 1, [2, 4, 6, 8]),  # a segment at least
        (30.0, 8.9, [2, 4, 6, 8]),
        (30.0, 9.1, [4, 8]),
        (30.0, 1e300, []),
        (30.0, math.inf, []),
    ],
)
def test_where_a_video_is_cut(duration_s, span_s, found):
    assert cuts(duration_s, span_s) == found


def test_a_part_of_a_video_is_cut_where_the_whole_is():
    assert cuts(33.0, 6) == [2, 4, 6, 8]
    assert cuts(33.0, 6, start_s=11.9) == [4, 6, 8]
    assert cuts(33.0, 6, start_s=12.0) == [6, 8]
    assert cuts(33.0, 6, end_s=24.0) == [2, 4, 6]
    assert cuts(33.0, 6, end_s=23.9) == [2, 4]
    assert cuts(33.0, 6, start_s=12.0, end_s=23.0) == []
    assert cuts(1033.0, 6, start_s=1000.0) == [334, 336, 338, 340, 342]


@pytest.mark.parametrize("per_keyframe", [1, 3])
def test_frames_at_a_cut_belong_to_one_span(per_keyframe):
    """The last frame before a cut is its last keyframe; those after it lead to the next one."""
    how = sampling(per_keyframe)
    first, second, last = VideoSpan(0, 2), VideoSpan(2, 4), VideoSpan(4, None)
    assert (first.start_s(how), last.end_s(how)) == (-math.inf, math.inf)
    assert first.end_s(how) == second.start_s(how) == pytest.approx(5.5 + 0.5 / per_keyframe)
    assert second.end_s(how) == last.start_s(how)
    assert WHOLE.start_s(how) == -math.inf and WHOLE.end_s(how) == math.inf


def frame(index, per_keyframe=1):
    boxes = ActorBoxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    scores = None if index % per_keyframe else np.zeros((0, 3), np.float32)
    return FrameDetections(index, sampling(per_keyframe).time_s(index), boxes, scores)


def read(tmp_path, segments, first_group=0, per_keyframe=1):
    """Return what is read of files: a gap as its start, a group as (number, indices)."""
    paths = [tmp_path / f"{number}.npz" for number in range(len(segments))]
    for path, segment in zip(paths, segments, strict=True):
        write_segment(path, segment)
    items = read_spans(paths, sampling(per_keyframe), first_group=first_group)
    return [
        item.start_s if isinstance(item, Gap) else (item[0], [each.index for each in item[1]])
        for item in items
    ]


def gaps(*starts_s):
    return [Gap(start_s, start_s + 0.1, "damaged") for start_s in starts_s]


def test_groups_and_gaps_come_in_order_of_time(tmp_path):
    first = Segment([frame(i) for i in range(12)], gaps(2.5, 2.7, 5.5))
    second = Segment([frame(i) for i in range(12, 20)], gaps(5.9, 9.0, 9.6))
    g = [(0, [*range(6)]), (1, [*range(6, 12)]), (2, [*range(12, 18)]), (3, [18, 19])]
    # One that begins with a group's last frame comes after the group.
    assert read(tmp_path, [first, second]) == [g[0], 2.5, 2.7, g[1], 5.5, 5.9, g[2], 9.0, g[3], 9.6]
    assert read(tmp_path, [first, second], first_group=1) == [
        *[g[1], 5.5, 5.9, g[2], 9.0, g[3], 9.6]
    ]
    assert read(tmp_path, [first, second], first_group=3) == [9.0, g[3], 9.6]
    assert read(tmp_path, [first, second], first_group=4) == []


def test_frames_between_keyframes_are_of_the_group_that_they_lead_to(tmp_path):
    both = Segment([frame(i, 3) for i in range(14, 20)])
    assert read(tmp_path, [both], per_keyframe=3) == [(0, [14, 15]), (1, [16, 17, 18, 19])]
    assert read(tmp_path, [Segment(), Segment([], gaps(3.0))]) == [3.0]
