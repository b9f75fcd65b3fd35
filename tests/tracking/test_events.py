"""Smoothing along a track against the plain formula; events with two thresholds, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.tracking.events import (
    ActionEvent,
    EventFinder,
    ScoreSmoother,
    TrackedKeyframe,
    one_of_each_group,
)


def keyframe(time_s, scores):
    """Return a keyframe of {track: scores of each class}."""
    tracks = np.array(list(scores), np.int64)
    count = len(tracks)
    rows = np.array([scores[t] for t in tracks.tolist()], np.float32).reshape(
        count, -1 if count else 2
    )
    return TrackedKeyframe(
        time_s, tracks, np.zeros((count, 4), np.float32), np.ones(count, np.float32), rows
    )


def smooth(keyframes, reach_s):
    smoother = ScoreSmoother(reach_s)
    out = [done for each in keyframes for done in smoother.feed(each)]
    return out + list(smoother.finish())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.4, 1.0, 2.5]), st.integers(0, 12))
def test_smoothing_is_the_weighted_mean_of_the_tracks_own_keyframes(seed, reach_s, count):
    generator = np.random.default_rng(seed)
    times_s = np.cumsum(generator.choice([0.2, 0.5, 3.0], count))
    keyframes = []
    for time_s in times_s.tolist():
        present = [t for t in (1, 2, 3) if generator.random() < 0.6]
        keyframes.append(keyframe(time_s, {t: generator.random(2) for t in present}))
    done = smooth(keyframes, reach_s)
    assert [each.time_s for each in done] == times_s.tolist()
    for each, raw in zip(done, keyframes, strict=True):
        for row, track in enumerate(raw.track.tolist()):
            total, weights = np.zeros(2), 0.0
            for other in keyframes:
                weight = 1 - abs(other.time_s - raw.time_s) / reach_s if reach_s else 0.0
                for r in np.flatnonzero(other.track == track):
                    total += max(weight, 0) * other.scores[r]
                    weights += max(weight, 0)
            expected = total / weights if reach_s else raw.scores[row]
            assert each.scores[row] == pytest.approx(expected, abs=1e-6)


def test_a_keyframe_comes_out_as_soon_as_nothing_can_change_it():
    smoother = ScoreSmoother(1.0)
    waiting = [list(smoother.feed(keyframe(t / 2, {1: [0.5]}))) for t in range(5)]
    assert [[k.time_s for k in some] for some in waiting] == [[], [], [0.0], [0.5], [1.0]]


def events(
    rows, *, on=0.6, off=0.4, max_gap_s=1.0, top_k=None, names=("wave", "sit"), exclusive=()
):
    finder = EventFinder(
        "clip",
        names,
        tuple(range(10, 10 + len(names))),
        on=np.full(len(names), on) if np.ndim(on) == 0 else on,
        off=np.full(len(names), off) if np.ndim(off) == 0 else off,
        interval_s=0.5,
        max_gap_s=max_gap_s,
        top_k=top_k,
        exclusive=exclusive,
    )
    found = [event for time_s, scores in rows for event in finder.feed(keyframe(time_s, scores))]
    return found + finder.finish()


def test_no_flicker_between_the_thresholds_and_none_without_the_upper():
    scores = [0.3, 0.5, 0.7, 0.5, 0.59, 0.41, 0.65, 0.39, 0.55, 0.5, 0.3]
    found = events([(0.5 * i, {4: [s, 0.0]}) for i, s in enumerate(scores)])
    assert found == [ActionEvent("clip", 4, "wave", 10, 0.25, 3.25, 0.7)] or found == [
        ActionEvent("clip", 4, "wave", 10, 0.25, 3.25, pytest.approx(0.7, abs=1e-6))
    ]
    alone = events([(0.5 * i, {4: [s, 0.0]}) for i, s in enumerate(scores)], off=0.6)
    assert len(alone) == 2, "one threshold flickers: the case is one that needs two"


def test_a_person_away_for_long_ends_and_no_person_is_nothing():
    assert events([]) == [] and events([(0.0, {}), (0.5, {})]) == []
    rows = [(0.0, {1: [0.9, 0.9]}), (1.0, {1: [0.9, 0.1]}), (2.5, {1: [0.9, 0.1]}), (3.0, {})]
    spans = [(e.action, e.start_s, e.end_s) for e in events(rows)]
    assert sorted(spans) == [("sit", 0, 0.25), ("wave", 0, 1.25), ("wave", 2.25, 2.75)]


def test_top_k_is_how_many_go_on_at_a_time():
    rows = [(0.5 * i, {1: [0.8, 0.7]}) for i in range(3)]
    assert {e.action for e in events(rows)} == {"wave", "sit"}
    assert {e.action for e in events(rows, top_k=1)} == {"wave"}
    rows += [(1.5 + 0.5 * i, {1: [0.7, 0.8]}) for i in range(3)]
    spans = [(e.action, e.start_s, e.end_s) for e in events(rows, top_k=1)]
    assert spans == [("wave", 0, 1.25), ("sit", 1.25, 2.75)]


@pytest.mark.parametrize(("score", "number"), [(0.5, 1), (0.75, 1), (0.4375, 0)])
def test_a_score_equal_to_its_threshold_begins_an_event(score, number):
    """0.5 and 0.75 are exact in both precisions; just below is none."""
    assert len(events([(0.0, {1: [score, 0.0]})], on=min(score, 0.5) if number else 0.5)) == number
    assert len(events([(0.0, {1: [0.5, 0.0]})], on=0.5, off=0.5)) == 1


def test_a_score_equal_to_the_lower_threshold_goes_on():
    rows = [(0.0, {1: [0.75, 0.0]}), (0.5, {1: [0.25, 0.0]}), (1.0, {1: [0.75, 0.0]})]
    assert [(e.start_s, e.end_s) for e in events(rows, on=0.5, off=0.25)] == [(0.0, 1.25)]
    assert len(events(rows, on=0.5, off=0.2500001)) == 2


def test_a_person_away_for_exactly_the_gap_goes_on():
    rows = [(0.0, {1: [0.75, 0.0]}), (1.0, {1: [0.75, 0.0]})]
    assert len(events(rows, max_gap_s=1.0)) == 1
    assert len(events(rows, max_gap_s=0.9375)) == 2


def test_smoothing_leaves_out_what_is_exactly_at_its_reach():
    rows = [keyframe(0.0, {1: [1.0]}), keyframe(1.0, {1: [0.0]})]
    assert [k.scores[0, 0] for k in smooth(rows, 1.0)] == [1.0, 0.0]
    assert smooth(rows, 2.0)[0].scores[0, 0] == pytest.approx(2 / 3)


def test_of_a_group_the_likeliest_alone_goes_on():
    """Both reach their thresholds; without the group both are events."""
    rows = [(0.5 * i, {1: [0.8, 0.7]}) for i in range(3)]
    rows += [(1.5 + 0.5 * i, {1: [0.7, 0.8]}) for i in range(3)]
    assert {e.action for e in events(rows)} == {"wave", "sit"}
    spans = [(e.action, e.start_s, e.end_s) for e in events(rows, exclusive=((0, 1),))]
    assert spans == [("wave", 0, 1.25), ("sit", 1.25, 2.75)]


def test_other_groups_and_classes_in_none_go_on_beside():
    names = ("stand", "sit", "wave", "talk", "listen")
    rows = [(0.0, {1: [0.7, 0.9, 0.8, 0.65, 0.6], 2: [0.9, 0.1, 0.1, 0.1, 0.7]})]
    found = events(rows, names=names, exclusive=((0, 1), (4, 3)))
    assert {(e.track, e.action) for e in found} == {
        (1, "sit"), (1, "wave"), (1, "talk"), (2, "stand"), (2, "listen"),
    }  # fmt: skip


def test_a_likelier_class_below_its_own_threshold_takes_nothing():
    rows = [(0.0, {1: [0.5, 0.3]})]
    found = events(rows, on=np.array([0.6, 0.2]), off=np.array([0.6, 0.2]), exclusive=((0, 1),))
    assert [e.action for e in found] == ["sit"]


def test_who_never_reaches_the_upper_threshold_takes_nothing_from_who_does():
    """sit is likelier, and above its lower threshold alone; wave is above its upper one."""
    rows = [(0.5 * i, {1: [0.15, 0.20]}) for i in range(3)]
    on, off = np.array([0.06, 0.21]), np.array([0.04, 0.147])
    found = events(rows, on=on, off=off, exclusive=((0, 1),))
    assert [(e.action, e.start_s, e.end_s) for e in found] == [("wave", 0, 1.25)]


def test_an_event_goes_on_until_a_likelier_one_of_its_group_begins():
    scores = [[0.7, 0.3], [0.5, 0.55], [0.5, 0.65], [0.5, 0.45], [0.62, 0.5]]
    found = events([(0.5 * i, {1: s}) for i, s in enumerate(scores)], exclusive=((0, 1),))
    spans = [(e.action, e.start_s, e.end_s) for e in found]
    # sit goes on at 1.5 s, between its thresholds, where wave is likelier and reaches nothing new
    assert spans == [("wave", 0, 0.75), ("sit", 0.75, 1.75), ("wave", 1.75, 2.25)]


@given(st.randoms(use_true_random=False))
def test_one_of_each_group_is_what_a_loop_finds(chance):
    groups = ((3, 0), (1, 4))
    scores = np.array([chance.choice([0.1, 0.4, 0.6, 0.9]) for _ in range(5)])
    may_go_on = scores >= 0.4
    counts = may_go_on & np.array([chance.random() < 0.5 for _ in range(5)])
    left = one_of_each_group(scores, may_go_on, counts, groups)
    for group in groups:
        able = [c for c in group if counts[c]] or [c for c in group if may_go_on[c]]
        best = max(able, key=lambda c: scores[c], default=None)  # the first of equals
        assert [c for c in group if left[c]] == ([] if best is None else [best])
    assert left[2] == may_go_on[2]
