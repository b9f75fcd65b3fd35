"""The score from which each class is taken to be done, learned on held-out data.

Legend: N boxes of people, A classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows
from detection.evaluation.evaluator import rows_of
from detection.evaluation.frame_map import score_rows
from detection.structures import ClassThresholds, Detections, Keyframe, LabelMap

# A threshold outside would say always, or never, whatever few examples seemed to ask for.
LEAST_THRESHOLD, MOST_THRESHOLD = 0.05, 0.95
# Mean F1 that multiplying by the person's confidence must gain to be chosen.
LEAST_GAIN = 0.01
# Where no class has as many right boxes, all get the common threshold.
FEWEST_EXAMPLES = 10
# As many examples of a class weigh as much as the common threshold does.
COMMON_WEIGHT = 10


@dataclass(frozen=True)
class HeldOutScores:
    """Scores of people by networks that had not seen them, beside those of a validation split.

    scores: (N, A) probabilities; NaN in columns of classes that cannot be judged so.
    is_true: (N, A) bool.  source: the data, in words.
    """

    scores: NDArray[np.floating]
    is_true: NDArray[np.bool_]
    source: str

    def judged(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return scores and truth, in which classes of NaN have neither scores nor examples."""
        known = np.isfinite(self.scores)
        return np.where(known, self.scores, 0.0).astype(np.float64), self.is_true & known


def learn_thresholds(
    scores: NDArray[np.floating],
    is_true: NDArray[np.bool_],
    *,
    num_true: NDArray[np.integer] | None = None,
    person_score: NDArray[np.floating] | None = None,
    source: str,
) -> ClassThresholds | None:
    """Return for each class the score of best F1 on held-out data; None without any positive.

    scores: (N, A) probabilities; is_true: (N, A) which of them are right.  num_true: (A,) positives
    of each class, those that no box found included (None: as in `is_true`).  person_score: (N,)
    confidence that each box is a person, where the boxes were detected: given, both ways are
    compared, and scores are multiplied by it where the mean F1 gains `LEAST_GAIN` by that.
    source: the data, in words.

    A threshold of best F1 lies midway between two neighbouring scores; of equal F1 the higher
    recall wins, since what is found wrongly is seen and rejected, and what is missed is not seen.
    From few examples it is noisy: on real few-shot scores the common threshold, of all classes'
    scores together, is as good, on made-up scores of classes that differ much it is worse. A mean
    of both as logits, the own one weighted by its right boxes and the common one by
    `COMMON_WEIGHT`, is near the better one on either (benchmarks/threshold_rules.py,
    docs/results.md). Where no class has `FEWEST_EXAMPLES` right boxes, all get the common one.
    """
    given: NDArray[np.float64] = np.asarray(scores, np.float64)
    if given.ndim != 2 or given.shape != is_true.shape:
        raise ValueError(f"scores {given.shape} and labels {is_true.shape} must be (N, A) both")
    if not np.isfinite(given).all():
        raise ValueError("scores must be finite")
    found = is_true.sum(axis=0)
    positives = found if num_true is None else np.asarray(num_true, np.int64)
    if positives.shape != found.shape or bool((positives < found).any()):
        raise ValueError("num_true must be (A,), and at least the positives among the boxes")
    if not is_true.any():
        return None
    plain = _learn(given, is_true, positives, source)
    if person_score is None:
        return plain
    weighted = given * np.asarray(person_score, np.float64)[:, None]
    product = replace(_learn(weighted, is_true, positives, source), times_person_score=True)
    return product if mean_f1(product) >= mean_f1(plain) + LEAST_GAIN else plain


def mean_f1(thresholds: ClassThresholds) -> float:
    """Return the mean F1 of the classes with examples, on the data that thresholds are of."""
    known = thresholds.examples > 0
    precision = np.nan_to_num(thresholds.precision[known])
    recall = np.nan_to_num(thresholds.recall[known])
    both = precision + recall
    return float(np.mean(2 * precision * recall / np.where(both > 0, both, 1)))


def learn_from_detections(
    found: Sequence[Detections],
    ground_truth: AvaRows,
    label_map: LabelMap,
    *,
    exclusions: frozenset[Keyframe] = frozenset(),
    detected: bool,
    source: str,
    beside: HeldOutScores | None = None,
) -> ClassThresholds | None:
    """Learn from what was found on a split: a box is right as frame-mAP at IoU 0.5 counts it.

    label_map: of the columns of scores.  exclusions: keyframes that do not count; boxes on those
    that the ground-truth file does not have count neither.  detected: the boxes are a detector's,
    and have its confidence.  beside: counts as much, box by box; only where none are detected.
    """
    if detected and beside is not None:
        raise ValueError("detected boxes and given ones cannot be judged together")
    classes = len(label_map)
    rows = rows_of(found, label_map)
    scored = score_rows(ground_truth, rows, label_map, exclusions=exclusions, protocol="frame-map")
    known = scored.row[scored.keys.in_ground_truth_file[scored.key]]
    counts, is_true = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    counts[known] = True
    is_true[scored.row[scored.matched >= 0]] = True
    boxes = counts.reshape(-1, classes).all(axis=1)
    assert rows.score is not None
    person = np.concatenate([np.zeros(0, np.float32), *(one.boxes.score for one in found)])
    found_scores = rows.score.reshape(-1, classes)[boxes]
    found_true = is_true.reshape(-1, classes)[boxes]
    positives = np.asarray(scored.num_ground_truth, np.int64)
    if beside is not None:
        more_scores, more_true = beside.judged()
        source = f"{source}, and {beside.source}" if found_true.any() else beside.source
        found_scores = np.concatenate([found_scores, more_scores])
        found_true = np.concatenate([found_true, more_true])
        positives = positives + more_true.sum(axis=0)
    return learn_thresholds(
        found_scores,
        found_true,
        num_true=positives,
        person_score=person[boxes] if detected else None,
        source=source,
    )


def _learn(
    scores: NDArray[np.float64],
    is_true: NDArray[np.bool_],
    positives: NDArray[np.int64],
    source: str,
) -> ClassThresholds:
    shared = best_cut(scores.reshape(-1), is_true.reshape(-1), int(positives.sum()))
    found = is_true.sum(axis=0)
    common = bool(found.max() < FEWEST_EXAMPLES)
    chosen = np.full(len(found), shared)
    for column in [] if common else np.flatnonzero(found).tolist():
        own = best_cut(scores[:, column], is_true[:, column], int(positives[column]))
        weight = found[column] / (found[column] + COMMON_WEIGHT)
        chosen[column] = mean_threshold(own, shared, weight=weight)
    above = scores >= chosen
    kept, right = above.sum(axis=0), (above & is_true).sum(axis=0)
    return ClassThresholds(
        score=chosen,
        precision=_ratio(right, np.where(positives > 0, kept, 0)),
        recall=_ratio(right, positives),
        examples=positives,
        common=common,
        times_person_score=False,
        source=source,
    )


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def mean_threshold(own: float, shared: float, *, weight: float) -> float:
    """Return the mean of two thresholds as logits; weight: of the first, from 0 to 1."""
    own_logit, shared_logit = (np.log(value / (1 - value)) for value in (own, shared))
    return float(1 / (1 + np.exp(-(weight * own_logit + (1 - weight) * shared_logit))))


def best_cut(scores: NDArray[np.float64], is_true: NDArray[np.bool_], positives: int) -> float:
    """Return the threshold of highest F1, within the bounds of thresholds."""
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(is_true[order])
    f1 = 2 * right / (np.arange(1, len(ranked) + 1) + positives)
    f1[:-1][ranked[1:] == ranked[:-1]] = -1  # boxes of one score stay or go together
    last = len(f1) - 1 - int(f1[::-1].argmax())
    lowest, below = ranked[last], ranked[last + 1] if last + 1 < len(ranked) else 0.0
    middle = (lowest + below) / 2  # of neighbouring numbers it may be one of them
    cut = middle if middle > below else lowest
    return float(np.clip(cut, LEAST_THRESHOLD, MOST_THRESHOLD))
