"""Links the boxes of a person box file over time, for everything that shows or labels people.

Legend: R rows of one video.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows
from detection.structures import ActorBoxes
from detection.tracking.tracker import Tracker, link_boxes

# A weaker box can continue a track but not start one: this share of the least score.
_KEEP_SHARE = 0.6


@dataclass(frozen=True)
class LinkedBoxes:
    """The rows of one video as tracks.

    tracks: rows of each track by its number (from 1 on), in order of time.
    loose: number of boxes that belong to no track: below the least score.
    short: number of tracks that are left out, shorter than the least length.
    """

    tracks: Mapping[int, NDArray[np.int64]]
    loose: int
    short: int


def link_person_boxes(
    rows: AvaRows, *, least_score: float, least_length: int = 1, max_gap_s: float = 2.0
) -> LinkedBoxes:
    """Link the (R,) boxes of one video; the same rows always give the same tracks.

    least_score: lowest person score that starts a track.
    least_length: tracks of fewer boxes are left out.
    max_gap_s: a track without boxes for longer ends.
    """
    if rows.score is None:
        raise ValueError("person boxes need scores")
    order = np.argsort(rows.time_us, kind="stable")
    times_us, first = np.unique(rows.time_us[order], return_index=True)
    places = np.split(order, first[1:])
    score = rows.score.astype(np.float32)
    frames = [
        (time_us / 1e6, ActorBoxes(rows.boxes_01[here].astype(np.float32), score[here]))
        for time_us, here in zip(times_us.tolist(), places, strict=False)
    ]
    tracker = Tracker(
        start_score=least_score, keep_score=least_score * _KEEP_SHARE, max_gap_s=max_gap_s
    )
    tracks: dict[int, list[int]] = {}
    loose = 0
    for here, numbers in zip(places, link_boxes(frames, tracker), strict=False):
        for row, number in zip(here.tolist(), numbers.tolist(), strict=True):
            if number < 0:
                loose += 1
            else:
                tracks.setdefault(number, []).append(row)
    long = {number: found for number, found in tracks.items() if len(found) >= least_length}
    kept = {number: np.array(found, np.int64) for number, found in long.items()}
    return LinkedBoxes(kept, loose, len(tracks) - len(kept))
