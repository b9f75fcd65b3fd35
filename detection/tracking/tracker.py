"""Online tracking: links the boxes of successive frames, so that a person keeps one track number.

Legend: N boxes of a frame, as fractions of it. Plain numpy, one pass in order of time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detection.boxes import giou_matrix
from detection.structures import ActorBoxes
from detection.tracking.association import assign

# Velocities are extrapolated for this long; over gaps of a second that made tracking worse.
_PREDICTED_S = 0.5


@dataclass(kw_only=True)
class Tracker:
    """Assigns track numbers to boxes by their overlap with the predicted boxes of the tracks.

    start_score: a box with at least this confidence starts a track if it matches none.
    keep_score: a weaker box with at least this confidence can continue a track but not start one.
    max_gap_s: a track without boxes for longer ends.
    min_similarity: least generalised IoU (-1 to 1; below 0 boxes need not touch) with the track's
        predicted box.
    predict_motion: extrapolate the velocity of a track, for up to half a second.
    """

    start_score: float = 0.5
    keep_score: float | None = None
    max_gap_s: float = 2.0
    min_similarity: float = -0.3
    predict_motion: bool = True
    _tracks: list[_Track] = field(default_factory=list, init=False)
    _next_id: int = field(default=1, init=False)
    _now_s: float = field(default=-np.inf, init=False)

    @property
    def now_s(self) -> float:
        """Time of the newest boxes; -inf before the first."""
        return self._now_s

    def update(self, time_s: float, boxes: ActorBoxes) -> NDArray[np.int64]:
        """Return the (N,) track numbers, from 1 on, of the boxes at `time_s`; -1: no track.

        Raises `ValueError` unless times strictly ascend.
        """
        if not time_s > self._now_s:
            raise ValueError(f"times must ascend, got {time_s} s after {self._now_s} s")
        self._now_s = time_s
        self._tracks = [t for t in self._tracks if time_s - t.seen_s <= self.max_gap_s + 1e-9]
        corners = boxes.xyxy_01.astype(np.float64)
        numbers = np.full(len(boxes), -1, np.int64)
        strong = boxes.score >= self.start_score
        # Confident boxes are matched first: a false box must not take a person's track.
        self._continue(time_s, corners, np.flatnonzero(strong), numbers)
        keep_score = self.start_score if self.keep_score is None else self.keep_score
        weak = ~strong & (boxes.score >= keep_score)
        self._continue(time_s, corners, np.flatnonzero(weak), numbers)
        for index in np.flatnonzero(strong & (numbers < 0)).tolist():
            numbers[index] = self._next_id
            self._tracks.append(_Track(self._next_id, corners[index], time_s))
            self._next_id += 1
        return numbers

    def _continue(
        self,
        time_s: float,
        corners: NDArray[np.float64],
        chosen: NDArray[np.int64],
        numbers: NDArray[np.int64],
    ) -> None:
        waiting = [track for track in self._tracks if track.seen_s < time_s]
        if not waiting or not len(chosen):
            return
        expected = [
            track.expected(time_s) if self.predict_motion else track.box_01 for track in waiting
        ]
        pairs = assign(giou_matrix(expected, corners[chosen]), minimum=self.min_similarity)
        for row, column in zip(*pairs, strict=True):
            index = int(chosen[column])
            waiting[row].extend(time_s, corners[index])
            numbers[index] = waiting[row].number


@dataclass
class _Track:
    """A track.

    box_01: (4,) last box, at `seen_s`.
    velocity: (2,) of the centre, 1/s.
    """

    number: int
    box_01: NDArray[np.float64]
    seen_s: float
    velocity: NDArray[np.float64] | None = None

    def expected(self, time_s: float) -> NDArray[np.float64]:
        """Return the box at constant velocity; after longer gaps the last box."""
        gap_s = time_s - self.seen_s
        if self.velocity is None or gap_s > _PREDICTED_S + 1e-6:
            return self.box_01
        return self.box_01 + np.tile(self.velocity * gap_s, 2)

    def extend(self, time_s: float, box_01: NDArray[np.float64]) -> None:
        """Add a box; the velocity becomes the mean of the newest and the previous one."""
        moved = (box_01[:2] + box_01[2:] - self.box_01[:2] - self.box_01[2:]) / 2
        newest = moved / (time_s - self.seen_s)
        self.velocity = newest if self.velocity is None else (self.velocity + newest) / 2
        self.box_01, self.seen_s = box_01, time_s


def link_boxes(
    frames: Iterable[tuple[float, ActorBoxes]], tracker: Tracker
) -> list[NDArray[np.int64]]:
    """Return the track numbers of all boxes, one (N,) array per frame, in the order given."""
    return [tracker.update(time_s, boxes) for time_s, boxes in frames]


def count_switches(
    truth: Iterable[NDArray[np.int64]], found: Iterable[NDArray[np.int64]]
) -> tuple[int, int]:
    """Return (identity switches, links): changes of a person's track, and chances for one.

    truth, found: for each frame in order, person and track numbers of the same boxes; negative
        numbers are ignored.

    A link is a person seen again after having had a track; it is a switch where the track is
    another one (as the "IDSW" of K. Bernardin and R. Stiefelhagen, "Evaluating Multiple Object
    Tracking Performance", 2008).
    """
    last: dict[int, int] = {}
    switches = links = 0
    for people, tracks in zip(truth, found, strict=True):
        for person, track in zip(people.tolist(), tracks.tolist(), strict=True):
            if person < 0 or track < 0:
                continue
            if person in last:
                links += 1
                switches += last[person] != track
            last[person] = track
    return switches, links
