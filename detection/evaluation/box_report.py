"""Quality of a file of person boxes: AP, recall and F1 by threshold, and the frame-mAP they allow.

Legend: K keyframes that count, N boxes of a keyframe. A box is a true positive when it overlaps a
person by IoU 0.5 whom no box of a higher score has matched (COCO's matching, as for AP).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows, check_probabilities
from detection.errors import UserError
from detection.evaluation.average_precision import (
    PrecisionRecall,
    average_precision,
    average_precision_of_sorted,
    precision_recall,
)
from detection.evaluation.box_ceiling import PerfectClassifier
from detection.evaluation.finite import check_rows_finite
from detection.evaluation.frame_map import AvaFrameMap
from detection.evaluation.keyframe_index import SharedKeys
from detection.evaluation.matching import distinct
from detection.evaluation.person_ap import PersonAp, match_boxes, person_ap
from detection.structures import ActorBoxes, Keyframe, LabelMap

USUAL_THRESHOLD = 0.8
# Share of the boxes' AP that a floor may cost where their scores are multiplied with the actions'.
FLOOR_COST = 0.005
TABLE_THRESHOLDS = tuple(step / 20 for step in range(20))


@dataclass(frozen=True)
class AtThreshold:
    """Figures of the boxes with a score of at least `threshold`; NaN where undefined.

    ap: area under their precision-recall curve at IoU 0.5: what they are worth where a weak box
        ranks below a sure one, as it does once scores are multiplied by the person's.
    ceiling: highest frame-mAP that any classifier could reach with these boxes.
    """

    threshold: float
    num_boxes: int
    precision: float
    recall: float
    f1: float
    ap: float
    ceiling: float


@dataclass(frozen=True)
class BoxReport:
    """A box file compared with the ground truth of its keyframes.

    num_keyframes: keyframes that count: those of the ground truth, without excluded ones (and, if
        `unlisted_are_empty`, those that it does not list).
    num_videos, videos_without_boxes: videos of these keyframes.
    num_people, num_boxes, keyframes_without_boxes: on these keyframes.
    boxes_elsewhere, keyframes_elsewhere: boxes on other keyframes, which count in no figure.
    ap: COCO's AP and AR of all boxes.
    curve: precision-recall curve.
    table: one entry per threshold.
    best: threshold of the highest F1, for boxes that count alike; None without a true positive.
    floor: lowest score for boxes whose scores are multiplied with the actions' (`lowest_floor`);
        None likewise.
    asked: at the threshold in use.
    ceiling: frame-mAP of a perfect classifier on all boxes.
    people_per_keyframe, boxes_per_keyframe: number of keyframes with 0, 1, 2 ... of them; boxes
        above the threshold in use.
    partly_labelled: whether some people have no ground truth; precision is then a lower bound.
    """

    num_keyframes: int
    num_videos: int
    num_people: int
    num_boxes: int
    keyframes_without_boxes: int
    videos_without_boxes: int
    boxes_elsewhere: int
    keyframes_elsewhere: int
    ap: PersonAp
    curve: PrecisionRecall
    table: tuple[AtThreshold, ...]
    best: AtThreshold | None
    floor: AtThreshold | None
    asked: AtThreshold
    ceiling: AvaFrameMap
    people_per_keyframe: tuple[int, ...]
    boxes_per_keyframe: tuple[int, ...]
    partly_labelled: bool


def report_boxes(
    ground_truth: AvaRows,
    boxes: AvaRows,
    label_map: LabelMap,
    *,
    exclusions: frozenset[Keyframe] = frozenset(),
    protocol: str | None = None,
    threshold: float = USUAL_THRESHOLD,
    partly_labelled: bool = False,
    unlisted_are_empty: bool = False,
) -> BoxReport:
    """Compare boxes with the ground truth.

    threshold: score threshold in use.  unlisted_are_empty: keyframes that the ground truth does not
    list, of its videos, hold no person (as in AVA's files).
    Raises `UserError` for boxes without scores, for scores that are no probabilities and for boxes
    of other keyframes.
    """
    row_score = boxes.score
    if row_score is None:
        raise UserError(f"{boxes.path}: person boxes need a score in column 8")
    check_rows_finite(ground_truth)
    check_rows_finite(boxes)
    check_probabilities(boxes)
    keys = SharedKeys(ground_truth, boxes, exclusions)
    _check_common(keys, ground_truth, boxes)
    counted = keys.annotated.copy()
    if unlisted_are_empty:
        known = np.unique(keys.video_of_key[keys.in_ground_truth_file])
        counted |= np.isin(keys.video_of_key, known) & ~keys.excluded
    people, found, scores = _by_keyframe(keys, counted, ground_truth, boxes, row_score)
    right = np.concatenate([np.zeros(0, bool), *map(match_boxes, people, found)])
    num_people = sum(map(len, people))
    perfect = PerfectClassifier(
        ground_truth, boxes, label_map, exclusions=exclusions, protocol=protocol
    )

    def at(least: float) -> AtThreshold:
        ceiling = perfect.ceiling(row_score >= least).mean_ap
        kept = scores >= least
        return _at(least, scores[kept], right[kept], num_people, ceiling)

    best = best_f1_threshold(scores, right, num_people)
    floor = lowest_floor(scores, right, num_people)
    return BoxReport(
        **_coverage(keys, counted),
        num_people=num_people,
        ap=person_ap(people, found),
        curve=precision_recall(scores, right, num_people),
        table=tuple(map(at, TABLE_THRESHOLDS)),
        best=None if best is None else at(best),
        floor=None if floor is None else at(floor),
        asked=at(threshold),
        ceiling=perfect.ceiling(),
        people_per_keyframe=_histogram([len(there) for there in people]),
        boxes_per_keyframe=_histogram(
            [int((there.score >= np.float32(threshold)).sum()) for there in found]
        ),
        partly_labelled=partly_labelled,
    )


def best_f1_threshold(
    scores: NDArray[np.float64], right: NDArray[np.bool_], num_people: int
) -> float | None:
    """Return the threshold, in hundredths, of the highest F1; of equal neighbours the middle one.

    scores, right: (boxes,); `right` marks true positives. None without any.
    """
    if not right.any():
        return None
    hundredths = np.arange(100) / 100
    ascending, right_ascending = np.sort(scores), np.sort(scores[right])
    kept = len(scores) - np.searchsorted(ascending, hundredths)
    found = len(right_ascending) - np.searchsorted(right_ascending, hundredths)
    f1 = 2 * found / (kept + num_people)
    is_best = np.append(f1 == f1.max(), False)
    first = int(is_best.argmax())
    end = first + int(is_best[first:].argmin())
    return float(hundredths[(first + end - 1) // 2])


def lowest_floor(
    scores: NDArray[np.float64],
    right: NDArray[np.bool_],
    num_people: int,
    *,
    cost: float = FLOOR_COST,
) -> float | None:
    """Return the score, in hundredths, from which boxes count where scores are multiplied.

    scores, right: (boxes,); `right` marks true positives. None without any.

    A floor takes boxes from the end of a ranking, so AP never rises with it: F1's threshold gives
    up recall that would have cost nothing. Up to `cost`, a share of the AP of all boxes, is given
    up, so that a long tail of boxes which find next to no one is not kept: what is found there
    counts by the precision at which it is found. Of floors that keep the same boxes the lowest.
    """
    if not right.any():
        return None
    hundredths = np.arange(100) / 100
    ascending, right_ascending = np.sort(scores), np.sort(scores[right])
    begin = np.searchsorted(ascending, hundredths).tolist()
    right_begin = np.searchsorted(right_ascending, hundredths).tolist()
    ap = np.array([
        average_precision_of_sorted(ascending[a:], right_ascending[b:], num_people)
        for a, b in zip(begin, right_begin, strict=True)
    ])  # fmt: skip
    last = int(np.flatnonzero(ap >= (1 - cost) * ap[0] - 1e-12)[-1])
    return float(hundredths[begin.index(begin[last])])


def _at(
    threshold: float,
    scores: NDArray[np.float64],
    right: NDArray[np.bool_],
    num_people: int,
    ceiling: float,
) -> AtThreshold:
    """Return the figures of the boxes that are left; `right` marks their true positives."""
    true, kept = int(right.sum()), len(right)
    return AtThreshold(
        threshold=threshold,
        num_boxes=kept,
        precision=true / kept if kept else math.nan,
        recall=true / num_people if num_people else math.nan,
        f1=2 * true / (kept + num_people) if num_people else math.nan,
        ap=average_precision(scores, right, num_people),
        ceiling=ceiling,
    )


def _coverage(keys: SharedKeys, counted: NDArray[np.bool_]) -> dict[str, int]:
    """Count keyframes, videos and boxes, on the keyframes that count and elsewhere."""
    is_here = counted[keys.detections]
    with_boxes, elsewhere = np.zeros(len(keys), bool), np.zeros(len(keys), bool)
    with_boxes[keys.detections[is_here]] = True
    elsewhere[keys.detections[~is_here]] = True
    videos, found = (np.unique(keys.video_of_key[mask]) for mask in (counted, with_boxes))
    return {
        "num_keyframes": int(counted.sum()),
        "num_videos": len(videos),
        "num_boxes": int(is_here.sum()),
        "keyframes_without_boxes": int((counted & ~with_boxes).sum()),
        "videos_without_boxes": len(np.setdiff1d(videos, found)),
        "boxes_elsewhere": int((~is_here).sum()),
        "keyframes_elsewhere": int(elsewhere.sum()),
    }


def _check_common(keys: SharedKeys, ground_truth: AvaRows, boxes: AvaRows) -> None:
    if not keys.annotated.any():
        raise UserError(f"{ground_truth.path}: no keyframe that counts, all are excluded")
    if keys.in_ground_truth_file[keys.detections].any():
        return
    both = sorted(set(boxes.video_names) & set(ground_truth.video_names))
    if both:
        theirs, ours = (
            next(str(key) for key in rows.keyframes() if key.video_id == both[0])
            for rows in (boxes, ground_truth)
        )
        problem = f"the boxes begin with {theirs}, the ground truth with {ours}"
    else:
        theirs, ours = (min(rows.video_names, default="nothing") for rows in (boxes, ground_truth))
        problem = f"the boxes are of other videos ({theirs} ...) than the ground truth ({ours} ...)"
    raise UserError(f"{boxes.path}: no keyframe in common with {ground_truth.path}: {problem}")


def _by_keyframe(
    keys: SharedKeys,
    counted: NDArray[np.bool_],
    ground_truth: AvaRows,
    boxes: AvaRows,
    score: NDArray[np.float64],
) -> tuple[list[ActorBoxes], list[ActorBoxes], NDArray[np.float64]]:
    """Return people and boxes of each of K keyframes, and the scores of all boxes.

    A person with several actions is one person.
    """
    chosen = np.flatnonzero(counted)
    people = distinct(keys.ground_truth, ground_truth.boxes_01)
    order = np.argsort(keys.detections, kind="stable")
    order = order[counted[keys.detections[order]]]
    there = _cut(people.xyxy_01, np.ones(len(people)), people.key, chosen)
    found = _cut(boxes.boxes_01[order], score[order], keys.detections[order], chosen)
    return there, found, score[order]


def _cut(
    boxes_01: NDArray[np.float64],
    score: NDArray[np.float64],
    sorted_keys: NDArray[np.int32],
    chosen: NDArray[np.int64],
) -> list[ActorBoxes]:
    begin = np.searchsorted(sorted_keys, chosen, side="left").tolist()
    end = np.searchsorted(sorted_keys, chosen, side="right").tolist()
    boxes, scores = boxes_01.astype(np.float32), score.astype(np.float32)
    return [ActorBoxes(boxes[a:b], scores[a:b]) for a, b in zip(begin, end, strict=True)]


def _histogram(counts: Sequence[int]) -> tuple[int, ...]:
    return tuple(np.bincount(np.asarray(counts, np.int64)).tolist())
