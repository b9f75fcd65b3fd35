"""Likely causes of a low mAP: common mistakes in scores, boxes and class ids, tried out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows
from detection.evaluation.frame_map import ScoredRows
from detection.evaluation.matching import distinct
from detection.evaluation.people import pair

# Below these a weak detector is an unlikely reason: all keyframes are tried.
LOW_MEAN, LOW_RECALL = 0.01, 0.1
# Otherwise about this many keyframes are tried: mistakes show on a few, and it stays fast.
MOST_KEYFRAMES = 400
# A larger share of scores over 1 is not rounding; a detector has some score over TINY_SCORE.
MANY_OVER_1, TINY_SCORE = 0.01, 0.01
# Boxes (or class ids) in another form that fit by this much better are not chance.
CLOSE_IOU, BETTER_IOU, BETTER_MEAN = 0.6, 0.05, 0.2


def find_causes(
    scored: ScoredRows,
    ground_truth: AvaRows,
    detections: AvaRows,
    *,
    most_keyframes: int | None = None,
) -> list[str]:
    """Return one sentence per mistake found in the files.

    Ids and times without a counterpart are reported by `sides.mismatches`.
    most_keyframes: try boxes and class ids on about this many annotated keyframes, evenly spaced
        (None: all).
    """
    causes = [*_scores(detections, scored)]
    if most_keyframes is not None and scored.num_annotated_keyframes > most_keyframes:
        step = -(-scored.num_annotated_keyframes // most_keyframes)
        chosen = np.zeros(len(scored.keys), bool)
        chosen[np.flatnonzero(scored.keys.in_ground_truth_file)[::step]] = True
        ground_truth = ground_truth.select(chosen[scored.keys.ground_truth])
        detections = detections.select(chosen[scored.keys.detections])
        scored = scored.score_again(ground_truth, detections)
    causes += _boxes(scored, ground_truth, detections)
    causes += _labels(scored, ground_truth, detections)
    return causes


def _scores(detections: AvaRows, scored: ScoredRows) -> Iterator[str]:
    """Check the range of the scores: equal, per cent, logits, tiny, below a threshold."""
    score = detections.score
    if score is None or len(score) < 2:
        return
    low, high = float(score.min()), float(score.max())
    over = int(np.count_nonzero(score > 1))
    if low == high:
        yield f"every score is {score[0]:g}: nothing ranks the detections"
    if low < 0:
        yield (
            f"scores lie between {low:g} and {high:g}: logits or logarithms? a sigmoid (or exp) "
            "makes probabilities of them"
        )
    elif over > MANY_OVER_1 * len(score):
        per_cent = "in per cent? divide by 100" if high <= 100 else "no probabilities"
        yield f"{over:,} of {len(score):,} scores are over 1, up to {high:g}: {per_cent}"
    elif high < TINY_SCORE:
        yield f"no score is over {high:g}: divided by 100, or multiplied twice?"
    least = scored.protocol.min_score
    below = 0 if least is None else int(np.count_nonzero(score < least))
    if below > len(score) / 2:
        yield (
            f"{below:,} of {len(score):,} scores are under {least:g} and do not count under "
            f"protocol {scored.protocol.name}"
        )


def _boxes(scored: ScoredRows, ground_truth: AvaRows, detections: AvaRows) -> Iterator[str]:
    """Try other box formats and see whether more people are found."""
    boxes = detections.boxes_01
    if not len(boxes):
        return
    outside = float((boxes > 2).any(axis=1).mean())
    if outside > 0.5:
        yield (
            f"the boxes are pixels, not fractions of the frame ({outside:.0%} have a coordinate "
            f"over 2, the largest is {boxes.max():g}): divide by width and height"
        )
        return
    people = distinct(scored.gt_key, ground_truth.boxes_01[scored.gt_row])
    given = distinct(scored.keys.detections, boxes)
    x1, y1, x2, y2 = given.xyxy_01.T
    forms: dict[str, tuple[NDArray[np.float64], ...]] = {
        "": (x1, y1, x2, y2),
        "x and y are swapped (y1, x1, y2, x2 where x1, y1, x2, y2 is expected)": (y1, x1, y2, x2),
        "the boxes are x, y, width, height where x1, y1, x2, y2 is expected": (
            x1, y1, x1 + x2, y1 + y2,
        ),
        "the boxes are centre, width, height where x1, y1, x2, y2 is expected": (
            x1 - x2 / 2, y1 - y2 / 2, x1 + x2 / 2, y1 + y2 / 2,
        ),
    }  # fmt: skip
    recalls, overlaps = {}, {}
    for name, form in forms.items():
        paired = pair(people, replace(given, xyxy_01=np.stack(form, axis=1)))
        recalls[name] = paired.recall(scored.iou_threshold)
        overlaps[name] = float(paired.iou_of_person.mean()) if len(people) else 0.0
    recall, overlap = recalls.pop(""), overlaps.pop("")
    best = max(recalls, key=lambda name: (recalls[name], overlaps[name]))
    close = overlaps[best] > CLOSE_IOU and overlaps[best] > overlap + BETTER_IOU
    if recalls[best] > 2 * recall + 0.05 or close:
        yield (
            f"{best}: read that way, boxes find {recalls[best]:.1%} of the people instead of "
            f"{recall:.1%} (mean IoU {overlaps[best]:.2f} instead of {overlap:.2f})"
        )


def _labels(scored: ScoredRows, ground_truth: AvaRows, detections: AvaRows) -> Iterator[str]:
    """Try class ids one higher and one lower."""
    label_map = scored.label_map
    known = np.isin(detections.action_id, label_map.ids)
    if len(known) and not known.any():
        ids = sorted(set(detections.action_id.tolist()))
        yield (
            f"no class id of the detections is in the label map: {_some(map(str, ids))} there, "
            f"{_some(map(str, label_map.ids))} here"
        )
    mean = scored.frame_map().mean_ap
    for shift in (1, -1):
        moved = replace(detections, action_id=(detections.action_id + shift).astype(np.int32))
        other = scored.score_again(ground_truth, moved).frame_map()
        if other.mean_ap > min(2 * mean + 0.01, mean + BETTER_MEAN):
            small = "small" if shift == 1 else "large"
            yield (
                f"class ids are off by one: with {shift:+d} added to those of the detections "
                f"(now one too {small}) the mean is {other.mean_ap:.4f} instead of {mean:.4f}"
            )


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
