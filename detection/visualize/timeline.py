"""Boxes between keyframes: moved in a straight line where a person is in both, else held a while.

Two actors of neighbouring keyframes are one person when their boxes overlap (the same person id
asks for less of it: ids are kept across cuts of a film, where a gliding box would be nonsense).
Labels, and marks, are those of the nearer keyframe.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from detection.visualize.actors import Actor, Keyframes, iou_matrix

_MIN_IOU = 0.3
_MIN_IOU_SAME_ID = 0.1
_USUAL_SPACING_S = 1.0
# A neighbour further away than this many usual spacings is no neighbour.
_MAX_GAP = 1.5


@dataclass(frozen=True)
class Placed:
    """An actor at one moment; `chain` stays the same for one person from keyframe to keyframe."""

    actor: Actor
    chain: int


class Timeline:
    """Actors of one video at any time."""

    def __init__(self, keyframes: Keyframes) -> None:
        self.times_s = sorted(keyframes)
        self._actors = [keyframes[time_s] for time_s in self.times_s]
        gaps = np.diff(self.times_s)
        self.spacing_s = float(np.median(gaps)) if len(gaps) else _USUAL_SPACING_S
        self._next: list[dict[int, int]] = []
        self._chains: list[list[int]] = []
        self._link()

    def at(self, time_s: float) -> list[Placed]:
        """Return who is shown at `time_s` (seconds on the video's clock)."""
        after = bisect_right(self.times_s, time_s)
        before = after - 1
        shown: list[Placed] = []
        gone_on: set[int] = set()
        if before >= 0 and after < len(self.times_s) and self._neighbours(before):
            start, end = self.times_s[before], self.times_s[after]
            share = (time_s - start) / (end - start)
            for first, second in self._next[before].items():
                shown.append(self._between(before, first, second, share))
                gone_on.add(second)
        if before >= 0 and time_s - self.times_s[before] <= self._hold_s(before, before):
            shown += self._alone(before, skip=set(self._next[before]))
        if after < len(self.times_s) and self.times_s[after] - time_s < self._hold_s(after, before):
            shown += self._alone(after, skip=gone_on)
        return shown

    def nearest_keyframe_s(self, time_s: float) -> float | None:
        """Return the keyframe nearest to `time_s`; None where there is none at all."""
        if not self.times_s:
            return None
        after = bisect_right(self.times_s, time_s)
        return min(self.times_s[max(0, after - 1) : after + 1], key=lambda t: abs(t - time_s))

    def _between(self, keyframe: int, first: int, second: int, share: float) -> Placed:
        a, b = self._actors[keyframe][first], self._actors[keyframe + 1][second]
        nearer = a if share <= 0.5 else b
        box = (1 - share) * a.box_01 + share * b.box_01
        return Placed(Actor(box, nearer.labels, nearer.person_id), self._chains[keyframe][first])

    def _alone(self, keyframe: int, skip: set[int]) -> list[Placed]:
        return [
            Placed(actor, self._chains[keyframe][position])
            for position, actor in enumerate(self._actors[keyframe])
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
        count = 0
        for keyframe, actors in enumerate(self._actors):
            chains: list[int] = []
            came_from: dict[int, int] = {}
            if keyframe and self._neighbours(keyframe - 1):
                self._next.append(match_actors(self._actors[keyframe - 1], actors))
                came_from = {b: a for a, b in self._next[-1].items()}
            elif keyframe:
                self._next.append({})
            for position in range(len(actors)):
                if position in came_from:
                    chains.append(self._chains[-1][came_from[position]])
                else:
                    chains.append(count)
                    count += 1
            self._chains.append(chains)
        if self._actors:
            self._next.append({})


def match_actors(first: tuple[Actor, ...], second: tuple[Actor, ...]) -> dict[int, int]:
    """Pair actors of two keyframes, the largest overlaps first: {position: position}."""
    overlap = iou_matrix(first, second)
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
