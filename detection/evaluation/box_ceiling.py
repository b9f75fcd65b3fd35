"""The highest frame-mAP that any classifier could reach with given boxes.

Within a keyframe and class a box can only match the one person it overlaps most among those who
have the label. So a label can be detected if it is the best match of some box; a classifier that
scores one such box 1 and everything else lowest detects all of them at precision 1, and no other
scores can do better. The detections of that classifier are made here and scored by the evaluator as
usual.

Legend: B boxes, G ground-truth rows that count, A classes.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows
from detection.evaluation.frame_map import AvaFrameMap, Rules, ScoredRows, score_rows
from detection.evaluation.people import pairs
from detection.structures import LabelMap

HIGHEST, LOWEST = 1.0, 0.01  # above `min_score` of every protocol


class PerfectClassifier:
    """A classifier that knows all labels, applied to given person boxes.

    boxes: B person boxes with scores.
    rules: options of `score_rows`.

    `mmaction2` leaves classes that are never predicted out of the mean: there the ceiling is that
    of classifiers that predict every class.
    """

    def __init__(
        self, ground_truth: AvaRows, boxes: AvaRows, label_map: LabelMap, **rules: Unpack[Rules]
    ) -> None:
        self._ground_truth, self._boxes = ground_truth, boxes
        self._ids = np.asarray(label_map.ids, np.int32)
        everything = np.arange(len(boxes))
        one_class = self._detections(everything, np.zeros_like(everything), LOWEST)
        self._scored = score_rows(ground_truth, one_class, label_map, **rules)
        gt_boxes = ground_truth.boxes_01[self._scored.gt_row].astype(self._scored.score.dtype)
        self._box, self._column, self._label = reaching_rows(
            self._scored, self._scored.keys.detections, boxes.boxes_01, gt_boxes
        )

    def ceiling(self, kept: NDArray[np.bool_] | None = None) -> AvaFrameMap:
        """Return its frame-mAP, with the boxes of the mask `kept` (B,) alone; None: with all."""
        return self._scored.score_again(self._ground_truth, self.detections(kept)).frame_map()

    def detections(self, kept: NDArray[np.bool_] | None = None) -> AvaRows:
        """Return its detections, in the order of the boxes.

        Rows of the lowest score rank below every true positive and so change no AP; one per class
        is kept, so that the class counts as predicted.
        """
        given = slice(None) if kept is None else kept[self._box]
        box, column, label = self._box[given], self._column[given], self._label[given]
        # One box per label: the first, since in some protocols the first row of the file matches.
        first = np.sort(np.unique(label, return_index=True)[1])
        box, column = box[first], column[first]
        limit = self._scored.protocol.rows_per_keyframe
        if limit is not None:
            valuable = _most_valuable(self._scored, box, column, limit)
            box, column = box[valuable], column[valuable]
        if not len(box):
            return self._detections(box, column, HIGHEST)
        other = np.setdiff1d(np.arange(len(self._ids)), column)
        score = np.repeat([HIGHEST, LOWEST], [len(box), len(other)])
        box = np.append(box, np.full(len(other), box[0]))
        return self._detections(box, np.append(column, other), score)

    def _detections(
        self, box: NDArray[np.int64], column: NDArray[np.int64], score: NDArray[np.float64] | float
    ) -> AvaRows:
        boxes = self._boxes
        return AvaRows(
            path=boxes.path,
            video_names=boxes.video_names,
            video_index=boxes.video_index[box],
            time_us=boxes.time_us[box],
            boxes_01=boxes.boxes_01[box],
            action_id=self._ids[column],
            score=np.broadcast_to(np.asarray(score, np.float64), box.shape),
            line=boxes.line[box],
        )


def reaching_rows(
    scored: ScoredRows,
    key: NDArray[np.int32],
    boxes_01: NDArray[np.float64],
    gt_boxes: NDArray[np.floating],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (box, class, ground-truth row) of every possible true positive, boxes in order.

    key: (B,) keyframe of each box (B, 4).
    gt_boxes: (G, 4), in the precision of the IoU.
    """
    classes = len(scored.label_map)
    order = np.argsort(key, kind="stable")
    labels = np.sort(scored.gt_key.astype(np.int64) * classes + scored.gt_class)
    labels = labels[np.diff(labels, prepend=-1) > 0]  # np.unique hashes, which takes longer
    label, place = pairs((labels // classes).astype(np.int32), key[order])
    cell = np.sort(order[place] * classes + labels[label] % classes)
    box, column = cell // classes, cell % classes
    target, overlap, candidate = scored.best_overlap(key[box], column, box, boxes_01, gt_boxes)
    enough = overlap >= scored.iou_threshold
    return box[candidate[enough]], column[candidate[enough]], target[enough]


def _most_valuable(
    scored: ScoredRows, box: NDArray[np.int64], column: NDArray[np.int64], limit: int
) -> NDArray[np.int64]:
    """Return the positions of the `limit` rows of each keyframe that add most to the mean.

    A true positive adds 1 / (number of labels of its class) to the AP of its class.
    """
    key = scored.keys.detections[box]
    order = np.lexsort((scored.num_ground_truth[column], key))
    starts = np.flatnonzero(np.diff(key[order], prepend=-1) > 0)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return np.sort(order[rank < limit])
