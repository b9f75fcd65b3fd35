"""Postprocessing: from people and scores over time to tracks, smoothed labels and events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detection.pipeline.networks import FrameDetections, Networks
from detection.pipeline.options import PipelineOptions
from detection.structures import LabelMap
from detection.tracking.events import ActionEvent, EventFinder, ScoreSmoother, TrackedKeyframe


@dataclass(frozen=True)
class ShownKeyframe:
    """A final keyframe.

    doing: for each of its people the class columns of current events.
    """

    keyframe: TrackedKeyframe
    doing: tuple[frozenset[int], ...]


@dataclass(frozen=True)
class Postprocessed:
    """Final keyframes, and the events that ended with them."""

    keyframes: list[ShownKeyframe]
    events: list[ActionEvent]


class Postprocessor:
    """Computes tracks, smoothed scores and events of one video, in order of time."""

    def __init__(self, video_id: str, networks: Networks, options: PipelineOptions) -> None:
        label_map: LabelMap = networks.label_map
        self._classes = len(label_map)
        self._tracker = networks.new_tracker(options.max_gap_s)
        self._smoother = ScoreSmoother(options.smoothing_s)
        smooth = options.smoothing_s > 0
        self._finder = EventFinder(
            video_id,
            label_map.names,
            label_map.ids,
            on=networks.thresholds,
            off=networks.thresholds * (options.off_share if smooth else 1.0),
            interval_s=options.keyframe_interval_s,
            max_gap_s=max(options.max_gap_s, 1.5 * options.keyframe_interval_s),
            top_k=options.top_k,
        )

    def feed(self, detections: FrameDetections) -> Postprocessed:
        """Add the people of the next point in time."""
        track = self._tracker.update(detections.time_s, detections.boxes)
        if detections.action_scores is None:
            return Postprocessed([], [])
        known = np.flatnonzero(track > 0)
        keyframe = TrackedKeyframe(
            detections.time_s,
            track[known],
            detections.boxes.xyxy_01[known],
            detections.boxes.score[known],
            detections.action_scores.reshape(-1, self._classes)[known],
        )
        return self._read(self._smoother.feed(keyframe))

    def finish(self) -> Postprocessed:
        """Return the remaining keyframes and events."""
        result = self._read(self._smoother.finish())
        return Postprocessed(result.keyframes, result.events + self._finder.finish())

    def _read(self, keyframes: Iterator[TrackedKeyframe]) -> Postprocessed:
        final, events = [], []
        for keyframe in keyframes:
            events += self._finder.feed(keyframe)
            doing = tuple(frozenset(self._finder.active(t)) for t in keyframe.track.tolist())
            final.append(ShownKeyframe(keyframe, doing))
        return Postprocessed(final, events)
