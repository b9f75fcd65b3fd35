"""Boxes between keyframes: interpolated where a person is in both keyframes, else held for a while.

Two actors of neighbouring keyframes are one person when their boxes overlap (less so if they have
the same person id: ids are kept across cuts of a video, where an interpolated box would be wrong).
Labels and marks are those of the nearer keyframe.

A person has the same number in ground truth and prediction: the person's id, where all have one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from detection.drawing.actors import Actor, Keyframes, actor_iou

TimeT = TypeVar("TimeT")

_MIN_IOU = 0.3
_MIN_IOU_SAME_ID = 0.1
_USUAL_SPACING_S = 1.0
# Keyframes further apart than this many median spacings are not linked.
_MAX_GAP = 1.5


@dataclass(frozen=True)
class Placed:
    """An actor at a time; `number` is the person's, the same at all keyframes."""

    actor: Actor
    number: int


class Timeline:
    """Actors of one video at any time.

    times_s: the keyframes, ascending.
    actors, numbers: of each keyframe, in the same order.
    """

    def __init__(self, keyframes: Keyframes) -> None:
        self.times_s = sorted(keyframes)
        self.actors = [keyframes[time_s] for time_s in self.times_s]
        gaps = np.diff(self.times_s)
        self.spacing_s = float(np.median(gaps)) if len(gaps) else _USUAL_SPACING_S
        self._next: list[dict[int, int]] = []
        self.numbers: list[list[int]] = []
        self._link()

    def at(self, time_s: float) -> list[Placed]:
        """Return the actors to show at `time_s` (seconds on the video's clock)."""
        after = bisect_right(self.times_s, time_s)
        before = after - 1
        shown: list[Placed] = []
        gone_on: set[int] = set()
        if before >= 0 and after < len(self.times_s) and self._neighbours(before):
            start, end = self.times_s[before], self.times_s[after]
            share = (time_s - start) / (end - start)
            for first, second in self._next[before].items():
                a, b = self.actors[before][first], self.actors[after][second]
                nearer = a if share <= 0.5 else b
                box = (1 - share) * a.box_01 + share * b.box_01
                actor = Actor(box, nearer.labels, nearer.person_id)
                shown.append(Placed(actor, self.numbers[before][first]))
                gone_on.add(second)
        if before >= 0 and time_s - self.times_s[before] <= self._hold_s(before, before):
            shown += self._alone(before, skip=set(self._next[before]))
        if after < len(self.times_s) and self.times_s[after] - time_s < self._hold_s(after, before):
            shown += self._alone(after, skip=gone_on)
        return shown

    @property
    def most_people(self) -> int:
        """Largest number of actors at a keyframe."""
        return max(map(len, self.actors), default=0)

    def number_like(self, other: Timeline, *, iou_threshold: float = 0.5) -> None:
        """Renumber people like the people of `other` that they overlap most often."""
        votes: Counter[tuple[int, int]] = Counter()
        place = {time_s: index for index, time_s in enumerate(other.times_s)}
        for time_s, actors, numbers in zip(self.times_s, self.actors, self.numbers, strict=True):
            if time_s not in place:
                continue
            theirs = other.numbers[place[time_s]]
            overlap = actor_iou(actors, other.actors[place[time_s]])
            for i, j in zip(*np.nonzero(overlap >= iou_threshold), strict=True):
                votes[numbers[i], theirs[j]] += 1
        seen: dict[int, set[int]] = {}
        for keyframe, numbers in enumerate(self.numbers):
            for number in numbers:
                seen.setdefault(number, set()).add(keyframe)
        first_free = 1 + max((n for numbers in other.numbers for n in numbers), default=0)
        renamed = renumber_by_votes(votes, seen, first_free)
        self.numbers = [[renamed[n] for n in numbers] for numbers in self.numbers]

    def _alone(self, keyframe: int, skip: set[int]) -> list[Placed]:
        return [
            Placed(actor, self.numbers[keyframe][position])
            for position, actor in enumerate(self.actors[keyframe])
            if position not in skip
        ]

    def _neighbours(self, keyframe: int) -> bool:
        gap = self.times_s[keyframe + 1] - self.times_s[keyframe]
        return gap <= _MAX_GAP * self.spacing_s

    def _hold_s(self, keyframe: int, gap_start: int) -> float:
        """Half the gap that starts at keyframe `gap_start`, at most half a usual spacing."""
        if 0 <= gap_start < len(self.times_s) - 1 and self._neighbours(gap_start):
            return (self.times_s[gap_start + 1] - self.times_s[gap_start]) / 2
        return self.spacing_s / 2

    def _link(self) -> None:
        count = 1
        for keyframe, actors in enumerate(self.actors):
            numbers: list[int] = []
            linked = keyframe > 0 and self._neighbours(keyframe - 1)
            pairs = match_actors(self.actors[keyframe - 1], actors) if linked else {}
            came_from = {b: a for a, b in pairs.items()}
            if keyframe:
                self._next.append(pairs)
            for position in range(len(actors)):
                if position in came_from:
                    numbers.append(self.numbers[-1][came_from[position]])
                else:
                    numbers.append(count)
                    count += 1
            self.numbers.append(numbers)
        if self.actors:
            self._next.append({})
        ids = [[actor.person_id for actor in actors] for actors in self.actors]
        if all(None not in names and len({*names}) == len(names) for names in ids):
            self.numbers = [[name for name in names if name is not None] for names in ids]


def renumber_by_votes(
    votes: Mapping[tuple[int, int], int], seen: Mapping[int, set[TimeT]], first_free: int
) -> dict[int, int]:
    """Return a new number for each track: the one with the most votes, else a free one.

    votes: of (track, new number).
    seen: when each track is there; tracks that coincide never get the same number.
    """
    renumbered: dict[int, int] = {}
    taken: dict[int, set[TimeT]] = {}
    for (track, number), _ in sorted(votes.items(), key=lambda vote: (-vote[1], vote[0])):
        if track not in renumbered and not taken.get(number, set()) & seen[track]:
            renumbered[track] = number
            taken.setdefault(number, set()).update(seen[track])
    rest = sorted(seen.keys() - renumbered.keys())
    return renumbered | {track: first_free + n for n, track in enumerate(rest)}


def match_actors(first: tuple[Actor, ...], second: tuple[Actor, ...]) -> dict[int, int]:
    """Match actors of two keyframes, largest overlaps first: {position: position}."""
    overlap = actor_iou(first, second)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            if a.person_id is not None and b.person_id is not None:
                same = a.person_id == b.person_id
                # Ids decide where both have one; 2 puts them before every other pair.
                overlap[i, j] = 2.0 if same and overlap[i, j] >= _MIN_IOU_SAME_ID else 0.0
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for flat in np.argsort(-overlap, axis=None, kind="stable").tolist():
        i, j = divmod(flat, len(second))
        if overlap[i, j] < _MIN_IOU:
            break
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    return pairs
