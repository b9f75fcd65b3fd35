"""Where the average precision goes: errors by kind, the ceiling of the boxes, confused actions.

In the spirit of TIDE (Bolya et al., ECCV 2020): each kind of error is mended alone and the gain in
mean AP is reported. Gains do not add up to what is lost, since mending one kind leaves the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows
from detection.evaluation.average_precision import average_precision_of_sorted
from detection.evaluation.frame_map import ScoredRows, mean_without_nan
from detection.evaluation.keyframe_index import cells
from detection.evaluation.matching import best_overlap
from detection.evaluation.people import People, pair_people, pairs

# An overlap below this is none: the box belongs to nobody (TIDE's background threshold).
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
    """What stands between the detections and a mean of 1.

    gain: mean AP won by mending one kind of error.
    num_rows: false positives of that kind (for missed people: labels).
    ceiling: the mean AP if every box that is there had perfect scores.
    box_recall: share of people with a box of that overlap, by threshold.
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
    """Look at every false positive and every missed label of a scoring."""
    people = pair_people(scored, ground_truth, detections)
    kinds = _Kinds(scored, ground_truth, detections, people)
    base = mean_without_nan(scored.per_class_ap())
    gain, rows = {}, {}
    for kind in FALSE_POSITIVES:
        gain[kind] = kinds.mean_ap_without(kind) - base
        rows[kind] = int(np.count_nonzero(kinds.is_kind(kind)))
    gain[MISSED] = kinds.mean_ap_of_found_people() - base
    rows[MISSED] = int(np.count_nonzero(kinds.missed))
    return Diagnosis(
        mean_ap=base,
        gain=gain,
        num_rows=rows,
        ceiling=ceiling(scored, people),
        num_people=len(people.people),
        num_boxes=len(people.boxes),
        box_recall={t: people.recall(t) for t in sorted({0.3, scored.iou_threshold, 0.75})},
        confusions=confused_actions(scored, people, num_confusions),
    )


def false_positive_kinds(
    scored: ScoredRows, ground_truth: AvaRows, detections: AvaRows
) -> dict[str, NDArray[np.bool_]]:
    """Return a mask (D,) of the detections that count for each kind of false positive."""
    people = pair_people(scored, ground_truth, detections)
    kinds = _Kinds(scored, ground_truth, detections, people)
    return {kind: kinds.is_kind(kind) for kind in FALSE_POSITIVES}


class _Kinds:
    """The kind of each false positive, and mean AP with one kind mended."""

    def __init__(
        self, scored: ScoredRows, ground_truth: AvaRows, detections: AvaRows, people: People
    ) -> None:
        self.scored = scored
        classes = len(scored.label_map)
        number = scored.score.dtype
        wanted, overlap, candidate = best_overlap(
            det_cell=cells(scored.key, scored.class_index, classes, len(scored.keys)),
            det_row=scored.row,
            all_boxes=detections.boxes_01,
            gt_cell=cells(scored.gt_key, scored.gt_class, classes, len(scored.keys)),
            gt_boxes=ground_truth.boxes_01[scored.gt_row].astype(number),
            num_cells=len(scored.keys) * classes,
        )
        same = np.zeros(len(scored.row), np.float32)
        same[candidate] = overlap
        anyone = people.iou_of_box[people.boxes.of_row].astype(np.float32)
        threshold = scored.iou_threshold
        false = scored.matched < 0
        self._of = {
            DUPLICATE: false & (same >= threshold),
            POOR_BOX: false & (same >= BACKGROUND_IOU) & (same < threshold),
        }
        other = false & (same < BACKGROUND_IOU)
        self._of[WRONG_CLASS] = other & (anyone >= threshold)
        self._of[BOTH] = other & (anyone >= BACKGROUND_IOU) & (anyone < threshold)
        self._of[BACKGROUND] = other & (anyone < BACKGROUND_IOU)
        self._wanted, self._candidate = wanted, candidate
        covered = people.iou_of_person >= threshold
        self.missed = ~covered[people.people.of_row]

    def is_kind(self, kind: str) -> NDArray[np.bool_]:
        """Return a mask of the rows of one kind."""
        return self._of[kind]

    def mean_ap_without(self, kind: str) -> float:
        """Return mean AP when false positives of a kind go; poor boxes become right where free."""
        keep, true = ~self._of[kind], self.scored.matched >= 0
        if kind == POOR_BOX:
            mended = self._mended()
            keep, true = keep | mended, true | mended
        return self._mean_ap(keep, true, self.scored.num_ground_truth)

    def mean_ap_of_found_people(self) -> float:
        """Return mean AP when labels of people without a box do not count."""
        lost = np.bincount(self.scored.gt_class[self.missed], minlength=len(self.scored.label_map))
        left = self.scored.num_ground_truth - lost
        true = self.scored.matched >= 0
        return self._mean_ap(np.ones(len(true), bool), true, np.where(left > 0, left, 0))

    def _mended(self) -> NDArray[np.bool_]:
        """Return the best-scored poor box of every ground truth that nobody took."""
        free = np.ones(len(self.scored.gt_row), bool)
        free[self.scored.matched[self.scored.matched >= 0]] = False
        poor = self._of[POOR_BOX][self._candidate] & free[self._wanted]
        rows, wanted = self._candidate[poor], self._wanted[poor]
        order = np.argsort(-self.scored.score[rows], kind="stable")
        _, first = np.unique(wanted[order], return_index=True)
        mended = np.zeros(len(self.scored.row), bool)
        mended[rows[order][first]] = True
        return mended

    def _mean_ap(
        self, keep: NDArray[np.bool_], true: NDArray[np.bool_], counts: NDArray[np.int64]
    ) -> float:
        values = np.full(len(counts), np.nan)
        for column, members in enumerate(self.scored.by_class):
            if not len(members) and not self.scored.protocol.unpredicted_is_zero:
                continue
            scores = self.scored.score[members]
            kept = np.sort(scores[keep[members]])
            right = scores[true[members]]
            values[column] = average_precision_of_sorted(kept, right, int(counts[column]))
        return mean_without_nan(values)


def ceiling(scored: ScoredRows, people: People) -> float:
    """Return the mean AP if the scores were perfect and the boxes stayed as they are.

    A label can be reached where some box overlaps its person most among those who have the label,
    and by the threshold; perfect scores put such boxes first, so AP is the share reached.
    """
    classes = len(scored.label_map)
    gt_person = people.people.of_row
    label_key, label_class = scored.labels_of_keyframes()
    label, box = pairs(label_key, people.boxes.key)
    if not len(label):
        return mean_without_nan(np.where(scored.num_ground_truth > 0, 0.0, np.nan))
    # One candidate row per box and class that its keyframe has.
    unique = np.sort(box * classes + label_class[label])
    key = people.boxes.key[unique // classes]
    wanted, overlap, _ = best_overlap(
        det_cell=cells(key, unique % classes, classes, len(scored.keys)),
        det_row=unique // classes,
        all_boxes=people.boxes.xyxy_01,
        gt_cell=cells(scored.gt_key, scored.gt_class, classes, len(scored.keys)),
        gt_boxes=people.people.xyxy_01[gt_person],
        num_cells=len(scored.keys) * classes,
    )
    reached = np.unique(wanted[overlap >= scored.iou_threshold])
    found = np.bincount(scored.gt_class[reached], minlength=classes)
    counts = scored.num_ground_truth
    share = np.divide(found, counts, out=np.full(classes, np.nan), where=counts > 0)
    return mean_without_nan(share)


def confused_actions(scored: ScoredRows, people: People, limit: int) -> tuple[Confusion, ...]:
    """Return the pairs of actions that most people who are found score in the wrong order."""
    names, classes = scored.label_map.names, len(scored.label_map)
    found = np.flatnonzero(people.iou_of_person >= scored.iou_threshold)
    place = np.full(len(people.boxes), -1)
    place[people.box_of_person[found]] = np.arange(len(found))
    scores = np.full((len(people.boxes), classes), -np.inf, np.float32)
    scores[people.boxes.of_row, scored.class_index] = scored.score
    scores = scores[people.box_of_person[found]]
    labels = np.zeros((len(people.people), classes), bool)
    labels[people.people.of_row, scored.gt_class] = True
    labels = labels[found]
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
