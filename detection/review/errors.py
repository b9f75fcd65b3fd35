"""Ranks what to review first: errors if there is ground truth, else labels near the threshold.

Kinds are those of `detection.evaluation.diagnosis`, matched as in frame-mAP at IoU 0.5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows, time_us_of
from detection.evaluation.diagnosis import FALSE_POSITIVES, MISSED, false_positive_kinds
from detection.evaluation.frame_map import score_rows
from detection.evaluation.people import pair_people
from detection.review.document import ReviewDocument, ReviewTruth, ReviewVideo
from detection.structures import Keyframe, LabelMap

MISSED_LABEL, UNSURE = "missed label", "unsure"
ERROR_KINDS = (MISSED_LABEL, MISSED, *FALSE_POSITIVES, UNSURE)
# False positives below this are not listed.
LEAST_SCORE = 0.1
UNSURE_MARGIN = 0.15
# Lower scores cannot change the matching of higher ones.
_LEAST_FOUND = 0.01
MAX_ENTRIES = 5000
IOU = 0.5

Error = tuple[int, int, int, int, int]
"""Keyframe number, kind, column, thousandths of the score, and an id: of a missed person
(ground truth) or of a track; -1 - 100000 * keyframe - position for a person without id."""


def find_errors(video: ReviewVideo, document: ReviewDocument, place: dict[int, int]) -> list[Error]:
    """Return the errors, worst first, at most `MAX_ENTRIES`.

    Missed labels are listed at any score, since the page's threshold decides.
    """
    if video.truth is None:
        return _unsure(video, document, place)
    return _wrong(video, video.truth, document.label_map, place)


def worst_of(errors: list[Error], document: ReviewDocument) -> tuple[int, float, str | None]:
    """Return number and summed weight of the errors at the thresholds, and the costliest kind."""
    names = document.label_map.names
    thresholds = _thresholds(document)
    weights: dict[tuple[int, int], float] = {}
    count = 0
    for _, kind, column, thousandths, _ in errors:
        score = thousandths / 1000
        missed = ERROR_KINDS[kind] in (MISSED, MISSED_LABEL)
        if ERROR_KINDS[kind] == UNSURE or missed == (score >= thresholds[column]):
            continue
        count += 1
        weight = 1 - score if missed else score
        weights[kind, column] = weights.get((kind, column), 0.0) + weight
    if not weights:
        return 0, 0.0, None
    kind, column = max(weights, key=lambda entry: weights[entry])
    return count, sum(weights.values()), f"{names[column]}, {ERROR_KINDS[kind]}"


def _wrong(
    video: ReviewVideo, truth: ReviewTruth, label_map: LabelMap, place: dict[int, int]
) -> list[Error]:
    known, known_id = _truth_rows(video.video_id, truth, label_map, place)
    found, track_id = _found_rows(video, truth, label_map)
    scored = score_rows(known, found, label_map, protocol="frame-map", iou_threshold=IOU)
    keyframes_us = np.array(sorted(place), np.int64)
    parts = []
    for name, mask in false_positive_kinds(scored, known, found).items():
        chosen = np.flatnonzero(mask & (scored.score >= LEAST_SCORE))
        row, score = scored.row[chosen], scored.score[chosen]
        kind = np.full(len(chosen), ERROR_KINDS.index(name))
        column = scored.class_index[chosen].astype(np.int64)
        parts.append((score, kind, column, score, track_id[row], found.time_us[row]))
    best = np.zeros(len(scored.gt_row))
    taken = scored.matched >= 0
    best[scored.matched[taken]] = scored.score[taken]
    people = pair_people(scored, known, found)
    there = people.iou_of_person[people.people.of_row] >= IOU
    kind = np.where(there, ERROR_KINDS.index(MISSED_LABEL), ERROR_KINDS.index(MISSED))
    column, row = scored.gt_class.astype(np.int64), scored.gt_row
    parts.append((1 - best, kind, column, best, known_id[row], known.time_us[row]))
    weight, kinds, columns, scores, ids, times_us = map(np.concatenate, zip(*parts, strict=True))
    heaviest = np.argsort(-weight, kind="stable")[:MAX_ENTRIES]
    heaviest = heaviest[weight[heaviest] > 0]
    table = (
        np.searchsorted(keyframes_us, times_us[heaviest]),
        kinds[heaviest],
        columns[heaviest],
        np.rint(1000 * scores[heaviest]).astype(np.int64),
        ids[heaviest],
    )
    return list(zip(*(column.tolist() for column in table), strict=True))


def _truth_rows(
    video_id: str, truth: ReviewTruth, label_map: LabelMap, place: dict[int, int]
) -> tuple[AvaRows, NDArray[np.int64]]:
    """Return one row per label, and the page's id of its person."""
    keys, boxes, actions, ids = [], [], [], []
    seen: dict[int, int] = {}
    for person in truth.people:
        for time_s, box, labels in zip(
            person.times_s.tolist(), person.boxes_01, person.labels, strict=True
        ):
            k = place[time_us_of(time_s)]
            position = seen.get(k, 0)
            seen[k] = position + 1
            name = person.person_id
            for column in np.flatnonzero(labels).tolist():
                keys.append(Keyframe(video_id, time_s))
                boxes.append(box)
                actions.append(label_map.ids[column])
                ids.append(-1 - 100_000 * k - position if name is None else name)
    empty = [Keyframe(video_id, float(time_s)) for time_s in truth.keyframes_s]
    rows = AvaRows.from_rows(keys, boxes_01=boxes, action_id=actions, empty_keyframes=empty)
    return rows, np.array(ids, np.int64)


def _found_rows(
    video: ReviewVideo, truth: ReviewTruth, label_map: LabelMap
) -> tuple[AvaRows, NDArray[np.int64]]:
    """Return the detections of annotated keyframes, scored 0.01 or more, and their track ids."""
    annotated = np.array([time_us_of(float(time_s)) for time_s in truth.keyframes_s], np.int64)
    ids = np.array(label_map.ids, np.int32)
    time_us, boxes, actions, scores, names = [], [], [], [], []
    for track in video.tracks:
        times = np.array([time_us_of(time_s) for time_s in track.times_s.tolist()], np.int64)
        shown = (track.action_scores >= _LEAST_FOUND) & np.isin(times, annotated)[:, None]
        row, column = np.nonzero(shown)
        time_us.append(times[row])
        boxes.append(track.boxes_01[row].astype(np.float64))
        actions.append(ids[column])
        scores.append(track.action_scores[row, column].astype(np.float64))
        names.append(np.full(len(row), track.track_id, np.int64))
    count = sum(map(len, time_us))
    rows = AvaRows(
        path="(memory)",
        video_names=(video.video_id,) if count else (),
        video_index=np.zeros(count, np.int32),
        time_us=np.concatenate([np.zeros(0, np.int64), *time_us]),
        boxes_01=np.concatenate([np.zeros((0, 4)), *boxes]),
        action_id=np.concatenate([np.zeros(0, np.int32), *actions]),
        score=np.concatenate([np.zeros(0), *scores]),
    )
    return rows, np.concatenate([np.zeros(0, np.int64), *names])


def _unsure(video: ReviewVideo, document: ReviewDocument, place: dict[int, int]) -> list[Error]:
    """Return labels with scores near their thresholds, nearest first."""
    thresholds = _thresholds(document)
    kind = ERROR_KINDS.index(UNSURE)
    closest = np.zeros(0)
    errors = np.zeros((0, 5), np.int64)
    for track in video.tracks:
        margin = np.abs(track.action_scores - thresholds)
        row, column = np.nonzero(margin < UNSURE_MARGIN)
        numbers = np.array([place[time_us_of(t)] for t in track.times_s.tolist()], np.int64)
        scores = np.rint(1000 * track.action_scores[row, column].astype(np.float64))
        same = np.ones(len(row), np.int64)
        mine = (numbers[row], kind * same, column, scores, track.track_id * same)
        errors = np.concatenate([errors, np.stack(mine, axis=1).astype(np.int64)])
        closest = np.concatenate([closest, margin[row, column]])
        order = np.argsort(closest, kind="stable")[:MAX_ENTRIES]
        closest, errors = closest[order], errors[order]
    return [(k, kind, column, score, who) for k, kind, column, score, who in errors.tolist()]


def _thresholds(document: ReviewDocument) -> NDArray[np.float64]:
    """Return the (A,) thresholds at which the page opens."""
    ids = document.label_map.ids
    given = [document.class_thresholds.get(i, document.score_threshold) for i in ids]
    moved = document.opening.slider - document.score_threshold
    return np.clip(np.array(given, np.float64) + moved, 0, 1)
