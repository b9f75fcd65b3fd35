"""Frame-mAP as AVA defines it, under a named protocol.

Within a keyframe and class each detection is compared with the one ground truth it overlaps most
(of equal overlaps, the one listed first): a true positive if the overlap reaches the threshold and
that ground truth is not matched yet, else a false positive, without a second choice.

Legend: D detection rows, G ground-truth rows, K keyframes, A classes. Equal scores are one point of
the precision-recall curve; where a rule must choose among rows of equal score (which one matches a
ground truth, which is among the 50 rows of a keyframe), the one listed first is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows
from detection.errors import UserError, at_row
from detection.evaluation.average_precision import average_precision_of_sorted
from detection.evaluation.finite import check_rows_finite, check_values_finite
from detection.evaluation.keyframe_index import ClassColumns, SharedKeys, cells
from detection.evaluation.matching import best_overlap, best_rows, distinct, match_detections
from detection.evaluation.protocols import (
    DEFAULT_FRACTIONAL,
    DEFAULT_WHOLE,
    Protocol,
    protocol_named,
)
from detection.structures import FrameMap, Keyframe, LabelMap


@dataclass(frozen=True)
class AvaFrameMap(FrameMap):
    """Frame-mAP with AVA's groups and counts of the rows that were left out.

    group_ap: mean AP of the classes of each group.
    num_boxes: distinct ground-truth boxes.
    num_annotated_keyframes: keyframes of the ground-truth file; `num_keyframes` also counts those
        with detections alone.
    left_out: number of rows left out, by reason.
    """

    group_ap: Mapping[str, float] = field(default_factory=dict)
    num_boxes: int = 0
    num_annotated_keyframes: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)


class Rules(TypedDict, total=False):
    """Options of `score_rows`.

    exclusions: keyframes that do not count.
    protocol: None: by whether all times are whole seconds.
    iou_threshold: of a true positive.
    """

    exclusions: frozenset[Keyframe]
    protocol: str | None
    iou_threshold: float


def frame_map(
    ground_truth: AvaRows, detections: AvaRows, label_map: LabelMap, **rules: Unpack[Rules]
) -> AvaFrameMap:
    """Score detections (see `score_rows`).

    The mean is NaN where no ground truth counts (`why_no_ground_truth` says why).
    """
    return score_rows(ground_truth, detections, label_map, **rules).frame_map()


@dataclass(frozen=True)
class ScoredRows:
    """Matched detections: the mean, the curves and the diagnosis are computed from these.

    keys: keyframes as numbers.
    row: (D,) position in the detections, of those that count, in file order.
    class_index, score: (D,) of each.
    key: (D,) keyframe of each, a number in `keys`.
    matched: (D,) position of the matched ground truth among the G; -1 for a false positive.
    gt_row, gt_class, gt_key: (G,) the same of ground-truth rows that count.
    num_ground_truth: (A,) that recall is measured by.
    """

    protocol: Protocol
    label_map: LabelMap
    iou_threshold: float
    exclusions: frozenset[Keyframe]
    keys: SharedKeys
    row: NDArray[np.int64]
    class_index: NDArray[np.int16]
    score: NDArray[np.floating]
    key: NDArray[np.int32]
    matched: NDArray[np.int32]
    gt_row: NDArray[np.int64]
    gt_class: NDArray[np.int16]
    gt_key: NDArray[np.int32]
    num_ground_truth: NDArray[np.int64]
    num_boxes: int
    num_keyframes: int
    num_annotated_keyframes: int
    left_out: Mapping[str, int]

    @cached_property
    def by_class(self) -> list[NDArray[np.int64]]:
        """The positions of the detections of each class."""
        order = np.argsort(self.class_index, kind="stable")
        ends = np.cumsum(np.bincount(self.class_index, minlength=len(self.label_map)))
        return np.split(order, ends[:-1])

    def score_again(self, ground_truth: AvaRows, detections: AvaRows) -> ScoredRows:
        """Match other rows under the same rules."""
        return score_rows(
            ground_truth, detections, self.label_map, exclusions=self.exclusions,
            protocol=self.protocol.name, iou_threshold=self.iou_threshold,
        )  # fmt: skip

    def best_overlap(
        self,
        key: NDArray[np.int32],
        column: NDArray[np.integer],
        row: NDArray[np.int64],
        boxes_01: NDArray[np.float64],
        gt_boxes: NDArray[np.floating],
    ) -> tuple[NDArray[np.int64], NDArray[np.floating], NDArray[np.int64]]:
        """Return `matching.best_overlap` of boxes with the ground truth that counts.

        key, column: keyframe and class of each box.
        row: its position in `boxes_01`.
        gt_boxes: (G, 4), in the precision of the IoU.
        """
        classes, num_keys = len(self.label_map), len(self.keys)
        return best_overlap(
            det_cell=cells(key, column, classes, num_keys),
            det_row=row,
            all_boxes=boxes_01,
            gt_cell=cells(self.gt_key, self.gt_class, classes, num_keys),
            gt_boxes=gt_boxes,
            num_cells=num_keys * classes,
        )

    def per_class_ap(
        self,
        kept: NDArray[np.bool_] | None = None,
        true: NDArray[np.bool_] | None = None,
        num_ground_truth: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float64]:
        """Return the AP (A,) of each class, NaN where the protocol leaves it out.

        kept, true: (D,) detections to score and those that are true positives (None: all; those
            matched).
        num_ground_truth: (A,) in place of the counts of the matching.
        """
        average = np.full(len(self.label_map), np.nan)
        true = self.matched >= 0 if true is None else true
        counts = self.num_ground_truth if num_ground_truth is None else num_ground_truth
        for column, members in enumerate(self.by_class):
            if len(members) or self.protocol.unpredicted_is_zero:
                scored = members if kept is None else members[kept[members]]
                scores, right = self.score[scored], self.score[members[true[members]]]
                average[column] = average_precision_of_sorted(
                    np.sort(scores), right, int(counts[column])
                )
        return average

    def frame_map(self) -> AvaFrameMap:
        """Return the means and the counts."""
        average = self.per_class_ap()
        names = self.label_map.names
        found = np.bincount(self.class_index, minlength=len(names))
        return AvaFrameMap(
            protocol=self.protocol.name,
            mean_ap=mean_without_nan(average),
            per_class=dict(zip(names, average.tolist(), strict=True)),
            num_ground_truth=dict(zip(names, self.num_ground_truth.tolist(), strict=True)),
            num_detections=dict(zip(names, found.tolist(), strict=True)),
            num_keyframes=self.num_keyframes,
            iou_threshold=self.iou_threshold,
            group_ap=group_means(average, self.label_map),
            num_boxes=self.num_boxes,
            num_annotated_keyframes=self.num_annotated_keyframes,
            left_out=self.left_out,
        )


def score_rows(
    ground_truth: AvaRows,
    detections: AvaRows,
    label_map: LabelMap,
    *,
    exclusions: frozenset[Keyframe] = frozenset(),
    protocol: str | None = None,
    iou_threshold: float = 0.5,
) -> ScoredRows:
    """Match detections to ground truth; for the options see `Rules`.

    Raises `UserError` for fractional times under a protocol of whole seconds, and for scores and
    boxes that are not finite.
    """
    if detections.score is None:
        raise ValueError("detections need scores")
    check_rows_finite(ground_truth)
    check_rows_finite(detections)
    keys = SharedKeys(ground_truth, detections, exclusions)
    default = DEFAULT_WHOLE if keys.all_whole_seconds else DEFAULT_FRACTIONAL
    rules = protocol_named(default if protocol is None else protocol)
    if rules.whole_seconds and not keys.all_whole_seconds:
        raise _fractional_time(rules, ground_truth, detections, exclusions)
    gt_class = ClassColumns(label_map).of(ground_truth.action_id)
    left_out: dict[str, int] = {}
    gt_row, counted = _ground_truth_that_counts(rules, keys, ground_truth, gt_class, left_out)
    gt_key, gt_class_kept = keys.ground_truth[gt_row], gt_class[gt_row]
    row, det_class = _detections_that_count(
        rules, keys, detections, ClassColumns(label_map).of(detections.action_id), gt_key, left_out
    )
    det_key = keys.detections[row]
    score = _scores(rules, detections, row)
    with_rows = keys.annotated.copy()
    with_rows[det_key] = True
    scored = ScoredRows(
        protocol=rules,
        label_map=label_map,
        iou_threshold=iou_threshold,
        exclusions=exclusions,
        keys=keys,
        row=row,
        class_index=det_class,
        score=score,
        key=det_key,
        matched=np.zeros(0, np.int32),  # filled in below
        gt_row=gt_row,
        gt_class=gt_class_kept,
        gt_key=gt_key,
        num_ground_truth=np.bincount(gt_class[counted], minlength=len(label_map)),
        num_boxes=len(distinct(gt_key, ground_truth.boxes_01, gt_row)),
        num_keyframes=int(with_rows.sum()),
        num_annotated_keyframes=int(keys.annotated.sum()),
        left_out={reason: count for reason, count in left_out.items() if count},
    )
    gt_boxes = ground_truth.boxes_01[gt_row].astype(score.dtype, copy=False)
    overlaps = scored.best_overlap(det_key, det_class, row, detections.boxes_01, gt_boxes)
    matched = match_detections(overlaps, score, len(gt_row), iou_threshold, rules.match_by_score)
    return replace(scored, matched=matched)


def _scores(rules: Protocol, rows: AvaRows, row: NDArray[np.int64]) -> NDArray[np.floating]:
    assert rows.score is not None
    number: type[np.floating] = np.float32 if rules.single_precision else np.float64
    with np.errstate(over="ignore"):
        score: NDArray[np.floating] = rows.score[row].astype(number, copy=False)
    check_values_finite(score, f"{rows.path}: scores in the precision of protocol {rules.name}")
    return score


def _ground_truth_that_counts(
    rules: Protocol,
    keys: SharedKeys,
    rows: AvaRows,
    gt_class: NDArray[np.int16],
    left_out: dict[str, int],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the rows that can be matched, and a mask of the rows that recall is measured by."""
    known = gt_class >= 0
    excluded = keys.excluded[keys.ground_truth]
    keep = known & ~excluded
    left_out["ground truth without a label"] = int((rows.action_id < 0).sum())
    left_out["ground truth of classes outside the label map"] = int(
        (~known & (rows.action_id >= 0)).sum()
    )
    left_out["ground truth on excluded keyframes"] = int((known & excluded).sum())
    return np.flatnonzero(keep), known if rules.excluded_count_in_recall else keep


def _detections_that_count(
    rules: Protocol,
    keys: SharedKeys,
    rows: AvaRows,
    det_class: NDArray[np.int16],
    gt_key: NDArray[np.int32],
    left_out: dict[str, int],
) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """Return the positions and classes of the rows that count under the protocol."""
    assert rows.score is not None
    key, boxes, keep = keys.detections, rows.boxes_01, det_class >= 0

    def drop(reason: str, mask: NDArray[np.bool_]) -> None:
        nonlocal keep
        left_out[f"detections {reason}"] = int(np.count_nonzero(keep & ~mask))
        keep &= mask

    left_out["detections of classes outside the label map"] = int(np.count_nonzero(~keep))
    if rules.rows_per_keyframe is not None:
        known = np.flatnonzero(keep)
        best = np.zeros(len(keep), bool)
        best[known] = best_rows(key[known], rows.score[known], rules.rows_per_keyframe)
        drop(f"beyond the {rules.rows_per_keyframe} best rows of their keyframe", best)
    drop("on excluded keyframes", ~keys.excluded[key])
    if rules.min_score is not None:
        drop(f"with scores under {rules.min_score:g}", rows.score >= rules.min_score)
    if rules.ignore_keyframes_without == "rows":
        drop("on keyframes that are not in the ground truth", keys.in_ground_truth_file[key])
    if rules.ignore_keyframes_without == "labels":
        labelled = np.zeros(len(keys), bool)
        labelled[gt_key] = True
        drop("on keyframes without labels", labelled[key])
    if rules.drop_empty_boxes:
        solid = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
        drop("with empty or inside-out boxes", solid)
    else:
        drop("with inside-out boxes", (boxes[:, 0] <= boxes[:, 2]) & (boxes[:, 1] <= boxes[:, 3]))
    row = np.flatnonzero(keep)
    return row, det_class[row]


def mean_without_nan(values: NDArray[np.float64]) -> float:
    """Return the mean without NaN; NaN if nothing is left."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def group_means(average: NDArray[np.float64], label_map: LabelMap) -> dict[str, float]:
    """Return the mean AP of each group of classes; empty without groups."""
    if label_map.groups is None:
        return {}
    groups = np.array(label_map.groups)
    return {str(g): mean_without_nan(average[groups == g]) for g in dict.fromkeys(groups.tolist())}


def _fractional_time(
    rules: Protocol, ground_truth: AvaRows, detections: AvaRows, exclusions: frozenset[Keyframe]
) -> UserError:
    where, line, time_s = "the exclusions", None, 0.0
    for rows in (ground_truth, detections):
        odd = np.flatnonzero(rows.time_us % 1_000_000)
        empty = [key.time_s for key in rows.empty_keyframes if key.time_s % 1]
        if len(odd) or empty:
            where = rows.path
            line = (int(rows.line[odd[0]]) or None) if len(odd) else None
            time_s = float(rows.time_us[odd[0]] / 1e6) if len(odd) else empty[0]
            break
    else:
        time_s = min(key.time_s for key in exclusions if key.time_s % 1)
    message = f"protocol {rules.name} keys keyframes by whole seconds, but this time is "
    return at_row(where, line, f"{message}{time_s:.6f}; use protocol {DEFAULT_FRACTIONAL}")


def why_no_ground_truth(ground_truth: AvaRows, label_map: LabelMap) -> str:
    """Say why nothing can be scored."""
    ids = sorted(set(ground_truth.action_id[ground_truth.action_id >= 0].tolist()))
    if not ids:
        return f"{ground_truth.path}: no box has an action label"
    if set(ids) & set(label_map.ids):
        return f"{ground_truth.path}: every labelled keyframe is excluded"
    return (
        f"{ground_truth.path}: none of its class ids ({_some(ids)}) is in the label map "
        f"({_some(sorted(label_map.ids))})"
    )


def _some(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
