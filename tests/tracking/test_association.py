"""One-to-one assignment against trying everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.tracking.association import assign


def best_by_trying(similarity, minimum):
    """Return the largest total by which pairs exceed the minimum."""
    rows, columns = similarity.shape
    gain = np.maximum(similarity - minimum, 0)
    if rows > columns:
        gain, rows, columns = gain.T, columns, rows
    tries = itertools.permutations(range(columns), rows)
    return max((sum(gain[i, j] for i, j in enumerate(t)) for t in tries), default=0.0)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 2**32 - 1),
    st.sampled_from([-1.0, 0.0, 0.3, 2.0]),
    st.booleans(),
)
def test_no_assignment_is_better(rows, columns, seed, minimum, coarse):
    similarity = np.random.default_rng(seed).uniform(-1, 1, (rows, columns))
    if coarse:  # many ties
        similarity = np.round(similarity * 2) / 2
    first, second = assign(similarity, minimum=minimum)
    assert len(set(first.tolist())) == len(set(second.tolist())) == len(first)
    assert (np.diff(first) > 0).all()
    assert (similarity[first, second] > minimum).all()
    total = (similarity[first, second] - minimum).sum()
    assert total == pytest.approx(best_by_trying(similarity, minimum), abs=1e-9)


def test_larger_than_can_be_tried_is_a_permutation_found_again():
    generator = np.random.default_rng(0)
    order = generator.permutation(60)
    similarity = generator.uniform(0, 0.5, (60, 60))
    similarity[np.arange(60), order] += 0.6
    first, second = assign(similarity, minimum=0.0)
    assert first.tolist() == list(range(60)) and second.tolist() == order.tolist()


def test_assignment_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="finite"):
        assign(np.array([[np.nan]]), minimum=0)
