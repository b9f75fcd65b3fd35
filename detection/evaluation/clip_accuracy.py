"""Accuracy of clip classification: top-1, top-5, and mAP where clips have several classes.

Legend: n videos, K classes. Pure functions of arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.average_precision import precision_recall
from detection.evaluation.finite import check_values_finite


@dataclass(frozen=True)
class ClipAccuracy:
    """Accuracy over a list of videos, as fractions; NaN where a figure does not apply.

    num_videos: videos scored.
    per_class: single-label: top-1 of each class; multi-label: AP of each class. NaN for a class
        without videos.
    num_of_class: videos of each class.
    top1, top5: single-label.
    mean_class: single-label: mean of `per_class`.
    mean_ap: multi-label: mean of `per_class`.
    """

    num_videos: int
    per_class: Mapping[str, float]
    num_of_class: Mapping[str, int]
    top1: float = float("nan")
    top5: float = float("nan")
    mean_class: float = float("nan")
    mean_ap: float = float("nan")


def single_label_accuracy(
    scores: NDArray[np.floating],
    labels: NDArray[np.floating],
    class_names: Sequence[str],
    *,
    has_scores: NDArray[np.bool_],
) -> ClipAccuracy:
    """scores, labels: (n, K), one 1 in each row of labels, n >= 1.

    has_scores: (n,); a video without (it cannot be read) counts as answered wrongly. Raises
        `ValueError` for scores that are not finite.
    """
    check_values_finite(scores, "scores of videos")
    target = labels.argmax(1)
    hit = in_top_k(scores, target, 1) & has_scores
    count = labels.sum(0).astype(int)
    per_class = np.full(len(count), np.nan)
    there = count > 0
    per_class[there] = (labels * hit[:, None]).sum(0)[there] / count[there]
    return ClipAccuracy(
        num_videos=len(labels),
        per_class=dict(zip(class_names, per_class.tolist(), strict=True)),
        num_of_class=dict(zip(class_names, count.tolist(), strict=True)),
        top1=float(hit.mean()),
        top5=float((in_top_k(scores, target, 5) & has_scores).mean()),
        mean_class=float(np.nanmean(per_class)),
    )


def multi_label_accuracy(
    scores: NDArray[np.floating], labels: NDArray[np.floating], class_names: Sequence[str]
) -> ClipAccuracy:
    """scores, labels: (n, K), any number of 1 in each row of labels.

    As Charades' evaluator has it (Charades_v1_classify, and `charades_map` in Python): AP is the
    mean over the positives of the precision at their rank, with precision as measured; classes
    without a positive are left out of the mean, and videos without any class of everything. Equal
    scores are one rank, as in scikit-learn, so that the order of rows does not matter.
    """
    check_values_finite(scores, "scores of videos")
    shown = labels.any(1)
    scores, positive = scores[shown], labels[shown] > 0
    count = positive.sum(0)
    per_class = np.full(labels.shape[1], np.nan)
    for column in np.flatnonzero(count):
        curve = precision_recall(scores[:, column], positive[:, column], int(count[column]))
        per_class[column] = float(np.sum(curve.precision * np.diff(curve.recall, prepend=0.0)))
    return ClipAccuracy(
        num_videos=len(positive),
        per_class=dict(zip(class_names, per_class.tolist(), strict=True)),
        num_of_class=dict(zip(class_names, count.tolist(), strict=True)),
        mean_ap=float(np.nanmean(per_class)) if count.any() else float("nan"),
    )


def in_top_k(
    scores: NDArray[np.floating], target: NDArray[np.integer], k: int
) -> NDArray[np.bool_]:
    """Mark the rows (n,) in which fewer than k classes rank before the target class (n,).

    Of equal scores the lower column comes first.
    """
    own = np.take_along_axis(scores, target[:, None], 1)
    columns = np.arange(scores.shape[1])
    before = (scores > own) | ((scores == own) & (columns < target[:, None]))
    return np.asarray(before.sum(1) < k)
