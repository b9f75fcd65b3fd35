"""Postprocessing: from people and scores over time to tracks, smoothed labels and events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detection.pipeline.networks import FrameDetections, Networks
from detection.pipeline.options import PipelineOptions
from detection.structures import LabelMap
from detection.tracking.events import ActionEvent, EventFinder, ScoreSmoother, TrackedKeyframe


@dataclass(frozen=True)
class ShownKeyframe:
    """A final keyframe.

    keyframe: its people, with the network's scores.
    doing: for each of its people the class columns of current events.
    weighted: (N, A) the scores multiplied by the confidence in each person; None where events are
    decided by the network's own.
    """

    keyframe: TrackedKeyframe
    doing: tuple[frozenset[int], ...]
    weighted: NDArray[np.float32] | None = None

    @property
    def compared(self) -> TrackedKeyframe:
        """The keyframe with the scores that are compared with thresholds."""
        if self.weighted is None:
            return self.keyframe
        return replace(self.keyframe, scores=self.weighted)


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
        self._weighted = networks.times_person_score
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
        scores = detections.action_scores.reshape(-1, self._classes)[known]
        person_score = detections.boxes.score[known]
        if self._weighted:  # smoothed alike, beside the network's own
            scores = np.concatenate([scores, scores * person_score[:, None]], axis=1)
        keyframe = TrackedKeyframe(
            detections.time_s,
            track[known],
            detections.boxes.xyxy_01[known],
            person_score,
            scores,
        )
        return self._read(self._smoother.feed(keyframe))

    def finish(self) -> Postprocessed:
        """Return the remaining keyframes and events."""
        result = self._read(self._smoother.finish())
        return Postprocessed(result.keyframes, result.events + self._finder.finish())

    def _read(self, keyframes: Iterator[TrackedKeyframe]) -> Postprocessed:
        final, events = [], []
        for smoothed in keyframes:
            keyframe, weighted = smoothed, None
            if self._weighted:
                own, weighted = np.split(smoothed.scores, 2, axis=1)
                keyframe = replace(smoothed, scores=own)
            shown = ShownKeyframe(keyframe, (), weighted)
            events += self._finder.feed(shown.compared)
            doing = tuple(frozenset(self._finder.active(t)) for t in keyframe.track.tolist())
            final.append(replace(shown, doing=doing))
        return Postprocessed(final, events)
