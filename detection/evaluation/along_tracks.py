"""Rows of a detections file, scored along tracks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows, check_meets_frame, check_probabilities
from detection.errors import at_row
from detection.evaluation.evaluator import rows_of
from detection.evaluation.matching import distinct
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap
from detection.tracking.scoring import TrackScoring, score_along_tracks


def rows_along_tracks(
    rows: AvaRows,
    label_map: LabelMap,
    how: TrackScoring,
    *,
    keyframes: Iterable[Keyframe] = (),
) -> AvaRows:
    """Return detections with scores along tracks, as one row for each box and class.

    rows: with scores; rows of one box are one person. A class that a box has no row of counts as
    0; one that no box of a track has a row of stays without. Where the file numbers tracks, those
    count, else boxes are linked. keyframes: those that will be scored, at which misses can be
    filled. Raises `UserError` with file and line where a track has two boxes at a keyframe, for a
    score that is no probability, and for a box outside the frame wholly.
    """
    check_probabilities(rows)
    check_meets_frame(rows)
    check_tracks(rows)
    places = [label_map.index_by_id.get(i, -1) for i in rows.action_id.tolist()]
    columns = np.array(places, np.int64)
    known, columns = rows.select(columns >= 0), columns[columns >= 0]
    found, tracks = by_keyframe(known, columns, len(label_map))
    numbered = tracks if rows.track_id is not None else None
    scored = score_along_tracks(found, how, keyframes=keyframes, tracks=numbered)
    new = rows_of(scored, label_map)
    assert new.score is not None
    # Of sigmoids none is 0: such a class has no row in the whole track.
    return replace(new.select(new.score > 0), path=rows.path, warnings=rows.warnings)


def check_tracks(rows: AvaRows) -> None:
    """Raise `UserError` with file and line where a track has several boxes at a keyframe.

    Of rows with tracks none may be without.
    """
    if rows.track_id is None or not len(rows):
        return
    without = np.flatnonzero(rows.track_id < 0)
    if len(without):
        raise at_row(
            rows.path,
            int(rows.line[without[0]]) or None,
            f"no track ({len(without):,} of {len(rows):,} rows are without); a track_id from 0 on "
            "is required in each row, or in none",
        )
    stamps = np.stack([rows.video_index.astype(np.int64), rows.time_us, rows.track_id], axis=1)
    _, of_row = np.unique(stamps, axis=0, return_inverse=True)
    boxes = distinct(of_row.reshape(-1).astype(np.int32), rows.boxes_01)
    counts = np.bincount(boxes.key)
    several = np.flatnonzero(counts[boxes.key[boxes.of_row]] > 1)
    if not len(several):
        return
    first = int(several[0])
    here = boxes.key[boxes.of_row] == boxes.key[boxes.of_row[first]]
    second = int(np.flatnonzero(here & (boxes.of_row != boxes.of_row[first]))[0])
    num = int(counts[boxes.key[boxes.of_row[first]]])
    raise at_row(
        rows.path,
        int(rows.line[second]) or None,
        f"track {rows.track_id[first]} has {num} boxes at {rows.keyframe(first)}; a track has one "
        "at a keyframe (rows of one box have its corners alike)",
    )


def by_keyframe(
    rows: AvaRows, columns: NDArray[np.int64], classes: int
) -> tuple[list[Detections], dict[Keyframe, NDArray[np.int64]]]:
    """Return rows as detections, whose people have a score of 1, and the track of each box.

    columns: (M,) of the class of each row.
    """
    assert rows.score is not None
    stamps = np.stack([rows.video_index.astype(np.int64), rows.time_us], axis=1)
    _, first, key = np.unique(stamps, axis=0, return_index=True, return_inverse=True)
    if rows.track_id is None:
        boxes = distinct(key.reshape(-1).astype(np.int32), rows.boxes_01)
    else:  # two people may have the same box
        pairs = np.stack([key.reshape(-1), rows.track_id], axis=1)
        both, of_row = np.unique(pairs, axis=0, return_inverse=True)
        boxes = distinct(of_row.reshape(-1).astype(np.int32), rows.boxes_01)
        boxes = replace(boxes, key=both[boxes.key, 0].astype(np.int32))
    scores = np.zeros((len(boxes), classes), np.float32)
    np.maximum.at(scores, (boxes.of_row, columns), rows.score.astype(np.float32))
    track = np.zeros(len(boxes), np.int64)
    if rows.track_id is not None:
        track[boxes.of_row] = rows.track_id
    found, tracks = [], {}
    ends = np.searchsorted(boxes.key, np.arange(len(first) + 1))  # they are sorted by keyframe
    for number, row in enumerate(first.tolist()):
        mine = slice(ends[number], ends[number + 1])
        keyframe = rows.keyframe(row)
        corners = boxes.xyxy_01[mine].astype(np.float32)
        people = ActorBoxes(corners, np.ones(len(corners), np.float32))
        found.append(Detections(keyframe, people, scores[mine]))
        tracks[keyframe] = track[mine]
    return found, tracks
