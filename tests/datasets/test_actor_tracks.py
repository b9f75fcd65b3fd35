"""Boxes of a table by person, and where people are between keyframes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets.actor_table import build_actor_table
from detection.datasets.actor_tracks import track_actors
from detection.datasets.ava_csv import AvaRows, read_ground_truth
from detection.errors import UserError
from detection.structures import Keyframe, LabelMap
from detection.tracking.paths import boxes_along

LABELS = LabelMap(("sit", "walk"), (11, 14))


def table_of(rows, *, ids=True):
    """Rows of (video, seconds, left edge, person)."""
    keys = [Keyframe(video, time_s) for video, time_s, _, _ in rows]
    boxes = [[left, 0.2, left + 0.1, 0.8] for _, _, left, _ in rows]
    people = [person for *_, person in rows] if ids else None
    rows = AvaRows.from_rows(keys, boxes_01=boxes, action_id=[11] * len(keys), person_id=people)
    return build_actor_table(rows, LABELS)


CROSSING = [
    ("a", 1.0, 0.1, 5), ("a", 1.0, 0.5, 2), ("a", 2.0, 0.3, 2), ("a", 2.0, 0.31, 5),
    ("b", 1.0, 0.9, 5), ("a", 3.0, 0.1, 2),
]  # fmt: skip


def test_people_of_one_id_are_followed_within_their_video():
    table = table_of(CROSSING)
    tracks = track_actors(table)
    found = tracks.boxes_at(0, np.array([0.5, 1.5, 2.5]))
    assert table.keyframe(0) == Keyframe("a", 1.0)
    assert np.allclose(found[0, :, 0], [0.1, 0.205, 0.31])  # person 5, who is not seen at 3 s
    assert np.allclose(found[1, :, 0], [0.5, 0.4, 0.2])
    assert np.allclose(found[..., 2] - found[..., 0], 0.1)
    last = len(table) - 1
    assert np.allclose(tracks.boxes_at(last, np.array([1.0, 2.0]))[0, :, 0], [0.9, 0.9])


def test_without_ids_boxes_that_are_near_are_linked():
    rows = [("a", 0.2 * i, 0.1 + 0.02 * i, 0) for i in range(5)]
    rows += [("a", 0.2 * i, 0.8 - 0.02 * i, 0) for i in range(5)]
    tracks = track_actors(table_of(rows, ids=False))
    found = tracks.boxes_at(2, np.array([0.0, 0.1, 0.8]))
    assert np.allclose(sorted(found[:, 1, 0]), [0.11, 0.79])
    assert np.allclose(sorted(found[:, 2, 0]), [0.18, 0.72])


@settings(deadline=None, max_examples=80)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from("ab"), st.integers(0, 6), st.integers(0, 3)),
        st.floats(0, 0.8),
        min_size=1,
        max_size=20,
    ),
    st.randoms(use_true_random=False),
)
def test_paths_are_those_of_each_persons_rows_whatever_their_order(placed, random):
    rows = [(video, float(time), left, person) for (video, time, person), left in placed.items()]
    random.shuffle(rows)
    table = table_of(rows)
    tracks, times_s = track_actors(table), np.array([-1.0, 0.25, 2.5, 6.0])
    for position in range(len(table)):
        key = table.keyframe(position)
        found = tracks.boxes_at(position, times_s)
        here = [row for row in rows if (row[0], row[1]) == (key.video_id, key.time_s)]
        assert found.shape == (len(here), 4, 4)
        assert np.allclose([f[0] for f in table.boxes(position).xyxy_01], [r[2] for r in here])
        for path, (video, _, _, person) in zip(found, here, strict=True):
            mine = sorted(row[1:3] for row in rows if (row[0], row[3]) == (video, person))
            known_s = np.array([time_s for time_s, _ in mine])
            boxes = np.array([[left, 0.2, left + 0.1, 0.8] for _, left in mine])
            assert np.allclose(path, boxes_along(times_s, known_s, boxes), atol=1e-6)


def test_a_keyframe_without_people_has_none_to_follow(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,1.0\na,2.0,0.1,0.1,0.3,0.9,11,0\n")
    table = build_actor_table(read_ground_truth(path), LABELS, keep_empty=True)
    assert track_actors(table).boxes_at(0, np.zeros(3)).shape == (0, 3, 4)


def test_a_person_with_two_boxes_at_a_keyframe_is_named_with_the_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,1.0,0.1,0.1,0.3,0.9,11,4\na,1.0,0.5,0.1,0.7,0.9,14,4\n")
    table = build_actor_table(read_ground_truth(path), LABELS)
    with pytest.raises(UserError, match=r"a\.csv:2: a at 1\.0.* person 4 has two boxes there"):
        track_actors(table)
