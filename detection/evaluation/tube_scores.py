"""Frame-mAP and video-mAP over tubes under a named protocol (`tube_protocols`).

Detections of a class take their turns from the highest score down, those of equal score as they are
listed. Legend: D detections, G ground truth, A classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detection.boxes import iou_matrix
from detection.evaluation.finite import check_values_finite
from detection.evaluation.frame_map import mean_without_nan
from detection.evaluation.tube_protocols import (
    TubeProtocol,
    area,
    closed,
    match_in_order,
    precision_recall_points,
    tube_iou,
    tube_protocol_named,
)
from detection.evaluation.tubes import Tube, Tubes

# As the scripts count them: 0.5 + 0.05 * 7 is not 0.85 to the last bit.
STRICT_IOUS = tuple(0.5 + 0.05 * step for step in range(10))
USUAL_IOUS = (0.2, 0.5, 0.75)

# Detected tubes of each class: the number of the video and the tube.
FoundTubes = Mapping[int, Sequence[tuple[int, Tube]]]


@dataclass(frozen=True)
class FrameBoxes:
    """Scored boxes of single frames.

    video, frame, column: (D,) number of the video, of the frame in it, of the class.
    score: (D,).
    boxes_px: (D, 4).
    """

    video: NDArray[np.int64]
    frame: NDArray[np.int64]
    column: NDArray[np.int64]
    score: NDArray[np.float64]
    boxes_px: NDArray[np.float64]


@dataclass(frozen=True)
class TubeMap:
    """A mean AP under a protocol.

    per_class: AP by class name; NaN where the protocol leaves the class out of the mean.
    num_ground_truth, num_detections: boxes of frames or tubes, by class name.
    """

    protocol: str
    iou_threshold: float
    mean_ap: float
    per_class: Mapping[str, float]
    num_ground_truth: Mapping[str, int]
    num_detections: Mapping[str, int]


def frame_map_of_tubes(
    truth: Tubes, found: FrameBoxes, names: Sequence[str], *, protocol: str, iou: float = 0.5
) -> TubeMap:
    """Score boxes of frames against the boxes of tubes.

    names: of the classes, by column. Raises `UserError` for an unknown protocol, and for scores and
    boxes that are not finite.
    """
    rules = tube_protocol_named(protocol)
    check_values_finite(found.score, "scores of frames")
    check_values_finite(found.boxes_px, "boxes of frames")

    def hits_of(column: int) -> tuple[list[NDArray[np.bool_]], int]:
        boxes_px = truth_by_frame(truth, lambda one: one == column)
        total = sum(map(len, boxes_px.values()))
        mine = np.flatnonzero(found.column == column)
        order = mine[np.argsort(-found.score[mine], kind="stable")]
        hits = np.zeros(len(order), bool)
        for cell, rows in rows_by_frame(found, order).items():
            if cell in boxes_px:
                ious = frame_ious(found.boxes_px[order[rows]], boxes_px[cell], rules)
                unmatched = rules.among_unmatched
                hits[rows] = match_in_order(ious, iou, among_unmatched=unmatched) >= 0
        return [hits], total

    return _maps(names, rules, (iou,), hits_of)[0]


def video_maps(
    truth: Tubes,
    found: FoundTubes,
    names: Sequence[str],
    *,
    protocol: str,
    ious: Sequence[float] = (*USUAL_IOUS, *STRICT_IOUS),
) -> list[TubeMap]:
    """Score tubes, once for each IoU threshold.

    Raises `UserError` for an unknown protocol or one of frames alone, and for scores and boxes that
    are not finite.
    """
    rules = tube_protocol_named(protocol, tubes=True)
    check_tubes_finite(found)

    def hits_of(column: int) -> tuple[list[NDArray[np.bool_]], int]:
        total = sum(len(tubes) for (one, _), tubes in truth.items() if one == column)
        tubes = in_turn(found.get(column, ()), rules)
        hits = [np.zeros(len(tubes), bool) for _ in ious]
        for video, rows in rows_by_video(tubes).items():
            goal = truth.get((column, video), [])
            overlaps = overlaps_of([tubes[row][1] for row in rows], goal, rules)
            for right, threshold in zip(hits, ious, strict=True):
                unmatched = rules.among_unmatched
                matched = match_in_order(overlaps, threshold, among_unmatched=unmatched)
                right[rows] = matched >= 0
        return hits, total

    return _maps(names, rules, ious, hits_of)


def mean_of_maps(results: Sequence[TubeMap]) -> TubeMap:
    """Return the mean of maps at several thresholds, by class too; `iou_threshold` is NaN."""
    first = results[0]
    per_class = {
        name: float(np.mean([one.per_class[name] for one in results])) for name in first.per_class
    }
    mean = float(np.mean([one.mean_ap for one in results]))
    return replace(first, iou_threshold=float("nan"), mean_ap=mean, per_class=per_class)


def in_turn(found: Sequence[tuple[int, Tube]], rules: TubeProtocol) -> list[tuple[int, Tube]]:
    """Return (video, tube) from the highest score down, suppressed where the rules say so."""
    ordered = sorted(found, key=lambda pair: -pair[1].score)
    if rules.suppress_iou is None:
        return ordered
    kept: list[tuple[int, Tube]] = []
    by_video: dict[int, list[Tube]] = {}
    for video, tube in ordered:
        better = by_video.setdefault(video, [])
        if all(tube_iou(one, tube, rules) <= rules.suppress_iou for one in better):
            better.append(tube)
            kept.append((video, tube))
    return kept


def overlaps_of(
    tubes: Sequence[Tube], goal: Sequence[Tube], rules: TubeProtocol
) -> NDArray[np.float64]:
    """Return the (D, G) spatiotemporal IoU."""
    values = [[tube_iou(one, tube, rules) for one in goal] for tube in tubes]
    return np.array(values, np.float64).reshape(len(tubes), len(goal))


def rows_by_video(tubes: Sequence[tuple[int, Tube]]) -> dict[int, list[int]]:
    """Return the positions of the tubes of each video, in their order."""
    rows: dict[int, list[int]] = {}
    for row, (video, _) in enumerate(tubes):
        rows.setdefault(video, []).append(row)
    return rows


def rows_by_frame(
    found: FrameBoxes, order: NDArray[np.int64]
) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Return the positions in `order` of the boxes of each (video, frame), in their order."""
    cells = np.stack([found.video[order], found.frame[order]], axis=1)
    distinct, inverse = np.unique(cells, axis=0, return_inverse=True)
    rows = np.argsort(inverse.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(inverse.reshape(-1), minlength=len(distinct)))[:-1]
    parts = np.split(rows, ends) if len(distinct) else []
    pairs = [(int(video), int(frame)) for video, frame in distinct.tolist()]
    return dict(zip(pairs, parts, strict=True))


def truth_by_frame(
    truth: Tubes, counts: Callable[[int], bool]
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Return the boxes (G, 4) of the classes that count, by (video, frame)."""
    boxes: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
    for (column, video), tubes in truth.items():
        if not counts(column):
            continue
        for tube in tubes:
            for number, box in enumerate(tube.boxes, tube.first):
                boxes.setdefault((video, number), []).append(box)
    return {cell: np.stack(members) for cell, members in boxes.items()}


def frame_ious(
    found_px: NDArray[np.float64], truth_px: NDArray[np.float64], rules: TubeProtocol
) -> NDArray[np.float64]:
    """Return the (D, G) IoU of boxes of one frame."""
    pixel = rules.frame_pixel
    return iou_matrix(closed(found_px, pixel), closed(truth_px, pixel))


def check_tubes_finite(found: FoundTubes) -> None:
    """Raise `UserError` where a score or a box is not finite."""
    tubes = [tube for pairs in found.values() for _, tube in pairs]
    check_values_finite(np.array([tube.score for tube in tubes], np.float64), "scores of tubes")
    for tube in tubes:
        check_values_finite(tube.boxes, "boxes of tubes")


def _maps(
    names: Sequence[str],
    rules: TubeProtocol,
    ious: Sequence[float],
    hits_of: Callable[[int], tuple[list[NDArray[np.bool_]], int]],
) -> list[TubeMap]:
    average = np.full((len(ious), len(names)), np.nan)
    totals, counts = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for column, name in enumerate(names):
        hits, totals[name] = hits_of(column)
        counts[name] = len(hits[0]) if hits else 0
        if name in rules.unscored or not (totals[name] or rules.zero_without_truth):
            continue
        for row, right in enumerate(hits):
            average[row, column] = area(*precision_recall_points(right, totals[name], rules), rules)
    return [
        TubeMap(
            protocol=rules.name,
            iou_threshold=float(iou),
            mean_ap=mean_without_nan(values),
            per_class=dict(zip(names, values.tolist(), strict=True)),
            num_ground_truth=totals,
            num_detections=counts,
        )
        for iou, values in zip(ious, average, strict=True)
    ]
