"""Average precision: pure functions of arrays.

AP is PASCAL VOC's of 2010 and later: the area under the precision-recall curve over all points,
with precision made non-increasing. Equal scores are one point of the curve, so the order of rows
never changes the result: a true positive among equal scores gets the precision of the whole group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.finite import check_values_finite


def average_precision(
    scores: NDArray[np.floating], is_true_positive: NDArray[np.bool_], num_ground_truth: int
) -> float:
    """Return the AP of N scored detections.

    scores, is_true_positive: (N,). NaN without ground truth, 0 without a true positive. Raises
        `ValueError` for scores that are not finite.
    """
    check_values_finite(scores, "scores")
    true_scores = scores[is_true_positive]
    return average_precision_of_sorted(np.sort(scores), true_scores, num_ground_truth)


def average_precision_of_sorted(
    sorted_scores: NDArray[np.floating], true_scores: NDArray[np.floating], num_ground_truth: int
) -> float:
    """Return the AP of all scores (N,), ascending, and the scores of the true positives.

    Sorting values is several times as fast as argsort, and the values are all that is needed.
    """
    if num_ground_truth == 0:
        return float("nan")
    if not len(true_scores):
        return 0.0
    ascending = np.sort(true_scores)
    num_true = len(ascending) - np.searchsorted(ascending, ascending, side="left")
    num_found = len(sorted_scores) - np.searchsorted(sorted_scores, ascending, side="left")
    return float(np.maximum.accumulate(num_true / num_found).sum() / num_ground_truth)


@dataclass(frozen=True)
class PrecisionRecall:
    """A precision-recall curve: one point per distinct score, from the highest score down.

    precision, recall, score: (P,) float64. Precision is as measured, not made non-increasing.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    score: NDArray[np.float64]


def precision_recall(
    scores: NDArray[np.floating], is_true_positive: NDArray[np.bool_], num_ground_truth: int
) -> PrecisionRecall:
    """Return the precision-recall curve of N detections; recall is NaN without ground truth."""
    check_values_finite(scores, "scores")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else order
    true = np.cumsum(is_true_positive[order])[last].astype(np.float64)
    found = (last + 1).astype(np.float64)
    recall = true / num_ground_truth if num_ground_truth else np.full(len(true), np.nan)
    return PrecisionRecall(true / found, recall, ranked[last])
