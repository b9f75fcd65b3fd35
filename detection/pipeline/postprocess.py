"""Postprocessing: from people and scores over time to tracks, smoothed labels and events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from detection.pipeline.clip_buffer import FrameDetections
from detection.pipeline.options import PipelineOptions
from detection.structures import LabelMap
from detection.tracking.events import ActionEvent, EventFinder, TrackedKeyframe
from detection.tracking.scoring import TrackScorer

if TYPE_CHECKING:
    from detection.pipeline.networks import Networks


@dataclass(frozen=True)
class ShownKeyframe:
    """A final keyframe.

    keyframe: its people, with the networks' scores of them and of what they do.
    doing: for each of its people the class columns of current events.
    times_person_score: whether events are decided by scores multiplied by the confidence in each
    person.
    """

    keyframe: TrackedKeyframe
    doing: tuple[frozenset[int], ...]
    times_person_score: bool = False

    @property
    def compared(self) -> TrackedKeyframe:
        """The keyframe with the scores that are compared with thresholds."""
        if not self.times_person_score:
            return self.keyframe
        scores = self.keyframe.scores * self.keyframe.person_score[:, None]
        return replace(self.keyframe, scores=scores)


@dataclass(frozen=True)
class Postprocessed:
    """Final keyframes, and the events that ended with them."""

    keyframes: list[ShownKeyframe]
    events: list[ActionEvent]


class Postprocessor:
    """Computes tracks, scores along them and events of one video, in order of time."""

    def __init__(self, video_id: str, networks: Networks, options: PipelineOptions) -> None:
        label_map: LabelMap = networks.label_map
        self._classes = len(label_map)
        self._weighted = networks.times_person_score
        self._tracker = networks.new_tracker(options.max_gap_s)
        how = options.track_scoring
        self._scorer = None if how is None else TrackScorer(how, max_gap_s=how.max_gap_s)
        self._finder = EventFinder(
            video_id,
            label_map.names,
            label_map.ids,
            on=networks.thresholds,
            off=networks.thresholds * options.goes_on,
            interval_s=options.keyframe_interval_s,
            max_gap_s=max(options.max_gap_s, 1.5 * options.keyframe_interval_s),
            top_k=options.top_k,
            exclusive=tuple(label_map.exclusive.values()),
        )

    def feed(self, detections: FrameDetections) -> Postprocessed:
        """Add the people of the next point in time."""
        track = self._tracker.update(detections.time_s, detections.boxes)
        if detections.action_scores is None:
            return Postprocessed([], [])
        known = np.flatnonzero(track > 0)
        scores = detections.action_scores.reshape(-1, self._classes)[known]
        keyframe = TrackedKeyframe(
            detections.time_s,
            track[known],
            detections.boxes.xyxy_01[known],
            detections.boxes.score[known],
            scores,
        )
        return self._read([keyframe] if self._scorer is None else self._scorer.feed(keyframe))

    def finish(self) -> Postprocessed:
        """Return the remaining keyframes and events."""
        result = self._read(() if self._scorer is None else self._scorer.finish())
        return Postprocessed(result.keyframes, result.events + self._finder.finish())

    def _read(self, keyframes: Iterable[TrackedKeyframe]) -> Postprocessed:
        final, events = [], []
        for keyframe in keyframes:
            shown = ShownKeyframe(keyframe, (), self._weighted)
            events += self._finder.feed(shown.compared)
            doing = tuple(frozenset(self._finder.active(t)) for t in keyframe.track.tolist())
            final.append(replace(shown, doing=doing))
        return Postprocessed(final, events)
