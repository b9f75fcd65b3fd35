"""Boxes of a person box file linked over time: rows, and what is left out is counted."""

from __future__ import annotations

import numpy as np
import pytest

from detection.datasets.ava_csv import AvaRows
from detection.datasets.linked_boxes import link_person_boxes
from detection.structures import Keyframe

LEFT, RIGHT = [0.1, 0.2, 0.3, 0.9], [0.6, 0.2, 0.8, 0.9]


def rows(*found: tuple[float, list[float], float]) -> AvaRows:
    return AvaRows.from_rows(
        [Keyframe("v", time_s) for time_s, _, _ in found],
        boxes_01=[box for _, box, _ in found],
        action_id=[-1] * len(found),
        score=[score for _, _, score in found],
    )


def test_no_rows_no_tracks():
    linked = link_person_boxes(rows(), least_score=0.5)
    assert (dict(linked.tracks), linked.loose, linked.short) == ({}, 0, 0)


def test_tracks_are_rows_in_order_of_time_whatever_the_order_of_the_file():
    given = [(2.0, LEFT, 0.9), (0.0, LEFT, 0.9), (1.0, RIGHT, 0.8), (0.0, RIGHT, 0.9),
             (1.0, LEFT, 0.35), (1.0, [0.0, 0.0, 0.05, 0.05], 0.2)]  # fmt: skip
    linked = link_person_boxes(rows(*given), least_score=0.5)
    assert sorted(track.tolist() for track in linked.tracks.values()) == [[1, 4, 0], [3, 2]]
    assert (linked.loose, linked.short) == (1, 0)
    # 0.35 continues a track (0.6 of 0.5) but starts none.
    alone = link_person_boxes(rows((0.0, LEFT, 0.35)), least_score=0.5)
    assert (len(alone.tracks), alone.loose) == (0, 1)


def test_short_tracks_are_counted():
    given = rows((0.0, LEFT, 0.9), (0.0, RIGHT, 0.9), (1.0, RIGHT, 0.9))
    linked = link_person_boxes(given, least_score=0.5, least_length=2)
    assert [track.tolist() for track in linked.tracks.values()] == [[1, 2]]
    assert (linked.loose, linked.short) == (0, 1)


def test_a_gap_ends_a_track():
    linked = link_person_boxes(rows((0.0, LEFT, 0.9), (2.5, LEFT, 0.9)), least_score=0.5)
    assert len(linked.tracks) == 2
    wide = link_person_boxes(
        rows((0.0, LEFT, 0.9), (2.5, LEFT, 0.9)), least_score=0.5, max_gap_s=3.0
    )
    assert len(wide.tracks) == 1


def test_scores_are_required():
    bare = rows((0.0, LEFT, 0.9))
    with pytest.raises(ValueError, match="scores"):
        link_person_boxes(AvaRows(**{**bare.__dict__, "score": None}), least_score=0.5)
    assert np.array_equal(bare.boxes_01, [LEFT])
