"""Actors of each keyframe for drawing: rows grouped by box, predicted labels marked right or wrong.

A predicted label is right when the ground-truth person that the actor overlaps most (by at least
`iou_threshold`) has it, as in frame-mAP; a ground-truth label is missed when no matched prediction
has it. Keyframes without ground truth get no marks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detection.boxes import iou_matrix
from detection.datasets.ava_csv import AvaRows
from detection.structures import LabelMap

Mark = Literal["right", "wrong", "missed", "none"]


@dataclass(frozen=True)
class ShownLabel:
    """One action of one actor. score: probability, None in ground truth."""

    name: str
    score: float | None = None
    mark: Mark = "none"


@dataclass(frozen=True)
class Actor:
    """One actor at one keyframe. box_01: (4,) float64.  person_id: None where the file has none.

    That of a predicted actor is its track id.
    """

    box_01: NDArray[np.float64]
    labels: tuple[ShownLabel, ...] = ()
    person_id: int | None = None


Keyframes = Mapping[float, tuple[Actor, ...]]
"""Actors by keyframe time in seconds, ascending; a keyframe without people has an empty tuple."""


def gather(rows: AvaRows, video_id: str, label_map: LabelMap) -> dict[float, tuple[Actor, ...]]:
    """Return a video's actors by keyframe: rows of one box (and person) are one actor.

    Labels are sorted by score (ground truth: in file order). A class outside the label map is shown
    as its number. Empty for a video without rows.
    """
    found: dict[float, tuple[Actor, ...]] = {
        key.time_s: () for key in rows.empty_keyframes if key.video_id == video_id
    }
    if video_id in rows.video_names:
        rows = rows.select(rows.video_index == rows.video_names.index(video_id))
        for time_us in np.unique(rows.time_us).tolist():
            chosen = np.flatnonzero(rows.time_us == time_us)
            found[time_us / 1e6] = tuple(_actors(rows.select(chosen), label_map))
    return dict(sorted(found.items()))


def _actors(rows: AvaRows, label_map: LabelMap) -> Iterable[Actor]:
    known = rows.track_id if rows.person_id is None else rows.person_id
    persons = np.full(len(rows), -1, np.int64) if known is None else known
    members: dict[tuple[float, ...], list[int]] = {}
    for row in range(len(rows)):
        key = (*rows.boxes_01[row].tolist(), float(persons[row]))
        members.setdefault(key, []).append(row)
    for positions in members.values():
        labels = []
        for row in positions:
            action = int(rows.action_id[row])
            if action < 0:
                continue
            column = label_map.index_by_id.get(action)
            name = f"action {action}" if column is None else label_map.names[column]
            score = None if rows.score is None else float(rows.score[row])
            labels.append(ShownLabel(name, score))
        labels.sort(key=lambda label: -(label.score or 0.0))
        person = int(persons[positions[0]])
        yield Actor(rows.boxes_01[positions[0]], tuple(labels), person if person >= 0 else None)


def keep_likely(
    keyframes: Keyframes,
    *,
    score_threshold: float,
    top_k: int,
    class_thresholds: Mapping[str, float] | None = None,
    exclusive: Iterable[Collection[str]] = (),
) -> dict[float, tuple[Actor, ...]]:
    """Keep each actor's `top_k` likeliest labels of at least `score_threshold`; actors stay.

    keyframes: with the likeliest label first, as `gather` gives them.
    class_thresholds: by class name, where one differs.  exclusive: groups of names of which an
    actor keeps the likeliest alone, as events do.
    """
    by_name = class_thresholds or {}
    group_of = {name: number for number, group in enumerate(exclusive) for name in group}

    def likely(actor: Actor) -> Actor:
        labels, taken = [], set[int]()
        for label in actor.labels:
            group = group_of.get(label.name)
            least = by_name.get(label.name, score_threshold)
            if group in taken or (label.score or 0.0) < least:
                continue
            labels.append(label)
            if group is not None:
                taken.add(group)
        return replace(actor, labels=tuple(labels[:top_k]))

    return {time_s: tuple(map(likely, actors)) for time_s, actors in keyframes.items()}


def judge(
    truth: Keyframes, predicted: Keyframes, *, iou_threshold: float = 0.5
) -> tuple[dict[float, tuple[Actor, ...]], dict[float, tuple[Actor, ...]]]:
    """Return both with marks: predictions right or wrong, ground truth right (found) or missed.

    Keyframes that only one of the two has get no marks.
    """
    judged_truth, judged_predicted = dict(truth), dict(predicted)
    for time_s in truth.keys() & predicted.keys():
        people, guesses = truth[time_s], predicted[time_s]
        overlap = actor_iou(guesses, people)
        seen: list[set[str]] = [set() for _ in people]
        marked = []
        for actor, row in zip(guesses, overlap, strict=True):
            best = int(row.argmax()) if len(row) and row.max() >= iou_threshold else None
            true_names = set() if best is None else {label.name for label in people[best].labels}
            names = {label.name for label in actor.labels}
            if best is not None:
                seen[best] |= names & true_names
            marked.append(_with_marks(actor, true_names, "right", "wrong"))
        judged_predicted[time_s] = tuple(marked)
        judged_truth[time_s] = tuple(
            _with_marks(person, names, "right", "missed")
            for person, names in zip(people, seen, strict=True)
        )
    return judged_truth, judged_predicted


def _with_marks(actor: Actor, names: set[str], inside: Mark, outside: Mark) -> Actor:
    labels = (
        replace(label, mark=inside if label.name in names else outside) for label in actor.labels
    )
    return replace(actor, labels=tuple(labels))


def actor_iou(first: Iterable[Actor], second: Iterable[Actor]) -> NDArray[np.float64]:
    """Return the (N, M) overlaps of two sets of actors."""
    return iou_matrix([actor.box_01 for actor in first], [actor.box_01 for actor in second])
