"""The order in which tracks are suggested."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.teaching.order import doubtful_order, likely_order, suggest_order


@pytest.mark.parametrize("num_none", [0, 5])
def test_nobody_left_is_an_empty_order(num_none):
    order = suggest_order(
        np.zeros((0, 3)), np.array([1, 0, 2]), num_none=num_none, num_labelled=num_none + 3
    )
    assert order.tolist() == []


def test_the_nearest_to_a_half_is_first_not_the_one_who_does_nothing():
    scores = np.array([[0.01, 0.01], [0.95, 0.02], [0.4, 0.01]])
    assert doubtful_order(scores, np.array([4, 9])).tolist() == [2, 1, 0]


def test_the_action_with_the_fewest_examples_is_first():
    scores = np.array([[0.5, 0.0], [0.0, 0.2]])
    assert doubtful_order(scores, np.array([3, 1])).tolist() == [1, 0]
    assert doubtful_order(scores, np.array([1, 3])).tolist() == [0, 1]


def test_actions_come_in_turns():
    scores = np.array([[0.5, 0.0], [0.4, 0.0], [0.3, 0.0], [0.0, 0.2], [0.0, 0.1]])
    assert doubtful_order(scores, np.array([1, 1])).tolist() == [0, 3, 1, 4, 2]


def test_an_action_without_an_example_has_no_turn():
    scores = np.array([[0.0, 0.5], [0.3, 0.0], [0.4, 0.0]])
    assert doubtful_order(scores, np.array([7, 0])).tolist() == [2, 1, 0]
    assert doubtful_order(scores, np.array([0, 0])).tolist() == [0, 1, 2]


@pytest.mark.parametrize("order", [doubtful_order, likely_order])
@pytest.mark.parametrize(("scores", "counts"), [((2, 3), (2,)), ((2, 0), (0,)), ((2,), (2,))])
def test_scores_and_counts_of_other_shapes_are_refused(scores, counts, order):
    with pytest.raises(ValueError, match="classes"):
        order(np.zeros(scores), np.zeros(counts, int))


@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(1, 4))
def test_everybody_is_in_the_order_once_and_it_is_that_of_one_pick_after_the_other(
    seed, tracks, classes
):
    random = np.random.default_rng(seed)
    scores = random.integers(0, 9, (tracks, classes)) / 8
    counts = random.integers(0, 6, classes)
    order = doubtful_order(scores, counts)
    assert sorted(order.tolist()) == list(range(tracks))

    left, expected, now = set(range(tracks)), [], counts.copy()
    while left:
        turn = min((a for a in range(classes) if counts[a]), key=lambda a: now[a], default=None)
        doubt = [0 if turn is None else abs(scores[t, turn] - 0.5) for t in range(tracks)]
        place = min(left, key=lambda t: (doubt[t], t))
        expected.append(place)
        left.remove(place)
        if turn is not None:
            now[turn] += 1
    assert order.tolist() == expected


def test_the_least_certain_of_one_likely_action_is_first():
    scores = np.array([[0.9, 0.1], [0.5, 0.4], [0.7, 0.2]])
    assert likely_order(scores, np.array([4, 4])).tolist() == [1, 2, 0]


def test_the_likely_action_with_the_fewest_examples_is_first_however_certain():
    scores = np.array([[0.5, 0.4], [0.0, 0.9]])
    assert likely_order(scores, np.array([3, 1])).tolist() == [1, 0]


def test_likely_actions_come_in_turns():
    scores = np.array([[0.9, 0.8], [0.9, 0.7], [0.9, 0.6], [0.2, 0.9], [0.1, 0.9]])
    assert likely_order(scores, np.array([0, 0])).tolist() == [0, 3, 1, 4, 2]


def test_one_action_alone_is_asked_where_it_is_near_a_half():
    assert likely_order(np.array([[0.95], [0.4], [0.0]]), np.array([7])).tolist() == [1, 0, 2]


@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(1, 4))
def test_the_likely_order_is_that_of_one_pick_after_the_other(seed, tracks, classes):
    random = np.random.default_rng(seed)
    scores = random.integers(0, 11, (tracks, classes)) / 10
    counts = random.integers(0, 6, classes)
    left, expected, now = set(range(tracks)), [], counts.copy()
    best = np.sort(np.pad(scores, ((0, 0), (1, 0))), axis=1)
    sure = np.abs(2 * scores[:, 0] - 1) if classes == 1 else best[:, -1] - best[:, -2]
    while left:
        place = min(left, key=lambda t: (now[scores[t].argmax()], sure[t], t))
        expected.append(place)
        left.remove(place)
        now[scores[place].argmax()] += 1
    assert likely_order(scores, counts).tolist() == expected


def test_where_everybody_does_something_the_order_is_by_likely_actions():
    scores = np.array([[0.9, 0.1], [0.01, 0.01], [0.7, 0.2]])
    counts = np.array([4, 6])
    expected = likely_order(scores, counts).tolist()
    assert suggest_order(scores, counts, num_none=1, num_labelled=10).tolist() == expected


def test_where_many_do_nothing_doubt_and_chance_come_by_turns():
    scores = np.random.default_rng(0).random((40, 2))
    counts = np.array([3, 1])
    doubtful = doubtful_order(scores, counts).tolist()
    orders = [
        suggest_order(scores, counts, num_none=2, num_labelled=10, seed=seed).tolist()
        for seed in (0, 1, 0)
    ]
    assert orders[0] == orders[2] != orders[1]
    for order in orders:
        assert sorted(order) == list(range(40))
        assert order[0] == doubtful[0]
        assert set(order[:10]) >= set(doubtful[:5])
    assert set(orders[0][:10]) != set(doubtful[:10])


@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(0, 9))
def test_every_track_is_suggested_once(seed, tracks, num_none):
    random = np.random.default_rng(seed)
    order = suggest_order(
        random.random((tracks, 2)), random.integers(0, 2, 2), num_none=num_none, num_labelled=9
    )
    assert sorted(order.tolist()) == list(range(tracks))


def test_while_no_action_has_an_example_the_order_is_random():
    scores, counts = np.zeros((40, 2)), np.zeros(2, int)
    orders = [
        suggest_order(scores, counts, num_none=9, num_labelled=9, seed=seed).tolist()
        for seed in (0, 1)
    ]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == list(range(40)) != orders[0]
    assert orders[0][::2] != list(range(20))
