"""The order in which tracks are suggested."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detection.teaching.order import suggest_order


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


@given(st.data())
def test_everybody_is_in_the_order_once_and_it_is_that_of_one_pick_after_the_other(data):
    shape = data.draw(st.tuples(st.integers(0, 12), st.integers(1, 4)))
    tenths = data.draw(arrays(np.int64, shape, elements=st.integers(0, 10)))
    counts = data.draw(arrays(np.int64, shape[1:], elements=st.integers(0, 5)))
    scores = tenths / 10
    order = suggest_order(scores, counts)
    assert sorted(order.tolist()) == list(range(shape[0]))

    left, expected, now = set(range(shape[0])), [], counts.copy()
    best = np.sort(np.pad(scores, ((0, 0), (1, 0))), axis=1)
    sure = np.abs(2 * scores[:, 0] - 1) if shape[1] == 1 else best[:, -1] - best[:, -2]
    while left:
        place = min(left, key=lambda t: (now[scores[t].argmax()], sure[t], t))
        expected.append(place)
        left.remove(place)
        now[scores[place].argmax()] += 1
    assert order.tolist() == expected
