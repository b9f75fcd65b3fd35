"""Builds the tracks and the ground truth of a review page from AVA files.

Rows are grouped by box; boxes are linked over time if the file has no ids. Legend: n keyframes, A
classes. All in numpy: a million rows take seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from detection.boxes import paired_iou
from detection.datasets.ava_csv import AvaRows, time_us_of
from detection.drawing.actors import Actor
from detection.drawing.timeline import Timeline, renumber_by_votes
from detection.review.document import ReviewTrack, ReviewTruth, TruePerson
from detection.structures import Keyframe, LabelMap

_SAME_PERSON_IOU = 0.5


def keyframes_of(
    video_id: str, *files: AvaRows | None, left_out: frozenset[Keyframe] = frozenset()
) -> list[float]:
    """Return the keyframes of a video in all files together, in seconds, ascending.

    left_out: keyframes that are not reviewed, such as excluded ones.
    """
    times_us: set[int] = set()
    for rows in files:
        if rows is None:
            continue
        times_us |= {time_us_of(k.time_s) for k in rows.empty_keyframes if k.video_id == video_id}
        times_us |= set(_rows_of(rows, video_id).time_us.tolist())
    times_us -= {time_us_of(key.time_s) for key in left_out if key.video_id == video_id}
    return [time_us / 1e6 for time_us in sorted(times_us)]


def tracks_of(
    rows: AvaRows,
    video_id: str,
    label_map: LabelMap,
    keyframes_s: list[float],
    *,
    truth: ReviewTruth | None = None,
) -> tuple[ReviewTrack, ...]:
    """Return a video's detections as tracks: by the file's track ids, else linked by overlap.

    Linked tracks get the ids of the people of `truth` that they overlap most often. Rows outside
    the keyframes and classes outside the label map are left out.
    """
    rows = _at(_rows_of(rows, video_id), keyframes_s)
    if rows.score is None:
        raise ValueError("detections need scores")
    boxes, of_row = _distinct(rows, rows.track_id)
    scores = np.zeros((len(boxes), len(label_map)), np.float32)
    columns = _columns(rows.action_id, label_map)
    known = columns >= 0
    np.maximum.at(scores, (of_row[known], columns[known]), rows.score[known].astype(np.float32))
    names = _track_names(boxes, rows.track_id is not None, truth)
    tracks = []
    for name in np.unique(names).tolist():
        mine = np.flatnonzero(names == name)
        tracks.append(
            ReviewTrack(
                name,
                boxes[mine, 0] / 1e6,
                boxes[mine, 1:5].astype(np.float32),
                np.clip(scores[mine], 0, 1),
                np.ones(len(mine), np.float32),
            )
        )
    return tuple(tracks)


def truth_of(
    rows: AvaRows, video_id: str, label_map: LabelMap, keyframes_s: list[float]
) -> ReviewTruth:
    """Return a video's ground truth; rows of one keyframe, box and person id are one person."""
    annotated_us = {time_us_of(k.time_s) for k in rows.empty_keyframes if k.video_id == video_id}
    rows = _at(_rows_of(rows, video_id), keyframes_s)
    annotated_us |= set(rows.time_us.tolist())
    boxes, of_row = _distinct(rows, rows.person_id)
    labels = np.zeros((len(boxes), len(label_map)), bool)
    columns = _columns(rows.action_id, label_map)
    labels[of_row[columns >= 0], columns[columns >= 0]] = True
    ids = boxes[:, 5].astype(np.int64)
    people = []
    for name, mine in _people(boxes, ids):
        people.append(TruePerson(name, boxes[mine, 0] / 1e6, boxes[mine, 1:5], labels[mine]))
    inside = [t for t in keyframes_s if time_us_of(t) in annotated_us]
    return ReviewTruth(inside, tuple(people))


def _people(
    boxes: NDArray[np.float64], ids: NDArray[np.int64]
) -> list[tuple[int | None, NDArray[np.int64]]]:
    """Return (person id, positions); boxes without id, and second boxes of an id, are separate."""
    out: list[tuple[int | None, NDArray[np.int64]]] = []
    for name in np.unique(ids).tolist():
        mine = np.flatnonzero(ids == name)
        if name >= 0:
            _, first = np.unique(boxes[mine, 0], return_index=True)
            out.append((name, mine[first]))
            mine = np.delete(mine, first)
        out += [(None, mine[i : i + 1]) for i in range(len(mine))]
    return out


def _rows_of(rows: AvaRows, video_id: str) -> AvaRows:
    if video_id not in rows.video_names:
        return rows.select(np.zeros(0, np.int64))
    return rows.select(rows.video_index == rows.video_names.index(video_id))


def _at(rows: AvaRows, keyframes_s: list[float]) -> AvaRows:
    required = np.array([time_us_of(time_s) for time_s in keyframes_s], np.int64)
    return rows.select(np.isin(rows.time_us, required))


def _columns(action_id: NDArray[np.int32], label_map: LabelMap) -> NDArray[np.int64]:
    """Return the column of each class id, -1 where the label map has none."""
    ids = np.array(label_map.ids)
    order = np.argsort(ids)
    place = np.searchsorted(ids[order], action_id).clip(0, len(ids) - 1)
    return np.where(ids[order][place] == action_id, order[place], -1)


def _distinct(
    rows: AvaRows, person: NDArray[np.int64] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (B, 6) distinct [time in us, x1, y1, x2, y2, id], by time, and each row's box."""
    ids = np.full(len(rows), -1.0) if person is None else person.astype(np.float64)
    table = np.column_stack([rows.time_us.astype(np.float64), rows.boxes_01, ids])
    boxes, of_row = np.unique(table, axis=0, return_inverse=True)
    return boxes, of_row.reshape(-1)


def _track_names(
    boxes: NDArray[np.float64], named: bool, truth: ReviewTruth | None
) -> NDArray[np.int64]:
    if named:
        names = boxes[:, 5].astype(np.int64)
        keys = np.column_stack([boxes[:, 0], names])
        if len(np.unique(keys, axis=0)) == len(keys) and (names >= 0).all():
            return names
    frames: dict[float, list[int]] = {}
    for position, time_us in enumerate(boxes[:, 0].tolist()):
        frames.setdefault(time_us / 1e6, []).append(position)
    actors: Mapping[float, tuple[Actor, ...]] = {
        time_s: tuple(Actor(boxes[i, 1:5]) for i in positions)
        for time_s, positions in frames.items()
    }
    timeline = Timeline(actors)
    linked = np.zeros(len(boxes), np.int64)
    for time_s, numbers in zip(timeline.times_s, timeline.numbers, strict=True):
        linked[frames[time_s]] = numbers
    return linked if truth is None else _named_like(linked, boxes, truth)


def _named_like(
    linked: NDArray[np.int64], boxes: NDArray[np.float64], truth: ReviewTruth
) -> NDArray[np.int64]:
    """Give tracks the id of the person that they overlap most often, unique at each time."""
    people: dict[int, list[tuple[int, NDArray[np.float64]]]] = {}
    for person in truth.people:
        if person.person_id is not None:
            for time_s, box in zip(person.times_s.tolist(), person.boxes_01, strict=True):
                people.setdefault(time_us_of(time_s), []).append((person.person_id, box))
    votes: Counter[tuple[int, int]] = Counter()
    for row, time_us in enumerate(boxes[:, 0].astype(np.int64).tolist()):
        if there := people.get(time_us):
            theirs = np.stack([box for _, box in there])
            overlap = paired_iou(boxes[row, 1:5], theirs)
            if overlap.max() >= _SAME_PERSON_IOU:
                votes[int(linked[row]), there[int(overlap.argmax())][0]] += 1
    times = {name: set(boxes[linked == name, 0].tolist()) for name in np.unique(linked).tolist()}
    first_free = 1 + max((p.person_id for p in truth.people if p.person_id is not None), default=0)
    renamed = renumber_by_votes(votes, times, first_free)
    return np.array([renamed[name] for name in linked.tolist()], np.int64)
