"""Scores of people who were detected, along their tracks: averaged, and where they were missed.

A detector's confidence and a network's probabilities jump from keyframe to keyframe while the
person and what they do stay. Legend: N people of a keyframe, A action classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from detection.errors import UserError
from detection.structures import ActorBoxes, Detections, FillMisses, Keyframe
from detection.tracking.events import ScoreSmoother, TrackedKeyframe
from detection.tracking.filling import MissFiller
from detection.tracking.tracker import Tracker, link_boxes


@dataclass(frozen=True)
class TrackScoring:
    """How detections are scored along tracks, step by step.

    reach_s: the actions' scores and the person's become means over the track, with weights that
        fall from 1 at the keyframe to 0 so many seconds away; inf: the mean of the whole track.
    fill: "between": a track gets an interpolated box at each keyframe between two of its own.
        "whole-video": also at all before its first and after its last (that box again), and the
        person's score is multiplied by the square root of the share of the video's keyframes at
        which the person was seen: for short clips of one action.
    max_gap_s: a person who is not seen for longer gets a new track.
    """

    reach_s: float = np.inf
    fill: FillMisses = "none"
    max_gap_s: float = 2.0

    def __post_init__(self) -> None:
        if not self.reach_s > 0 or not self.max_gap_s >= 0:
            raise ValueError(f"seconds above 0, got a reach of {self.reach_s}, {self.max_gap_s}")
        if self.fill not in get_args(FillMisses):
            raise ValueError(f"fill must be one of {get_args(FillMisses)}, got {self.fill!r}")

    @property
    def look_ahead_s(self) -> float:
        """Return for how long after a keyframe others can change what is known of it."""
        fills_s = {"none": 0.0, "between": self.max_gap_s, "whole-video": np.inf}
        return self.reach_s + fills_s[self.fill]

    def __str__(self) -> str:
        within = "" if np.isinf(self.reach_s) else f" within {self.reach_s:g} s"
        words = f"averaged along each person's track{within}"
        filled = {
            "none": "",
            "between": ", misses between two boxes of a track filled",
            "whole-video": ", misses filled to the video's ends",
        }
        return words + filled[self.fill]


def score_along_tracks(
    found: Iterable[Detections],
    how: TrackScoring,
    *,
    keyframes: Iterable[Keyframe] = (),
    tracks: Mapping[Keyframe, NDArray[np.int64]] | None = None,
) -> list[Detections]:
    """Return the detections of whole videos with scores along tracks, by video and time.

    found: each keyframe once, in any order. Boxes are linked whatever their score: leave out those
    that are not to count before. `boxes.score` becomes the track's too; multiplying by it stays a
    step of evaluation. Boxes that are filled in follow a keyframe's own.
    keyframes: those that will be scored; where no one was found (times agree to a microsecond),
    people can be filled in.
    tracks: the (N,) track number of each box, of a video at most once a keyframe (None: boxes are
    linked here). Raises `UserError` where a track has two boxes at a keyframe.
    """
    known = list(found)
    ordered = sorted([*known, *_without_people(keyframes, known)], key=lambda one: one.keyframe)
    scored: list[Detections] = []
    for _, group in groupby(ordered, key=lambda one: one.keyframe.video_id):
        video = list(group)
        if tracks is None:
            # A track begins with any box: those that do not count were left out.
            tracker = Tracker(start_score=-np.inf, max_gap_s=how.max_gap_s)
            numbers = link_boxes([(one.keyframe.time_s, one.boxes) for one in video], tracker)
        else:
            numbers = [tracks.get(one.keyframe, np.zeros(0, np.int64)) for one in video]
            for one, of_boxes in zip(video, numbers, strict=True):
                _refuse_two_boxes(one.keyframe, of_boxes)
        scorer = TrackScorer(how)
        people = [_as_people(one, track) for one, track in zip(video, numbers, strict=True)]
        final = [*chain.from_iterable(map(scorer.feed, people)), *scorer.finish()]
        for one, new in zip(video, final, strict=True):
            boxes = ActorBoxes(new.boxes_01, new.person_score)
            scored.append(Detections(one.keyframe, boxes, new.scores))
    return scored


def _without_people(keyframes: Iterable[Keyframe], found: Sequence[Detections]) -> list[Detections]:
    """Return empty detections at those keyframes that are not among the found ones."""
    if not found:  # no track to fill, no number of classes
        return []
    there = {_to_microseconds(one.keyframe) for one in found}
    nothing = np.zeros((0, found[0].action_scores.shape[1]), np.float32)
    missing = {_to_microseconds(key): key for key in keyframes}
    return [
        Detections(key, ActorBoxes.empty(), nothing)
        for place, key in missing.items()
        if place not in there
    ]


def _to_microseconds(keyframe: Keyframe) -> tuple[str, int]:
    return keyframe.video_id, round(keyframe.time_s * 1e6)


def _refuse_two_boxes(keyframe: Keyframe, track: NDArray[np.int64]) -> None:
    numbers, counts = np.unique(track, return_counts=True)
    if (counts > 1).any():
        raise UserError(
            f"{keyframe}: track {numbers[counts > 1][0]} has {counts.max()} boxes, a track has one "
            "at a keyframe"
        )


class TrackScorer:
    """Scores a video's tracked people along their tracks, keyframe by keyframe in order of time.

    max_gap_s: longer stretches between two boxes of a track are not filled; `how.max_gap_s` where
        tracks end after it, inf where they have any gap.

    A keyframe is returned once nothing that follows can change it: `how.reach_s` later, and up to
    `max_gap_s` more while a person is missed. What is returned has scores and `person_score` of
    the track. Boxes that are filled in follow a keyframe's own, by track; `seen` says which they
    are. Those further from all others of their track than the reach are left out.
    """

    def __init__(self, how: TrackScoring, *, max_gap_s: float = np.inf) -> None:
        self._filler = MissFiller(how.fill, max_gap_s=max_gap_s)
        self._smoother = ScoreSmoother(how.reach_s)
        self._weighs_share = how.fill == "whole-video"
        self._num_keyframes = 0
        self._num_seen: Counter[int] = Counter()  # of each track, where its share counts

    def feed(self, people: TrackedKeyframe) -> Iterator[TrackedKeyframe]:
        """Add the next keyframe; yield those that are final."""
        self._num_keyframes += 1
        if self._weighs_share:
            self._num_seen.update(people.track.tolist())
        # The person's own score is one more column, averaged alike.
        scores = np.concatenate([people.scores, people.person_score[:, None]], axis=1)
        for filled in self._filler.feed(replace(people, scores=scores)):
            yield from map(self._scored, self._smoother.feed(filled))

    def finish(self) -> Iterator[TrackedKeyframe]:
        """Yield the remaining keyframes."""
        for filled in self._filler.finish():
            yield from map(self._scored, self._smoother.feed(filled))
        yield from map(self._scored, self._smoother.finish())

    def _scored(self, people: TrackedKeyframe) -> TrackedKeyframe:
        # A filled box that is further from all others of its track than the reach has no scores.
        known = np.isfinite(people.scores).all(axis=1)
        scores, track = people.scores[known], people.track[known]
        person_score = scores[:, -1]
        if self._weighs_share:
            seen = np.array([self._num_seen[number] for number in track.tolist()], np.float64)
            person_score = person_score * np.sqrt(seen / self._num_keyframes).astype(np.float32)
        return TrackedKeyframe(
            people.time_s,
            track,
            people.boxes_01[known],
            person_score,
            scores[:, :-1],
            None if people.seen is None else people.seen[known],
        )


def _as_people(one: Detections, track: NDArray[np.int64]) -> TrackedKeyframe:
    boxes = one.boxes
    return TrackedKeyframe(
        one.keyframe.time_s, track, boxes.xyxy_01, boxes.score, one.action_scores
    )
