"""The headers of a data set's videos, against the times of rows and boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from detection.checks.findings import OUTSIDE, Finding, Findings
from detection.checks.videos import about_cut
from detection.datasets.ava_csv import AvaRows
from detection.datasets.folder import DatasetFolder
from detection.datasets.open_video import keyframe_outside, open_video
from detection.prepare.required_spans import RequiredVideo, required_videos
from detection.structures import Keyframe

_SLACK_S = 0.05  # a header states the end only roughly


def check_headers(
    folder: DatasetFolder,
    rows: Mapping[str, AvaRows],
    findings: Findings,
    *,
    splits: Sequence[str],
    clip_span_s: float,
    on_progress: Callable[[int, int], object],
) -> list[str]:
    """Open every video of the rows (by split) and box files; return those that can be read.

    Is it there, readable, long enough for its keyframes, and cut for clips of `clip_span_s`?
    """
    told = {one.path: one for one in rows.values()}
    # What is wrong with a split's files was found where they were read first.
    found = required_videos(folder, splits, on_error=lambda split, error: None)
    required = {video.video_id: video for video in found}
    names = sorted({*required, *(name for one in rows.values() for name in one.video_names)})
    spans: dict[str, tuple[float, float]] = {}
    for done, name in enumerate(names, start=1):
        needs = required.get(name, RequiredVideo(name))
        with findings.catching("video"), open_video(folder, name) as video:
            video.frame_size()
            start_s, end_s = spans[name] = video.span_s()
            for table in needs.tables:
                ends = [table.row(0), table.row(-1)][: len(table.times_s)]
                outside = keyframe_outside(video, name, [end.time_s for end in ends])
                if outside is None:
                    continue
                time_s, line = ends[outside[0]].time_s, int(table.line[-outside[0]])
                inside = start_s - _SLACK_S <= time_s <= end_s + _SLACK_S
                if inside or table.path not in told:  # else each row is told below
                    place = table.path, line or None
                    key = Keyframe(name, time_s)
                    findings.add(Finding(OUTSIDE, "error", *place, outside[1], key))
            if clip_span_s and needs.tables:
                findings.extend(about_cut(folder, needs, clip_span_s))
        on_progress(done, len(names))
    for one in rows.values():
        _check_times(one, spans, findings)
    return [name for name in names if name in spans]


def _check_times(
    rows: AvaRows, spans: Mapping[str, tuple[float, float]], findings: Findings
) -> None:
    """Find rows whose time lies outside their video."""
    anywhere = (-math.inf, math.inf)
    span_s = np.array([spans.get(name, anywhere) for name in rows.video_names]).reshape(-1, 2)
    start_s, end_s = span_s[rows.video_index].T
    time_s = rows.time_us / 1e6

    def message(row: int) -> str:
        name = rows.video_names[rows.video_index[row]]
        first, last = spans[name]
        return f"time {time_s[row]:g} s, video '{name}' shows {first:.3f} to {last:.3f} s"

    outside = (time_s < start_s - _SLACK_S) | (time_s > end_s + _SLACK_S)
    findings.add_rows(OUTSIDE, "error", rows, outside, message)
