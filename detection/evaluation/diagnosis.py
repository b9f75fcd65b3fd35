"""Error diagnosis: mean AP lost to each kind of error, the ceiling of the boxes, confused actions.

In the spirit of TIDE (Bolya et al., ECCV 2020): each kind of error is corrected alone and the gain
in mean AP is reported. Gains do not add up to 1 - mean AP, since the other errors remain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows
from detection.evaluation.box_ceiling import reaching_rows
from detection.evaluation.frame_map import ScoredRows, mean_without_nan
from detection.evaluation.people import People, pair_people, scores_and_labels

# A box that overlaps no person by this is background (TIDE's background threshold).
BACKGROUND_IOU = 0.1
WRONG_CLASS, POOR_BOX, BOTH, DUPLICATE, BACKGROUND, MISSED = (
    "wrong class", "poor box", "poor box and wrong class", "duplicate", "background",
    "missed person",
)  # fmt: skip
FALSE_POSITIVES = (WRONG_CLASS, POOR_BOX, BOTH, DUPLICATE, BACKGROUND)


@dataclass(frozen=True)
class Confusion:
    """People who do `action` and not `other`, and how many of them score higher on `other`."""

    action: str
    other: str
    num_people: int
    num_confused: int


@dataclass(frozen=True)
class Diagnosis:
    """Errors of a set of detections.

    gain: gain in mean AP when one kind of error is corrected.
    num_rows: number of false positives of that kind (for missed people: of labels).
    ceiling: mean AP of these boxes with perfect scores.
    box_recall: share of people that some box overlaps, by IoU threshold.
    """

    mean_ap: float
    gain: dict[str, float]
    num_rows: dict[str, int]
    ceiling: float
    num_people: int
    num_boxes: int
    box_recall: dict[float, float]
    confusions: tuple[Confusion, ...]


def diagnose(
    scored: ScoredRows, ground_truth: AvaRows, detections: AvaRows, *, num_confusions: int = 20
) -> Diagnosis:
    """Sort all false positives and missed labels into kinds of error."""
    people = pair_people(scored, ground_truth, detections)
    kinds = _Kinds(scored, ground_truth, detections, people)
    base = mean_without_nan(scored.per_class_ap())
    gain = {kind: kinds.mean_ap_without(kind) - base for kind in FALSE_POSITIVES}
    gain[MISSED] = kinds.mean_ap_of_found_people() - base
    masks = kinds.of | {MISSED: kinds.missed}
    return Diagnosis(
        mean_ap=base,
        gain=gain,
        num_rows={kind: int(np.count_nonzero(mask)) for kind, mask in masks.items()},
        ceiling=ceiling(scored, people),
        num_people=len(people.people),
        num_boxes=len(people.boxes),
        box_recall={t: people.recall(t) for t in sorted({0.3, scored.iou_threshold, 0.75})},
        confusions=confused_actions(scored, people, num_confusions),
    )


def false_positive_kinds(
    scored: ScoredRows, ground_truth: AvaRows, detections: AvaRows
) -> dict[str, NDArray[np.bool_]]:
    """Return a mask (D,) of the scored detections for each kind of false positive."""
    people = pair_people(scored, ground_truth, detections)
    return _Kinds(scored, ground_truth, detections, people).of


class _Kinds:
    """Mean AP with one kind of error corrected.

    of: mask (D,) of the detections of each kind of false positive.
    missed: mask (G,) of the labels of people who have no box.
    """

    def __init__(
        self, scored: ScoredRows, ground_truth: AvaRows, detections: AvaRows, people: People
    ) -> None:
        self.scored = scored
        gt_boxes = ground_truth.boxes_01[scored.gt_row].astype(scored.score.dtype)
        self._target, overlap, self._candidate = scored.best_overlap(
            scored.key, scored.class_index, scored.row, detections.boxes_01, gt_boxes
        )
        same = np.zeros(len(scored.row), np.float32)
        same[self._candidate] = overlap
        anyone = people.iou_of_box[people.boxes.of_row].astype(np.float32)
        threshold = scored.iou_threshold
        false = scored.matched < 0
        other = false & (same < BACKGROUND_IOU)
        self.of = {
            WRONG_CLASS: other & (anyone >= threshold),
            POOR_BOX: false & (same >= BACKGROUND_IOU) & (same < threshold),
            BOTH: other & (anyone >= BACKGROUND_IOU) & (anyone < threshold),
            DUPLICATE: false & (same >= threshold),
            BACKGROUND: other & (anyone < BACKGROUND_IOU),
        }
        self.missed = (people.iou_of_person < threshold)[people.people.of_row]

    def mean_ap_without(self, kind: str) -> float:
        """Return mean AP without one kind; poor boxes turn true positives if the label is free."""
        keep, true = ~self.of[kind], self.scored.matched >= 0
        if kind == POOR_BOX:
            fixed = self._fixed()
            keep, true = keep | fixed, true | fixed
        return mean_without_nan(self.scored.per_class_ap(keep, true))

    def mean_ap_of_found_people(self) -> float:
        """Return mean AP without the labels of people who have no box."""
        lost = np.bincount(self.scored.gt_class[self.missed], minlength=len(self.scored.label_map))
        left = self.scored.num_ground_truth - lost
        return mean_without_nan(self.scored.per_class_ap(num_ground_truth=left.clip(0)))

    def _fixed(self) -> NDArray[np.bool_]:
        """Mark (D,) the best-scored poor box of every unmatched ground truth."""
        free = np.ones(len(self.scored.gt_row), bool)
        free[self.scored.matched[self.scored.matched >= 0]] = False
        poor = self.of[POOR_BOX][self._candidate] & free[self._target]
        rows, target = self._candidate[poor], self._target[poor]
        order = np.argsort(-self.scored.score[rows], kind="stable")
        _, first = np.unique(target[order], return_index=True)
        fixed = np.zeros(len(self.scored.row), bool)
        fixed[rows[order][first]] = True
        return fixed


def ceiling(scored: ScoredRows, people: People) -> float:
    """Return the mean AP of these boxes with perfect scores.

    A label can be detected where some box overlaps its person most among those who have the label,
    and by the threshold; perfect scores rank such boxes first, so AP is the share of such labels.
    """
    gt_boxes = people.people.xyxy_01[people.people.of_row]
    _, _, label = reaching_rows(scored, people.boxes.key, people.boxes.xyxy_01, gt_boxes)
    counts = scored.num_ground_truth
    found = np.bincount(scored.gt_class[np.unique(label)], minlength=len(counts))
    share = np.divide(found, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return mean_without_nan(share)


def confused_actions(scored: ScoredRows, people: People, limit: int) -> tuple[Confusion, ...]:
    """Return the pairs of actions that detected people most often score in the wrong order."""
    names, classes = scored.label_map.names, len(scored.label_map)
    found = np.flatnonzero(people.iou_of_person >= scored.iou_threshold)
    scores, labels = scores_and_labels(scored, people)
    scores, labels = scores[people.box_of_person[found]], labels[found]
    out = []
    for column in range(classes):
        mine = labels[:, column]
        without = ~labels[mine]
        confused = (without & (scores[mine] > scores[mine, column, None])).sum(axis=0)
        for other in np.flatnonzero(confused).tolist():
            counts = int(without[:, other].sum()), int(confused[other])
            out.append(Confusion(names[column], names[other], *counts))
    out.sort(key=lambda c: (-c.num_confused, c.action, c.other))
    return tuple(out[:limit])
