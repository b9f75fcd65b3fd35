"""The content of a review page, as checked values; `page.write_review` writes the page.

Legend: K keyframes of one person, n keyframes of a video, A action classes (columns of the label
map). Boxes are x1, y1, x2, y2 in fractions of the frame as displayed. Times are seconds on the
video's own clock, the same numbers as in AVA's files.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import time_us_of
from detection.structures import LabelMap

# Lower scores are left out of a page: they are the bulk, and the slider does not reach them.
LEAST_SCORE = 0.01


@dataclass(frozen=True)
class ReviewTrack:
    """One predicted person.

    track_id: any integer, unique within a video.
    times_s: (K,) ascending, keyframes of the video.
    boxes_01: (K, 4), float64 where it is given so, else float32.
    action_scores: (K, A) probabilities, in the label map's order.
    person_score: (K,) the detector's confidence.
    """

    track_id: int
    times_s: NDArray[np.float64]
    boxes_01: NDArray[np.floating]
    action_scores: NDArray[np.float32]
    person_score: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = _check_times(self, f"track {self.track_id}")
        exact = getattr(self.boxes_01, "dtype", None) == np.float64
        _shape(self, "boxes_01", np.float64 if exact else np.float32, (count, 4))
        scores = np.asarray(self.action_scores, np.float32)
        if scores.ndim != 2 or len(scores) != count:
            raise ValueError(f"action_scores must be ({count}, A), got {scores.shape}")
        object.__setattr__(self, "action_scores", scores)
        _shape(self, "person_score", np.float32, (count,))


@dataclass(frozen=True)
class Decision:
    """What an annotator decided about one track, of a page on which people are labelled.

    track_id: of the track.
    times_s: (K,) ascending, those of the track or some of them.
    labels: (K, A) bool; all False where the person does none of the actions.
    nobody: the boxes show no person; then there are no labels.
    """

    track_id: int
    times_s: NDArray[np.float64]
    labels: NDArray[np.bool_]
    nobody: bool = False

    def __post_init__(self) -> None:
        count = _check_times(self, f"decision on track {self.track_id}")
        labels = np.asarray(self.labels, bool)
        if labels.ndim != 2 or len(labels) != count:
            raise ValueError(f"labels must be ({count}, A), got {labels.shape}")
        if self.nobody and labels.any():
            raise ValueError(f"track {self.track_id} is no person and has labels")
        object.__setattr__(self, "labels", labels)


@dataclass(frozen=True)
class TruePerson:
    """One person of the ground truth.

    person_id: as in the file; None where it has none (then K is 1).
    times_s: (K,) ascending.
    boxes_01: (K, 4) float64, unchanged from the file.
    labels: (K, A) bool.
    """

    person_id: int | None
    times_s: NDArray[np.float64]
    boxes_01: NDArray[np.float64]
    labels: NDArray[np.bool_]

    def __post_init__(self) -> None:
        count = _check_times(self, f"person {self.person_id}")
        _shape(self, "boxes_01", np.float64, (count, 4))
        labels = np.asarray(self.labels, bool)
        if labels.ndim != 2 or len(labels) != count:
            raise ValueError(f"labels must be ({count}, A), got {labels.shape}")
        object.__setattr__(self, "labels", labels)


@dataclass(frozen=True)
class ReviewTruth:
    """Ground truth of one video.

    keyframes_s: all annotated keyframes, also those without people.
    """

    keyframes_s: Sequence[float]
    people: Sequence[TruePerson] = ()

    def __post_init__(self) -> None:
        known = _microseconds(self.keyframes_s)
        for person in self.people:
            _inside(person.times_s, known, f"person {person.person_id}", "annotated keyframe")


@dataclass(frozen=True)
class ReviewVideo:
    """One video of a page.

    video_id: as in the data set's files.
    source: the video file to play, relative to the page's folder, with forward slashes
        (`media.place_playable_video` returns it).
    width_px, height_px: as displayed.
    start_s: when the first frame is shown, on the video's own clock.
    keyframes_s: (n,) ascending, also those without people.
    truth: ground truth, if given.
    thumbnail: an image file, relative like `source`.
    decisions: what is decided about tracks already, on a page on which people are labelled.

    Zero keyframes and zero tracks are valid.
    """

    video_id: str
    source: str
    width_px: int
    height_px: int
    duration_s: float
    start_s: float = 0.0
    keyframes_s: Sequence[float] = ()
    tracks: Sequence[ReviewTrack] = ()
    truth: ReviewTruth | None = None
    thumbnail: str | None = None
    decisions: Sequence[Decision] = ()

    def __post_init__(self) -> None:
        if not self.video_id:
            raise ValueError("a video needs an id")
        for name in ("source", "thumbnail"):
            _check_relative(name, getattr(self, name))
        if self.width_px < 1 or self.height_px < 1:
            raise ValueError(f"{self.video_id}: frames of {self.width_px}x{self.height_px} pixels")
        if not (math.isfinite(self.start_s) and 0 <= self.duration_s < math.inf):
            raise ValueError(f"{self.video_id}: {self.duration_s} s from {self.start_s} s on")
        _check_times(self, self.video_id, name="keyframes_s")
        known = _microseconds(self.keyframes_s)
        for track in self.tracks:
            _inside(track.times_s, known, f"{self.video_id}: track {track.track_id}", "keyframe")
        ids = [track.track_id for track in self.tracks]
        if len(set(ids)) < len(ids):
            raise ValueError(f"{self.video_id}: a track id occurs twice")
        if self.truth is not None:
            _inside(self.truth.keyframes_s, known, f"{self.video_id}: ground truth", "keyframe")
        self._check_decisions()

    def _check_decisions(self) -> None:
        open_us = {track.track_id: set(_microseconds(track.times_s)) for track in self.tracks}
        for decision in self.decisions:
            who = f"{self.video_id}: a decision on track {decision.track_id}"
            left = open_us.get(decision.track_id, set())
            for time_us in _microseconds(decision.times_s):
                if time_us not in left:
                    raise ValueError(f"{who} at {time_us / 1e6} s: not there, or decided twice")
                left.remove(time_us)


@dataclass(frozen=True)
class ReviewDocument:
    """A page of one video, or an overview of several that leads to each.

    exclusive: groups of mutually exclusive classes (columns) by name, from
        `DatasetFolder.exclusive_groups`; choosing one unsets the others.
    score_threshold: least score of a label; the page's slider starts there if any score reaches it.
    class_thresholds: thresholds of single classes, by class id; the slider moves all together.
    goes_on: share of its threshold down to which a label of a track goes on, as events do; 1: each
        keyframe is judged alone.
    note: a line below the title, such as the model.
    notes: lines shown at the top of the page, such as what the labels are good for.
    mode: "review", labels and predictions are looked at and corrected keyframe by keyframe;
        "label", tracks are given labels as a whole, and their scores are suggestions.
    order: (video id, track id) of people to label, the first first; others follow.
    in_dataset: the videos are a data set's, which then has them already.
    """

    title: str
    label_map: LabelMap
    videos: Sequence[ReviewVideo]
    exclusive: Mapping[str, Sequence[int]] = field(default_factory=dict)
    score_threshold: float = 0.3
    class_thresholds: Mapping[int, float] = field(default_factory=dict)
    goes_on: float = 1.0
    note: str = ""
    notes: Sequence[str] = ()
    mode: Literal["review", "label"] = "review"
    order: Sequence[tuple[str, int]] = ()
    in_dataset: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.notes, str):
            raise ValueError("notes must be a sequence of lines, not a line")
        for threshold in (self.score_threshold, *self.class_thresholds.values()):
            if not 0 <= threshold <= 1:
                raise ValueError(f"a score threshold must be from 0 to 1, got {threshold}")
        if not 0 <= self.goes_on <= 1:
            raise ValueError(f"goes_on must be from 0 to 1, got {self.goes_on}")
        ids = [video.video_id for video in self.videos]
        if len(set(ids)) < len(ids):
            raise ValueError("a video id occurs twice")
        members = [column for group in self.exclusive.values() for column in group]
        if outside := sorted(set(members) - set(range(len(self.label_map)))):
            raise ValueError(f"exclusive columns {outside} are not in the label map")
        if unknown := set(self.class_thresholds) - set(self.label_map.ids):
            raise ValueError(f"class ids {sorted(unknown)} are not in the label map")
        if len(set(members)) < len(members):
            raise ValueError("a class is in two exclusive groups")
        columns = len(self.label_map)
        for video in self.videos:
            people = () if video.truth is None else video.truth.people
            widths = [track.action_scores.shape[1] for track in video.tracks]
            widths += [person.labels.shape[1] for person in people]
            if any(width != columns for width in widths):
                raise ValueError(f"{video.video_id}: scores and labels must have {columns} classes")
        self._check_labelling()

    def _check_labelling(self) -> None:
        known = {
            (video.video_id, track.track_id) for video in self.videos for track in video.tracks
        }
        if unknown := sorted(set(self.order) - known):
            raise ValueError(f"the order has {unknown[0]}, which is no track of the page")
        if len(set(self.order)) < len(self.order):
            raise ValueError("the order has a track twice")
        for video in self.videos:
            for decision in video.decisions:
                labels = decision.labels
                if labels.shape[1] != len(self.label_map):
                    raise ValueError(f"{video.video_id}: decisions have {labels.shape[1]} classes")
                for name, group in self.exclusive.items():
                    if (labels[:, list(group)].sum(1) > 1).any():
                        raise ValueError(
                            f"{video.video_id}: a decision has two classes of '{name}'"
                        )

    @cached_property
    def opening(self) -> Opening:
        """Where the slider starts."""
        return opening_of(self)


@dataclass(frozen=True)
class Opening:
    """Where a page's slider starts.

    slider: the document's threshold, or just below the best score if none reaches its threshold.
    line: says so; "" where the threshold is reached, or no person was predicted.
    """

    slider: float
    line: str = ""


def opening_of(document: ReviewDocument) -> Opening:
    """Find where the slider starts: where the page shows something, if there is anything."""
    threshold, label_map = document.score_threshold, document.label_map
    if document.mode == "label":
        return Opening(threshold)
    given = [document.class_thresholds.get(i, threshold) for i in label_map.ids]
    required = np.rint(1000 * np.clip(given, LEAST_SCORE, 1))
    best: tuple[float, int, int, ReviewTrack, ReviewVideo] | None = None
    for video in document.videos:
        for track in video.tracks:
            if not track.action_scores.size:
                continue
            above = np.rint(1000 * track.action_scores) - required
            row, column = divmod(int(above.argmax()), above.shape[1])
            if best is None or above[row, column] > best[0]:
                best = float(above[row, column]), row, column, track, video
    if best is None or best[0] >= 0:
        return Opening(threshold)
    below, row, column, track, video = best
    score = float(track.action_scores[row, column])
    if round(1000 * score) < 1000 * LEAST_SCORE:
        return Opening(threshold, f"No score reaches {LEAST_SCORE:g}.")
    slider = max(0.0, math.floor(100 * threshold + below / 10 + 1e-6) / 100)
    where = f"{video.video_id}, " if len(document.videos) > 1 else ""
    name = textwrap.shorten(label_map.names[column], 60, placeholder="…")
    return Opening(
        slider,
        f"No score reaches its threshold of {given[column]:.2f}: the slider starts at "
        f"{slider:.2f}, where the best one shows ({score:.2f}, {name}; {where}"
        f"person {track.track_id}, {track.times_s[row]:.1f} s).",
    )


def _check_times(value: object, what: str, name: str = "times_s") -> int:
    """Store a field as float64 and return its length; raises ValueError unless it ascends."""
    times_s = np.asarray(getattr(value, name), np.float64).reshape(-1)
    if not np.isfinite(times_s).all() or (np.diff(times_s) <= 0).any() or (times_s < 0).any():
        raise ValueError(f"{what}: {name} must ascend from 0 on, without repeats")
    object.__setattr__(value, name, times_s)
    return len(times_s)


def _shape(value: object, name: str, kind: type[np.generic], shape: tuple[int, ...]) -> None:
    """Store a field as an array of one type; raises ValueError for another shape or for NaN."""
    array = np.asarray(getattr(value, name), kind)
    if array.shape != shape and array.size == math.prod(shape) == 0:
        array = array.reshape(shape)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, of shape {shape}; got {array.shape}")
    object.__setattr__(value, name, array)


def _check_relative(name: str, path: str | None) -> None:
    if path is None:
        return
    if not path or "\\" in path or ":" in path.split("/")[0] or PurePosixPath(path).is_absolute():
        raise ValueError(f"{name} must be a relative path with forward slashes, got {path!r}")


def _microseconds(times_s: Sequence[float] | NDArray[np.float64]) -> frozenset[int]:
    return frozenset(time_us_of(float(time_s)) for time_s in times_s)


def _inside(
    times_s: Sequence[float] | NDArray[np.float64], known: frozenset[int], who: str, what: str
) -> None:
    for time_s in times_s:
        if time_us_of(float(time_s)) not in known:
            raise ValueError(f"{who} is at {time_s} s, which is no {what} of the video")
