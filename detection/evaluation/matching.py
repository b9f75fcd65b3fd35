"""Matching of detections to ground truth, on plain arrays.

Legend: D detections, G ground truths, K keyframes, A classes; a cell is a (keyframe, class) pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.boxes import paired_iou

# With more cells than this a search is used in place of a table, to save memory.
_LARGEST_TABLE = 1 << 27
# Pairs of detections and ground truths compared at a time: 200 people with the same action are
# 40,000 pairs per keyframe and class, and a pair takes about 150 bytes.
PAIRS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Boxes:
    """Distinct boxes.

    key: (N,) keyframe of each.
    xyxy_01: (N, 4).
    of_row: (rows,) the box of each row.
    """

    key: NDArray[np.int32]
    xyxy_01: NDArray[np.float64]
    of_row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.key)


def match_detections(
    overlaps: tuple[NDArray[np.int64], NDArray[np.floating], NDArray[np.int64]],
    det_score: NDArray[np.floating],
    num_ground_truth: int,
    iou_threshold: float,
    by_score: bool,
) -> NDArray[np.int32]:
    """Return for each detection (D,) the ground truth it matches, -1 for a false positive.

    overlaps: of `best_overlap`. Of the detections that overlap the same ground truth by the
        threshold, the highest score (by_score) or else the first listed matches it.
    """
    taken = np.full(len(det_score), -1, np.int32)
    target, overlap, candidate = overlaps
    enough = overlap >= iou_threshold
    candidate, target = candidate[enough], target[enough]
    if by_score:
        order = np.argsort(-det_score[candidate], kind="stable")
        candidate, target = candidate[order], target[order]
    winner = np.full(num_ground_truth, -1, np.int64)
    winner[target[::-1]] = candidate[::-1]  # the last assignment stays: the first in order
    found = np.flatnonzero(winner >= 0)
    taken[winner[found]] = found
    return taken


def best_overlap(
    *,
    det_cell: NDArray[np.integer],
    det_row: NDArray[np.int64],
    all_boxes: NDArray[np.float64],
    gt_cell: NDArray[np.integer],
    gt_boxes: NDArray[np.floating],
    num_cells: int,
) -> tuple[NDArray[np.int64], NDArray[np.floating], NDArray[np.int64]]:
    """Return (ground truth, IoU, detection), each (C,), for the C detections with ground truth.

    Those are the detections whose cell has ground truth, each with the one that it overlaps most.
    Memory grows with C, not with the pairs. `det_row` (D,) are rows in `all_boxes`. IoU is computed
    in the precision of `gt_boxes`.
    """
    gt_order = np.argsort(gt_cell, kind="stable")
    cells, starts, counts = np.unique(gt_cell[gt_order], return_index=True, return_counts=True)
    candidate = _members(det_cell, cells, num_cells)
    if not len(candidate):
        return np.zeros(0, np.int64), np.zeros(0), candidate
    place = np.searchsorted(cells, det_cell[candidate])
    target = np.empty(len(candidate), np.int64)
    overlap = np.empty(len(candidate), gt_boxes.dtype)
    for now in slices_of(counts[place], PAIRS_AT_ONCE):
        pairs = counts[place[now]]
        firsts = np.cumsum(pairs) - pairs
        within = np.arange(pairs.sum()) - np.repeat(firsts, pairs)
        pair_gt = gt_order[np.repeat(starts[place[now]], pairs) + within]
        boxes = all_boxes[det_row[candidate[now]]].astype(gt_boxes.dtype, copy=False)
        iou = paired_iou(np.repeat(boxes, pairs, axis=0), gt_boxes[pair_gt])

        best = np.maximum.reduceat(iou, firsts)
        is_best = np.flatnonzero(iou == np.repeat(best, pairs))
        owner = np.repeat(np.arange(len(pairs)), pairs)[is_best]
        first_best = is_best[np.append(True, owner[1:] != owner[:-1])]
        target[now], overlap[now] = pair_gt[first_best], best
    return target, overlap, candidate


def distinct(
    key: NDArray[np.int32], xyxy_01: NDArray[np.float64], row: NDArray[np.int64] | None = None
) -> Boxes:
    """Return the distinct (keyframe, box) pairs; `row` says which boxes the keys belong to."""
    rows = np.arange(len(key)) if row is None else row
    if not len(key):
        return Boxes(key, np.zeros((0, 4)), rows)
    # Rows of one box are mostly adjacent: reduce runs first, then sort the rest.
    changed = np.append(True, key[1:] != key[:-1])
    for column in range(4):
        values = xyxy_01[rows, column]
        changed[1:] |= values[1:] != values[:-1]
    starts = np.flatnonzero(changed)
    table = np.column_stack([xyxy_01[rows[starts]], key[starts]])
    order = np.lexsort(table.T)
    ranked = table[order]
    new = np.append(True, (ranked[1:] != ranked[:-1]).any(axis=1))
    of_start = np.empty(len(starts), np.int64)
    of_start[order] = np.cumsum(new) - 1
    of_row = np.repeat(of_start, np.diff(np.append(starts, len(key))))
    return Boxes(ranked[new, 4].astype(np.int32), ranked[new, :4], of_row)


def slices_of(sizes: NDArray[np.integer], most: int) -> Iterator[slice]:
    """Yield slices of consecutive sizes that sum to at most `most` (or of one larger size)."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + most, side="right")))
        yield slice(start, stop)
        start = stop


def best_rows(key: NDArray[np.int32], score: NDArray[np.floating], limit: int) -> NDArray[np.bool_]:
    """Return a mask (D,) of the `limit` highest-scored rows of each keyframe; of ties the first."""
    keep = np.ones(len(key), bool)
    order = None
    starts = np.flatnonzero(np.diff(key, prepend=np.int32(-1)))
    if len(np.unique(key[starts])) < len(starts):
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.diff(key[order], prepend=np.int32(-1)))
    lengths = np.diff(np.append(starts, len(key)))
    for length in np.unique(lengths[lengths > limit]).tolist():
        # Keyframes with equally many rows form one matrix: one `partition` serves them all.
        rows = starts[lengths == length][:, None] + np.arange(length)
        if order is not None:
            rows = order[rows]
        values = score[rows]
        least = np.partition(values, length - limit, axis=1)[:, length - limit, None]
        above, equal = values > least, values == least
        room = limit - above.sum(axis=1, keepdims=True)
        keep[rows] = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return keep


def _members(
    values: NDArray[np.integer], sorted_set: NDArray[np.integer], limit: int
) -> NDArray[np.int64]:
    """Return the positions of the values (all below `limit`) that are in the set."""
    if limit <= _LARGEST_TABLE:
        table = np.zeros(limit, bool)
        table[sorted_set] = True
        return np.flatnonzero(table[values])
    return np.flatnonzero(np.isin(values, sorted_set))
