"""Where a person is between known boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.tracking.paths import LONGEST_WALK_S, boxes_along

times = st.lists(st.integers(0, 4000), min_size=1, max_size=6, unique=True).map(sorted)


def slow_box(time_s, known_s, boxes):
    """One time, by its definition."""
    before = [k for k in range(len(known_s)) if known_s[k] <= time_s]
    after = [k for k in range(len(known_s)) if known_s[k] > time_s]
    if not before:
        return boxes[0]
    if not after:
        return boxes[-1]
    first, second = before[-1], after[0]
    gap_s = known_s[second] - known_s[first]
    if gap_s > LONGEST_WALK_S:
        nearer = time_s - known_s[first] <= known_s[second] - time_s
        return boxes[first] if nearer else boxes[second]
    share = (time_s - known_s[first]) / gap_s
    return boxes[first] + share * (boxes[second] - boxes[first])


@settings(deadline=None, max_examples=300)
@given(times, st.lists(st.integers(-1000, 5000), max_size=6), st.integers(0, 99))
def test_boxes_move_evenly_over_short_gaps_and_else_stay(known, asked, seed):
    known_s, times_s = np.array(known) / 500, np.array(asked, np.float64) / 500
    boxes = np.random.default_rng(seed).random((len(known), 4))
    found = boxes_along(times_s, known_s, boxes)
    expected = np.array([slow_box(t, known_s, boxes) for t in times_s]).reshape(-1, 4)
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=1e-9)


def test_worked_by_hand():
    boxes = np.array([[0, 0, 0.2, 0.4], [0.4, 0.1, 0.6, 0.5]])
    found = boxes_along(np.array([0.0, 1.0, 1.5, 2.0, 9.0]), np.array([1.0, 2.0]), boxes)
    assert np.allclose(found[:, 0], [0, 0, 0.2, 0.4, 0.4])
    assert np.allclose(found[:, 3], [0.4, 0.4, 0.45, 0.5, 0.5])


def test_in_the_middle_of_a_long_gap_the_earlier_box_stays():
    boxes = np.array([[0, 0, 0.2, 0.4], [0.4, 0.1, 0.6, 0.5]])
    found = boxes_along(np.array([2.0, 3.0, 3.5]), np.array([0.0, 6.0]), boxes)
    assert np.allclose(found[:, 0], [0, 0, 0.4])


def test_a_person_needs_a_box():
    with pytest.raises(ValueError, match="0 times and 0 boxes"):
        boxes_along(np.zeros(1), np.zeros(0), np.zeros((0, 4)))
