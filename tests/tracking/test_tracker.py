"""Who is who over time: crossings, gaps, weak boxes, and no person at all."""

from __future__ import annotations

import numpy as np
import pytest

from detection.structures import ActorBoxes
from detection.tracking.tracker import Tracker, count_switches, link_boxes


def people(*centres, score=0.9, size=(0.1, 0.3)):
    """Return boxes of one size around (x, y) centres."""
    half = np.array(size) / 2
    boxes = [[*(np.array(c) - half), *(np.array(c) + half)] for c in centres]
    scores = score if isinstance(score, list) else [score] * len(boxes)
    return ActorBoxes(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores))


def test_no_person_and_one_after_none():
    tracker = Tracker()
    assert tracker.update(0.0, ActorBoxes.empty()).shape == (0,)
    assert tracker.update(0.5, people((0.5, 0.5))).tolist() == [1]
    assert tracker.update(1.0, ActorBoxes.empty()).tolist() == []
    assert tracker.update(1.5, people((0.5, 0.5))).tolist() == [1]


def test_a_person_who_walks_keeps_the_number_in_whatever_order_boxes_come():
    tracker = Tracker()
    for step in range(10):
        walker, sitter = (0.1 + 0.08 * step, 0.5), (0.5, 0.45)
        order = [walker, sitter] if step % 2 else [sitter, walker]
        numbers = tracker.update(0.5 * step, people(*order)).tolist()
        if step == 0:
            first = dict(zip(order, numbers, strict=True))
            expected = {"walker": first[walker], "sitter": first[sitter]}
        found = dict(zip(order, numbers, strict=True))
        assert {"walker": found[walker], "sitter": found[sitter]} == expected


def test_motion_tells_two_who_cross_apart():
    def crossing(predict):
        tracker = Tracker(predict_motion=predict)
        seen = []
        for step in range(9):
            left, right = 0.14 + 0.09 * step, 0.86 - 0.09 * step
            seen.append(tracker.update(0.25 * step, people((left, 0.5), (right, 0.5))).tolist())
        return seen

    assert all(numbers == [1, 2] for numbers in crossing(True))
    assert crossing(False)[-1] != [1, 2], "the case is one that needs motion"


@pytest.mark.parametrize(("gap_s", "same"), [(1.0, True), (2.0, True), (2.1, False), (60, False)])
def test_lost_and_found_within_the_gap(gap_s, same):
    tracker = Tracker(max_gap_s=2.0)
    tracker.update(10.0, people((0.5, 0.5)))
    assert (tracker.update(10.0 + gap_s, people((0.52, 0.5)))[0] == 1) == same


def test_weak_boxes_continue_tracks_and_begin_none():
    tracker = Tracker(start_score=0.8, keep_score=0.3)
    assert tracker.update(0.0, people((0.2, 0.5), (0.8, 0.5), score=[0.9, 0.5])).tolist() == [1, -1]
    assert tracker.update(0.5, people((0.2, 0.5), (0.8, 0.5), score=[0.4, 0.9])).tolist() == [1, 2]
    assert tracker.update(1.0, people((0.2, 0.5), score=[0.2])).tolist() == [-1]


def test_a_strong_box_is_not_robbed_by_a_weak_one_that_fits_better():
    tracker = Tracker(start_score=0.8, keep_score=0.3)
    tracker.update(0.0, people((0.5, 0.5)))
    numbers = tracker.update(0.5, people((0.5, 0.5), (0.53, 0.5), score=[0.4, 0.9])).tolist()
    assert numbers == [-1, 1]


def test_far_away_is_another_person():
    tracker = Tracker()
    tracker.update(0.0, people((0.1, 0.5)))
    assert tracker.update(0.5, people((0.9, 0.5))).tolist() == [2]


def test_time_must_go_on():
    tracker = Tracker()
    tracker.update(1.0, ActorBoxes.empty())
    with pytest.raises(ValueError, match="ascend"):
        tracker.update(1.0, ActorBoxes.empty())


def test_variable_times_are_seconds_not_steps():
    """Half the speed at twice the interval is the same motion."""
    tracker = Tracker()
    for time_s in (0.0, 0.1, 0.2, 0.7, 0.75):
        numbers = tracker.update(time_s, people((0.1 + 0.4 * time_s, 0.5), (0.1, 0.9))).tolist()
        assert numbers == [1, 2]


def test_switches_are_counted():
    truth = [np.array([1, 2]), np.array([2, 1]), np.array([1, -1]), np.array([2])]
    found = [np.array([5, 6]), np.array([6, 5]), np.array([6, 9]), np.array([-1])]
    assert count_switches(truth, found) == (1, 3)
    assert count_switches([], []) == (0, 0)
    found = [(0.0, people((0.2, 0.5))), (0.5, people((0.2, 0.5)))]
    assert [n.tolist() for n in link_boxes(found, Tracker())] == [[1], [1]]


def test_scores_equal_to_their_thresholds_begin_and_continue_tracks():
    """0.5 and 0.25 are exact in both precisions."""
    tracker = Tracker(start_score=0.5, keep_score=0.25)
    assert tracker.update(0.0, people((0.5, 0.5), score=[0.5])).tolist() == [1]
    assert tracker.update(0.5, people((0.5, 0.5), score=[0.25])).tolist() == [1]
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    assert Tracker(start_score=0.5).update(0.0, people((0.5, 0.5), score=[below])).tolist() == [-1]


@pytest.mark.parametrize(("similarity", "same"), [(-0.25, False), (-0.2500001, True)])
def test_boxes_exactly_at_the_least_similarity_are_no_pair(similarity, same):
    """Two squares of a side with a gap of 2/3 of it: the hull's empty share is 1/4."""
    tracker = Tracker(min_similarity=similarity, predict_motion=False)
    tracker.update(0.0, ActorBoxes(np.array([[0, 0, 0.375, 0.25]]), np.ones(1)))
    numbers = tracker.update(0.5, ActorBoxes(np.array([[0.625, 0, 1, 0.25]]), np.ones(1)))
    assert (numbers.tolist() == [1]) == same
