"""Top-1, top-5 and mAP by video, beside slow second implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.evaluation.clip_accuracy import (
    in_top_k,
    multi_label_accuracy,
    single_label_accuracy,
)


def charades_ap(scores, positive):
    """`charades_map`'s loop for one class: the mean over positives of precision at their rank."""
    true, found = 0, []
    for rank, row in enumerate(np.argsort(-scores), start=1):
        if positive[row]:
            true += 1
            found.append(true / rank)
    return sum(found) / len(found) if found else math.nan


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_map_is_charades(videos, classes, seed):
    generator = np.random.default_rng(seed)
    scores = generator.permutation(videos * classes).reshape(videos, classes) / 100
    labels = (generator.random((videos, classes)) < 0.4).astype(np.float32)
    names = [f"c{column}" for column in range(classes)]
    found = multi_label_accuracy(scores, labels, names)
    shown = labels.any(1)
    expected = [charades_ap(scores[shown, c], labels[shown, c]) for c in range(classes)]
    assert list(found.per_class.values()) == pytest.approx(expected, nan_ok=True)
    there = [value for value in expected if not math.isnan(value)]
    mean = sum(there) / len(there) if there else math.nan
    assert found.mean_ap == pytest.approx(mean, nan_ok=True)
    assert found.num_videos == shown.sum()
    assert math.isnan(found.top1)


def test_precision_is_taken_as_measured():
    """Ranks: wrong, right, right. VOC's would lift the first 1/2 to 2/3."""
    found = multi_label_accuracy(
        np.array([[0.9], [0.8], [0.7]]), np.array([[0.0], [1.0], [1.0]]), ["a"]
    )
    # The first video shows no class at all and is left out of everything.
    assert (found.num_videos, found.mean_ap) == (2, 1.0)
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    labels = np.array([[0, 1], [1, 0], [1, 0]])
    found = multi_label_accuracy(scores, labels, ["a", "b"])
    assert found.per_class["a"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found.per_class["b"] == pytest.approx(1 / 3)


def test_the_order_of_rows_does_not_matter_where_scores_are_equal():
    scores, labels = np.array([[0.5], [0.5], [0.5]]), np.array([[1.0], [0.0], [1.0]])
    labels = np.concatenate([labels, 1 - labels], 1)
    scores = np.repeat(scores, 2, axis=1)
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        found = multi_label_accuracy(scores[order], labels[order], ["a", "b"])
        assert found.per_class == pytest.approx({"a": 2 / 3, "b": 1 / 3})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_top_k_is_a_stable_sort(videos, classes, k, seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, (videos, classes)) / 4  # many ties
    expected = generator.integers(0, classes, videos)
    slow = [
        w in np.argsort(-row, kind="stable")[:k] for row, w in zip(scores, expected, strict=True)
    ]
    assert in_top_k(scores, expected, k).tolist() == slow


def test_the_mean_over_classes_leaves_out_classes_without_a_video():
    scores = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.7, 0.3, 0.0]])
    there = np.ones(3, bool)
    labels, names = np.eye(3)[[0, 0, 1]], ["a", "b", "c"]
    found = single_label_accuracy(scores, labels, names, has_scores=there)
    assert (found.top1, found.top5, found.mean_class) == (pytest.approx(2 / 3), 1.0, 0.5)
    assert found.per_class["a"] == 1 and found.per_class["b"] == 0
    assert math.isnan(found.per_class["c"]) and found.num_of_class == {"a": 2, "b": 1, "c": 0}


def test_a_video_without_scores_is_answered_wrongly():
    """Whatever its class: zeros alone would answer class 0, and be among the first five of few."""
    for expected in range(3):
        labels = np.eye(3)[[0, expected]]
        found = single_label_accuracy(
            np.array([[0.9, 0.1, 0.0], [0.0, 0.0, 0.0]]),
            labels,
            ["a", "b", "c"],
            has_scores=np.array([True, False]),
        )
        assert (found.top1, found.top5, found.num_videos) == (0.5, 0.5, 2)
