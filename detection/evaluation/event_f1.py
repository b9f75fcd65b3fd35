"""Events of persons within a tolerance of frames: precision, recall and F1.

The rule of FOOTPASS' published evaluation: an event is a frame, a person and a class in one video;
events of the same person and class are matched, from the highest score down, with the nearest one
that is free and at most so many frames away.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.errors import UserError

TOLERANCE_FRAMES, LEAST_SCORE = 12, 0.15


@dataclass(frozen=True)
class PersonEvent:
    """One action of one person.

    frame: number of the frame. person: anything that tells persons of a video apart.
    column: of the class. score: of a detection; 1 for ground truth.
    """

    frame: int
    person: Hashable
    column: int
    score: float = 1.0


@dataclass(frozen=True)
class EventScore:
    """Counts and shares of all videos together.

    precision, recall, f1: of all events (micro means); 0 where there is nothing to divide by.
    per_class: the same by class name, with the counts `true`, `false` and `missed`.
    num_true, num_false, num_missed: of all classes.
    matched: by video, for each of its ground-truth events the place of its detection in the list
        that was given, -1 where it was missed.
    left_out: videos that one side alone has, and detections under the least score, by reason.
    """

    precision: float
    recall: float
    f1: float
    per_class: Mapping[str, Mapping[str, float]]
    num_true: int
    num_false: int
    num_missed: int
    num_videos: int
    matched: Mapping[str, Sequence[int]]
    left_out: Mapping[str, int]


def event_f1(
    truth: Mapping[str, Sequence[PersonEvent]],
    found: Mapping[str, Sequence[PersonEvent]],
    names: Sequence[str],
    *,
    tolerance_frames: int = TOLERANCE_FRAMES,
    least_score: float = LEAST_SCORE,
) -> EventScore:
    """Score events, by video; only videos that both sides have count.

    names: of the classes, by column. least_score: detections under it do not count. Of equal scores
    the one listed first has its turn first, of two events as near the earlier one counts, of two at
    the same frame the one listed first. Raises `UserError` for a score that is not finite and a
    column without a name.
    """
    for side in (truth, found):
        _check(side, len(names))
    videos = sorted(set(truth) & set(found))
    counts = np.zeros((3, len(names)), np.int64)  # true, false, missed
    matched, weak = {}, 0
    for video in videos:
        kept = [row for row, one in enumerate(found[video]) if not one.score < least_score]
        weak += len(found[video]) - len(kept)
        detections = [found[video][row] for row in kept]
        partners = match_events(truth[video], detections, tolerance_frames)
        matched[video] = [kept[partner] if partner >= 0 else -1 for partner in partners]
        hit = np.array([partner >= 0 for partner in partners], bool)
        expected = np.array([one.column for one in truth[video]], np.int64)
        counts[0] += np.bincount(expected[hit], minlength=len(names))
        counts[2] += np.bincount(expected[~hit], minlength=len(names))
        columns = np.array([one.column for one in detections], np.int64)
        counts[1] += np.bincount(columns, minlength=len(names))
        counts[1] -= np.bincount(expected[hit], minlength=len(names))
    left_out = {
        "videos without detections": len(set(truth) - set(found)),
        "videos without ground truth": len(set(found) - set(truth)),
        f"detections with scores under {least_score:g}": weak,
    }
    return _score(counts, names, matched, {why: n for why, n in left_out.items() if n})


def match_events(
    truth: Sequence[PersonEvent], found: Sequence[PersonEvent], tolerance_frames: int
) -> list[int]:
    """Return for each ground-truth event of a video the place of its detection, -1 if missed."""
    groups: dict[tuple[Hashable, int], list[int]] = {}
    for row in sorted(range(len(truth)), key=lambda row: truth[row].frame):
        groups.setdefault((truth[row].person, truth[row].column), []).append(row)
    partner = [-1] * len(truth)
    for turn in sorted(range(len(found)), key=lambda turn: -found[turn].score):
        one = found[turn]
        free = [row for row in groups.get((one.person, one.column), ()) if partner[row] < 0]
        near = [row for row in free if abs(truth[row].frame - one.frame) <= tolerance_frames]
        if near:
            partner[min(near, key=lambda row: abs(truth[row].frame - one.frame))] = turn
    return partner


def _score(
    counts: NDArray[np.int64],
    names: Sequence[str],
    matched: Mapping[str, Sequence[int]],
    left_out: Mapping[str, int],
) -> EventScore:
    per_class = {}
    for name, (true, false, missed) in zip(names, counts.T.tolist(), strict=True):
        precision, recall, f1 = _shares(true, false, missed)
        per_class[name] = {
            "precision": precision, "recall": recall, "f1": f1,
            "true": true, "false": false, "missed": missed,
        }  # fmt: skip
    true, false, missed = counts.sum(axis=1).tolist()
    precision, recall, f1 = _shares(true, false, missed)
    return EventScore(
        precision, recall, f1, per_class, true, false, missed, len(matched), matched, left_out
    )


def _shares(true: int, false: int, missed: int) -> tuple[float, float, float]:
    """Return precision, recall and F1; 0 where there is nothing to divide by."""
    precision = true / (true + false) if true + false else 0.0
    recall = true / (true + missed) if true + missed else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


def _check(side: Mapping[str, Sequence[PersonEvent]], num_classes: int) -> None:
    for video, events in side.items():
        for row, one in enumerate(events):
            if not 0 <= one.column < num_classes:
                raise UserError(f"{video}, event {row}: class {one.column} of {num_classes}")
            if not math.isfinite(one.score):
                raise UserError(f"{video}, event {row}: the score is {one.score}")
