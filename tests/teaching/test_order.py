"""The order in which tracks are suggested."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.teaching.order import least_like_order, suggest_order


def test_nobody_left_is_an_empty_order():
    assert suggest_order(np.zeros((0, 3)), np.array([1, 0, 2])).tolist() == []


def test_the_least_certain_of_one_likely_class_is_first():
    scores = np.array([[0.9, 0.1], [0.5, 0.4], [0.7, 0.2]])
    assert suggest_order(scores, np.array([4, 4])).tolist() == [1, 2, 0]


def test_the_class_with_the_fewest_examples_is_first_however_certain():
    scores = np.array([[0.5, 0.4], [0.0, 0.9]])
    assert suggest_order(scores, np.array([3, 1])).tolist() == [1, 0]


def test_likely_classes_come_in_turns():
    scores = np.array([[0.9, 0.8], [0.9, 0.7], [0.9, 0.6], [0.2, 0.9], [0.1, 0.9]])
    assert suggest_order(scores, np.array([0, 0])).tolist() == [0, 3, 1, 4, 2]


def test_one_class_alone_is_asked_where_it_is_near_a_half():
    assert suggest_order(np.array([[0.95], [0.4], [0.0]]), np.array([7])).tolist() == [1, 0, 2]


@pytest.mark.parametrize(("scores", "counts"), [((2, 3), (2,)), ((2, 0), (0,)), ((2,), (2,))])
def test_scores_and_counts_of_other_shapes_are_refused(scores, counts):
    with pytest.raises(ValueError, match="classes"):
        suggest_order(np.zeros(scores), np.zeros(counts, int))


@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(1, 4))
def test_everybody_is_in_the_order_once_and_it_is_that_of_one_pick_after_the_other(
    seed, tracks, classes
):
    random = np.random.default_rng(seed)
    scores = random.integers(0, 11, (tracks, classes)) / 10
    counts = random.integers(0, 6, classes)
    order = suggest_order(scores, counts)
    assert sorted(order.tolist()) == list(range(tracks))

    left, expected, now = set(range(tracks)), [], counts.copy()
    best = np.sort(np.pad(scores, ((0, 0), (1, 0))), axis=1)
    sure = np.abs(2 * scores[:, 0] - 1) if classes == 1 else best[:, -1] - best[:, -2]
    while left:
        place = min(left, key=lambda t: (now[scores[t].argmax()], sure[t], t))
        expected.append(place)
        left.remove(place)
        now[scores[place].argmax()] += 1
    assert order.tolist() == expected


def test_the_least_alike_is_first_and_its_likes_come_last():
    features = np.array([[1.0, 0], [0, 3], [0, 1], [2, 1]])
    labelled = np.array([[5.0, 0]])
    assert least_like_order(features, labelled).tolist()[0] == 1
    assert least_like_order(features, labelled).tolist()[1] == 3
    assert least_like_order(features, labelled, most=1).tolist() == [1, 3, 0, 2]


def test_nobody_labelled_and_nobody_left_have_an_order_too():
    assert sorted(least_like_order(np.eye(3), np.zeros((0, 3))).tolist()) == [0, 1, 2]
    assert least_like_order(np.zeros((0, 3)), np.eye(3)).tolist() == []
