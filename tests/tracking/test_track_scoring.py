"""Scores along tracks against a slow twin, and what becomes of misses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets.ava_csv import AvaRows
from detection.errors import UserError
from detection.evaluation.along_tracks import rows_along_tracks
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap
from detection.tracking.scoring import TrackScoring, score_along_tracks

LEFT, RIGHT = (0.1, 0.2, 0.3, 0.9), (0.6, 0.2, 0.8, 0.9)
LABELS = LabelMap(("walk", "talk"), (1, 7))


def same(found, expected, atol=1e-6) -> bool:
    """Say whether as many numbers are nearly equal: `np.allclose` takes none for any."""
    found, expected = np.asarray(found), np.asarray(expected)
    return found.shape == expected.shape and np.allclose(found, expected, atol=atol)


def at(time_s: float, *people: tuple, video: str = "v", classes: int = 2) -> Detections:
    """Detections of (box, person's score, action scores)."""
    boxes = ActorBoxes([box for box, _, _ in people], [score for _, score, _ in people])
    scores = np.array([scores for _, _, scores in people], np.float32).reshape(-1, classes)
    return Detections(Keyframe(video, time_s), boxes, scores)


def slow_means(found, tracks, reach_s):
    """Every average by its definition: one person, one keyframe, one score at a time."""
    means = []
    for one in found:
        rows = []
        for number in tracks[one.keyframe].tolist():
            total, weights = np.zeros(one.action_scores.shape[1] + 1), 0.0
            for other in found:
                weight = max(0.0, 1 - abs(other.keyframe.time_s - one.keyframe.time_s) / reach_s)
                for place, theirs in enumerate(tracks[other.keyframe].tolist()):
                    if theirs == number and weight:
                        values = [*other.action_scores[place], other.boxes.score[place]]
                        total, weights = total + weight * np.array(values), weights + weight
            rows.append(total / weights)
        means.append(rows)
    return means


@settings(max_examples=60, deadline=None)
@given(data=st.data(), reach_s=st.sampled_from([0.3, 1.0, 2.5, 1e6, np.inf]))
def test_means_are_those_of_a_slow_twin(data, reach_s):
    times = sorted(data.draw(st.sets(st.integers(0, 12), max_size=8)))
    found, tracks = [], {}
    score = st.floats(0, 1, width=32)
    for time in times:
        numbers = sorted(data.draw(st.sets(st.integers(1, 3), max_size=3)))
        people = [(LEFT, data.draw(score), [data.draw(score), data.draw(score)]) for _ in numbers]
        found.append(at(time / 4, *people))
        tracks[found[-1].keyframe] = np.array(numbers, np.int64)
    scored = score_along_tracks(found, TrackScoring(reach_s=reach_s), tracks=tracks)
    for new, rows in zip(scored, slow_means(found, tracks, reach_s), strict=True):
        ours = np.concatenate([new.action_scores, new.boxes.score[:, None]], axis=1)
        assert same(ours, np.array(rows).reshape(ours.shape), atol=1e-5)


def test_people_are_linked_by_their_boxes_within_a_video():
    found = [
        at(1.0, (RIGHT, 0.4, [0.0, 0.2]), (LEFT, 0.9, [0.8, 0.0])),
        at(0.0, (LEFT, 0.5, [0.4, 0.0]), (RIGHT, 0.6, [0.0, 0.6])),
        at(0.0, (LEFT, 1.0, [1.0, 1.0]), video="w"),
    ]
    first, second, other = score_along_tracks(found, TrackScoring())
    assert [one.keyframe for one in (first, second, other)] == [
        Keyframe("v", 0.0), Keyframe("v", 1.0), Keyframe("w", 0.0),
    ]  # fmt: skip
    assert same(first.action_scores, [[0.6, 0], [0, 0.4]])
    assert same(second.action_scores, [[0, 0.4], [0.6, 0]])
    assert same(first.boxes.score, [0.7, 0.5])
    assert same(other.action_scores, [[1, 1]])


def test_nothing_stays_nothing():
    assert score_along_tracks([], TrackScoring()) == []
    for fill in ("none", "between", "whole-video"):
        found = [at(0.0), at(1.0)]
        scored = score_along_tracks(found, TrackScoring(fill=fill))
        assert [len(one.boxes) for one in scored] == [0, 0]
        assert scored[0].action_scores.shape == (0, 2)


def test_misses_between_two_boxes_are_interpolated_and_those_at_the_ends_are_not():
    moved = (0.3, 0.2, 0.5, 0.9)
    found = [
        at(0.0), at(1.0, (LEFT, 0.9, [0.8, 0])), at(1.5), at(3.0, (moved, 0.7, [0.4, 0])), at(4.0),
    ]  # fmt: skip
    scored = score_along_tracks(found, TrackScoring(fill="between"))
    assert [len(one.boxes) for one in scored] == [0, 1, 1, 1, 0]
    filled = scored[2]
    assert same(filled.boxes.xyxy_01, [(0.15, 0.2, 0.35, 0.9)])
    assert same(filled.boxes.score, [0.8]) and same(filled.action_scores, [[0.6, 0]])
    assert same(scored[1].boxes.score, [0.8]), "a filled box counts for nobody"


def test_misses_to_the_ends_repeat_the_box_and_weigh_what_was_seen():
    found = [at(0.0), at(1.0, (LEFT, 0.8, [0.6, 0.1])), at(2.0), at(3.0)]
    scored = score_along_tracks(found, TrackScoring(fill="whole-video"))
    for one in scored:
        assert same(one.boxes.xyxy_01, [LEFT])
        assert same(one.boxes.score, [0.8 * np.sqrt(1 / 4)])
        assert same(one.action_scores, [[0.6, 0.1]])


def test_a_filled_box_out_of_reach_of_its_track_is_left_out():
    found = [at(t, *([(LEFT, 1, [1, 1])] if t in (0.0, 2.0) else [])) for t in (0.0, 0.4, 1.0, 2.0)]
    scored = score_along_tracks(found, TrackScoring(reach_s=0.5, fill="between"))
    assert [len(one.boxes) for one in scored] == [1, 1, 0, 1]
    assert all(np.isfinite(one.action_scores).all() for one in scored)


def test_a_track_with_two_boxes_at_a_keyframe_is_refused():
    one = at(2.0, (LEFT, 1, [1, 1]), (RIGHT, 1, [1, 1]))
    with pytest.raises(UserError, match=r"^v at 2.000 s: track 4 has 2 boxes, a track has one"):
        score_along_tracks([one], TrackScoring(), tracks={one.keyframe: np.array([4, 4])})


@pytest.mark.parametrize("wrong", [{"reach_s": 0.0}, {"max_gap_s": -1.0}, {"fill": "all"}])
def test_values_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError):
        TrackScoring(**wrong)


def rows(*lines: tuple, track: bool = False) -> AvaRows:
    """Rows of (video, time, box, class id, score, track)."""
    return AvaRows.from_rows(
        [Keyframe(line[0], line[1]) for line in lines],
        boxes_01=np.array([line[2] for line in lines], np.float64).reshape(-1, 4),
        action_id=[line[3] for line in lines],
        score=[line[4] for line in lines],
        track_id=[line[5] for line in lines] if track else None,
    )


def test_rows_of_a_box_are_one_person_and_classes_without_a_row_count_as_0():
    found = rows(
        ("v", 0.0, LEFT, 1, 0.8), ("v", 1.0, LEFT, 1, 0.4), ("v", 1.0, LEFT, 7, 0.2),
        ("v", 0.0, RIGHT, 1, 0.1), ("v", 1.0, RIGHT, 99, 0.5),
    )  # fmt: skip
    new = rows_along_tracks(found, LABELS, TrackScoring())
    got = sorted(
        (time / 1e6, round(box[0], 3), action, round(score, 6))
        for time, box, action, score in zip(
            new.time_us.tolist(), new.boxes_01.tolist(), new.action_id.tolist(),
            new.score.tolist(), strict=True,
        )
    )  # fmt: skip
    assert got == [
        (0.0, 0.1, 1, 0.6), (0.0, 0.1, 7, 0.1), (0.0, 0.6, 1, 0.1),
        (1.0, 0.1, 1, 0.6), (1.0, 0.1, 7, 0.1),
    ]  # fmt: skip


def test_the_files_own_tracks_count_and_other_keyframes_can_be_filled():
    lines = [("v", 0.0, LEFT, 1, 0.8, 3), ("v", 1.0, RIGHT, 1, 0.4, 3)]
    assert same(rows_along_tracks(rows(*lines), LABELS, TrackScoring()).score, [0.8, 0.4])
    new = rows_along_tracks(
        rows(*lines, track=True), LABELS, TrackScoring(fill="between"),
        keyframes=[Keyframe("v", 0.5), Keyframe("v", 1.0), Keyframe("w", 0.0)],
    )  # fmt: skip
    assert new.time_us.tolist() == [0, 500_000, 1_000_000] and same(new.score, [0.6] * 3)
    assert same(new.boxes_01[1], np.add(LEFT, RIGHT) / 2)


def test_two_people_of_one_box_stay_two_where_tracks_say_so():
    lines = [("v", 0.0, LEFT, 1, 0.8, 3), ("v", 0.0, LEFT, 1, 0.2, 5), ("v", 0.0, LEFT, 7, 0.4, 5),
             ("v", 1.0, LEFT, 1, 0.4, 3), ("v", 1.0, RIGHT, 1, 0.6, 5)]  # fmt: skip
    new = rows_along_tracks(rows(*lines, track=True), LABELS, TrackScoring())
    columns = new.boxes_01[:, 0].round(1), new.action_id, new.score.round(6)
    got = list(zip(*(column.tolist() for column in columns), strict=True))
    assert sorted(got[:3]) == [(0.1, 1, 0.4), (0.1, 1, 0.6), (0.1, 7, 0.2)]
    assert sorted(got[3:]) == [(0.1, 1, 0.6), (0.6, 1, 0.4), (0.6, 7, 0.2)]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([("v", 0, LEFT, 1, 0.8, 3), ("w", 0, RIGHT, 1, 0.8, 3)], None),
        ([("v", 0, LEFT, 1, 0.8, 3), ("v", 1, RIGHT, 1, 0.8, 3)], None),
        ([("v", 0, LEFT, 1, 0.8, 3), ("v", 0, RIGHT, 1, 0.8, 4)], None),
        ([("v", 0, LEFT, 1, 0.8, 3), ("v", 0, RIGHT, 7, 0.8, 3)], "track 3 has 2 boxes at v at 0"),
        ([("v", 0, box, 1, 0.8, 4) for box in (LEFT, RIGHT, (0, 0, 1, 1))], "track 4 has 3 boxes"),
        ([("v", 0, LEFT, 1, 0.8, 3), ("v", 1, LEFT, 1, 0.8, -1)], r"no track \(1 of 2 rows"),
    ],
)
def test_a_track_has_one_box_at_a_keyframe_of_a_video(lines, words):
    found = rows(*lines, track=True)
    if words is None:
        assert len(rows_along_tracks(found, LABELS, TrackScoring())) == len(lines)
        return
    with pytest.raises(UserError, match=rf"^\(memory\): {words}"):
        rows_along_tracks(found, LABELS, TrackScoring())


@pytest.mark.parametrize("box", [(-0.4, 0.1, -0.2, 0.5), (0.1, -2, 0.3, -1), (0.1, 1.1, 0.2, 1.3)])
def test_a_box_beside_the_frame_has_no_place_in_a_track(box):
    with pytest.raises(
        UserError, match=r"\(memory\): the box .* lies outside the frame wholly; fra"
    ):
        rows_along_tracks(
            rows(("v", 0, LEFT, 1, 0.8), ("v", 1, box, 1, 0.8)), LABELS, TrackScoring()
        )
    touching = tuple(np.clip(box, -0.5, 1.5) * 0.5 + 0.25)
    assert len(rows_along_tracks(rows(("v", 0, touching, 1, 0.8)), LABELS, TrackScoring())) == 1


def test_a_file_without_rows_stays_without():
    assert len(rows_along_tracks(rows(), LABELS, TrackScoring(), keyframes=[Keyframe("v", 0)])) == 0
