"""Misses of tracks filled keyframe by keyframe, against a slow twin that knows them all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.tracking.events import TrackedKeyframe
from detection.tracking.filling import MissFiller
from detection.tracking.scoring import TrackScorer, TrackScoring


def keyframe(time_s, boxes):
    """Return a keyframe of {track: x1 of its box}; scores are the track's number over 10."""
    tracks = np.array(list(boxes), np.int64)
    places = [(x, 0.2, x + 0.1, 0.9) for x in boxes.values()]
    scores = (tracks[:, None] / np.array([10, 20])).astype(np.float32).reshape(-1, 2)
    corners = np.array(places, np.float32).reshape(-1, 4)
    return TrackedKeyframe(time_s, tracks, corners, scores[:, 0], scores)


def fill(keyframes, how, max_gap_s=np.inf):
    filler = MissFiller(how, max_gap_s=max_gap_s)
    return [done for each in keyframes for done in filler.feed(each)] + list(filler.finish())


def slowly(keyframes, how, max_gap_s):
    """Return, by keyframe, {track: x1 where it was missed}: by the definition, all being known."""
    seen = {}  # of each track: times and places
    for each in keyframes:
        for track, box in zip(each.track.tolist(), each.boxes_01, strict=True):
            seen.setdefault(track, []).append((each.time_s, float(box[0])))
    added = []
    for each in keyframes:
        here = {}
        for track, known in sorted(seen.items()):
            before = [place for place in known if place[0] < each.time_s]
            after = [place for place in known if place[0] > each.time_s]
            if track in each.track.tolist():
                continue
            if before and after:
                (start_s, first), (end_s, last) = before[-1], after[0]
                if end_s - start_s <= max_gap_s + 1e-9:
                    share = (each.time_s - start_s) / (end_s - start_s)
                    here[track] = first + share * (last - first)
            elif how == "whole-video":
                here[track] = before[-1][1] if before else after[0][1]
        added.append(here)
    return added


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(0, 12), max_gap_s=st.sampled_from([0.5, 1, 2])
)
@pytest.mark.parametrize("how", ["none", "between", "whole-video"])
def test_what_is_added_is_what_a_slow_twin_adds(how, seed, count, max_gap_s):
    generator = np.random.default_rng(seed)
    keyframes = [
        keyframe(
            time_s,
            {t: generator.uniform(0, 0.9) for t in generator.permutation([1, 2, 3]).tolist()
             if generator.random() < 0.4},
        )
        for time_s in np.cumsum(generator.choice([0.25, 0.5, 0.75], count)).tolist()
    ]  # fmt: skip
    max_gap_s = np.inf if how == "whole-video" else max_gap_s
    done = fill(keyframes, how, max_gap_s)
    assert [each.time_s for each in done] == [each.time_s for each in keyframes]
    expected = slowly(keyframes, how, max_gap_s) if how != "none" else [{}] * count
    for each, raw, here in zip(done, keyframes, expected, strict=True):
        own = len(raw.track)
        assert each.track.tolist() == [*raw.track.tolist(), *here]
        assert each.boxes_01[own:, 0] == pytest.approx(list(here.values()), abs=1e-6)
        assert each.boxes_01.shape == (len(each.track), 4)
        assert np.isnan(each.scores[own:]).all() and np.isnan(each.person_score[own:]).all()
        assert np.array_equal(each.scores[:own], raw.scores)
        if how != "none":
            assert each.seen.tolist() == [True] * own + [False] * len(here)


def waiting(scorer, frames):
    """Return the times that come out as each keyframe is fed, and at the end."""
    out = [[k.time_s for k in scorer.feed(keyframe(t / 2, boxes))] for t, boxes in frames]
    return [*out, [k.time_s for k in scorer.finish()]]


def test_a_keyframe_comes_out_as_soon_as_nothing_can_be_added():
    there, away = {1: 0.1}, {}
    frames = list(enumerate([there, away, away, there, away, away, away, there]))
    filler = MissFiller("between", max_gap_s=1.5)
    # The second miss lasts 2 s: its keyframes come out once 1.5 s have passed.
    assert waiting(filler, frames) == [
        [0.0], [], [], [0.5, 1.0, 1.5], [], [], [], [2.0, 2.5, 3.0, 3.5], [],
    ]  # fmt: skip
    filled = fill([keyframe(t / 2, boxes) for t, boxes in frames], "between", 1.5)
    assert [each.track.tolist() for each in filled] == [[1]] * 4 + [[]] * 3 + [[1]]


def test_scores_wait_for_the_reach_and_for_who_is_missed_and_no_longer():
    there, away = {1: 0.1}, {}
    frames = list(enumerate([there, there, there, away, there, there, there]))
    how = TrackScoring(0.5, "between", max_gap_s=2.0)
    assert how.look_ahead_s == 2.5
    assert waiting(TrackScorer(how, max_gap_s=2.0), frames) == [
        [], [0.0], [0.5], [], [1.0, 1.5], [2.0], [2.5], [3.0],
    ]  # fmt: skip
    alone = TrackScoring(0.5)
    assert alone.look_ahead_s == 0.5
    assert waiting(TrackScorer(alone), frames)[3] == [1.0], (
        "a miss that is not filled holds none up"
    )


def test_nobody_is_missed_where_nobody_is():
    for how in ("none", "between", "whole-video"):
        done = fill([keyframe(0.0, {}), keyframe(1.0, {})], how)
        assert [each.boxes_01.shape for each in done] == [(0, 4), (0, 4)]
        assert fill([], how) == []
