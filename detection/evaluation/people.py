"""People and boxes of the same keyframes (rows of one box are one person), paired by overlap.

Legend: P ground-truth people, B detected boxes, A classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.boxes import paired_iou
from detection.datasets.ava_csv import AvaRows
from detection.evaluation.frame_map import ScoredRows
from detection.evaluation.matching import PAIRS_AT_ONCE, Boxes, distinct, slices_of


@dataclass(frozen=True)
class People:
    """Ground-truth people and detected boxes of the same keyframes.

    person_of_box, iou_of_box: (B,) person that each box overlaps most (-1: none there).
    box_of_person, iou_of_person: (P,) box that overlaps each person most (-1: none there).
    """

    people: Boxes
    boxes: Boxes
    person_of_box: NDArray[np.int64]
    iou_of_box: NDArray[np.float64]
    box_of_person: NDArray[np.int64]
    iou_of_person: NDArray[np.float64]

    def recall(self, iou_threshold: float) -> float:
        """Return the share of people that a box overlaps by at least the threshold."""
        if not len(self.people):
            return float("nan")
        return float((self.iou_of_person >= iou_threshold).mean())


def pair_people(scored: ScoredRows, ground_truth: AvaRows, detections: AvaRows) -> People:
    """Pair the distinct people and boxes of the rows that count, within their keyframes."""
    people = distinct(scored.gt_key, ground_truth.boxes_01[scored.gt_row])
    boxes = distinct(scored.key, detections.boxes_01, scored.row)
    return pair(people, boxes)


def pair(people: Boxes, boxes: Boxes) -> People:
    """Pair people and boxes of the same keyframe."""
    of_box, of_person = _Best(len(boxes)), _Best(len(people))
    for person, box in pairs_in_parts(people.key, boxes.key):
        iou = paired_iou(people.xyxy_01[person], boxes.xyxy_01[box]).astype(np.float64)
        of_box.add(box, person, iou)
        of_person.add(person, box, iou)
    return People(people, boxes, of_box.partner, of_box.iou, of_person.partner, of_person.iou)


def scores_and_labels(
    scored: ScoredRows, people: People
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the scores (B, A) of each box, -inf where it has none, and labels (P, A) of people."""
    classes = len(scored.label_map)
    scores = np.full((len(people.boxes), classes), -np.inf, np.float32)
    scores[people.boxes.of_row, scored.class_index] = scored.score
    labels = np.zeros((len(people.people), classes), bool)
    labels[people.people.of_row, scored.gt_class] = True
    return scores, labels


def pairs(
    first: NDArray[np.int32], second: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all (position in first, position in second) with equal keys; second is sorted."""
    low = np.searchsorted(second, first, side="left")
    count = np.searchsorted(second, first, side="right") - low
    left = np.repeat(np.arange(len(first)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return left, np.repeat(low, count) + within


def pairs_in_parts(
    first: NDArray[np.int32], second: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield what `pairs` returns in chunks of bounded size."""
    count = np.searchsorted(second, first, "right") - np.searchsorted(second, first, "left")
    for now in slices_of(count, PAIRS_AT_ONCE):
        left, right = pairs(first[now], second)
        yield left + now.start, right


class _Best:
    """For each of `size` boxes the partner of the largest overlap (of ties the last); -1: none."""

    def __init__(self, size: int) -> None:
        self.partner, self.iou = np.full(size, -1, np.int64), np.zeros(size)

    def add(
        self, owner: NDArray[np.int64], other: NDArray[np.int64], iou: NDArray[np.float64]
    ) -> None:
        order = np.argsort(iou, kind="stable")
        order = order[iou[order] >= self.iou[owner[order]]]
        self.partner[owner[order]] = other[order]
        self.iou[owner[order]] = iou[order]
