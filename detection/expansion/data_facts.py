"""Limits of a search that follow from its data."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any

from detection import build
from detection.config import RunConfig
from detection.datasets.folder import DatasetFolder
from detection.datasets.open_video import FrameSource, open_video
from detection.expansion.axes import DataLimits
from detection.expansion.config import LimitsConfig
from detection.structures import LabelMap
from detection.video.reader import VideoReader

_AT_MOST = 50  # videos that are opened, evenly spread over the training list


def data_limits(config: RunConfig, label_map: LabelMap, given: LimitsConfig) -> DataLimits:
    """Return the given limits; missing ones are medians over the training videos.

    Frames past the end of a video repeat the last one, so a clip longer than most videos would only
    cost more.
    """
    values = {name: value for name, value in asdict(given).items() if value is not None}
    if len(values) < len(fields(DataLimits)):
        return replace(_measure(config, label_map), **values)
    return DataLimits(**values)


def _measure(config: RunConfig, label_map: LabelMap) -> DataLimits:
    seconds, rates, sides = [], [], []
    for opened in _videos(config, label_map):
        with opened() as video:
            times_s = video.frame_times_s()
            intervals = max(1, len(times_s) - 1)
            span_s = float(times_s[-1] - times_s[0])
            seconds.append(span_s)
            if span_s > 0:
                rates.append(intervals / span_s)
            sides.append(min(video.frame_size()))
    return DataLimits(
        longest_clip_s=statistics.median(seconds),
        fastest_fps=statistics.median(rates) if rates else 0.0,
        largest_side_px=statistics.median(sides),
    )


def _videos(config: RunConfig, label_map: LabelMap) -> Sequence[Callable[[], FrameSource]]:
    if config.task == "classification":
        clips = build.read_clips(config, config.data.train_split, label_map)
        return [partial(VideoReader, path) for path in _spread(clips.paths)]
    folder = DatasetFolder.open(config.data.root, how_to_get=config.data.how_to_get)
    keyframes = build.read_train_table(config, folder, label_map).keyframes()
    names = list(dict.fromkeys(keyframe.video_id for keyframe in keyframes))
    return [partial(open_video, folder, name) for name in _spread(names)]


def _spread(values: Sequence[Any]) -> list[Any]:
    """Return at most `_AT_MOST` values, evenly spaced."""
    count = min(len(values), _AT_MOST)
    return [values[index * len(values) // count] for index in range(count)]
