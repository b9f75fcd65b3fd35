"""Video-mAP: average precision of tubes, as JHMDB and UCF101-24 are scored.

The rule is that of the ACT detector's released code, which the field uses: detected tubes of a
class, best score first, match the unmatched ground-truth tube of their video that they overlap
most; AP is the area under the precision-recall points, joined linearly. Boxes are fractions of the
frame, so the code's "+ 1" pixel in widths and heights does not apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from detection.datasets.ava_csv import AvaRows
from detection.errors import UserError
from detection.evaluation.along_tracks import check_tracks
from detection.evaluation.finite import check_rows_finite
from detection.evaluation.frame_map import mean_without_nan
from detection.evaluation.tubes import (
    LEAST_FRAMES,
    Frames,
    Tube,
    Tubes,
    ground_truth_tubes,
    linked_tubes,
    overlap,
    tracked_tubes,
)
from detection.structures import LabelMap

STRICT = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
THRESHOLDS = (0.2, *STRICT)


@dataclass(frozen=True)
class VideoMap:
    """Video-mAP at several IoU thresholds.

    mean_ap: by threshold: "0.2", "0.5", "0.5:0.95".
    per_class: AP by class name and threshold; NaN without a ground-truth tube.
    num_ground_truth, num_detections: tubes by class name.
    linked: whether detections were linked to tubes here (else by `track_id`).
    """

    mean_ap: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    num_ground_truth: Mapping[str, int]
    num_detections: Mapping[str, int]
    num_videos: int
    linked: bool


def video_map(
    ground_truth: AvaRows,
    detections: AvaRows,
    label_map: LabelMap,
    *,
    least_frames: int = LEAST_FRAMES,
    progress: bool = False,
) -> VideoMap:
    """Score tubes: those of the `track_id` column, else boxes linked from frame to frame.

    Raises `UserError` if the ground truth has no tube, for scores or boxes that are not finite, and
    where a detected track has several boxes at a keyframe.
    """
    check_rows_finite(ground_truth)
    check_rows_finite(detections)
    frames = Frames(ground_truth, detections)
    truth = ground_truth_tubes(ground_truth, frames, label_map)
    if not truth:
        raise UserError(f"{ground_truth.path}: no tube of a class of the label map")
    linked = detections.track_id is None
    if linked:
        found = linked_tubes(
            detections, frames, label_map, least_frames=least_frames, progress=progress
        )
    else:
        check_tracks(detections)
        found = tracked_tubes(detections, frames, label_map)
    names = label_map.names
    values = np.array([
        [tube_ap(*_of_class(truth, found, column), threshold) for threshold in THRESHOLDS]
        for column in range(len(names))
    ])  # fmt: skip
    columns = {"0.2": values[:, 0], "0.5": values[:, 1], "0.5:0.95": values[:, 1:].mean(axis=1)}
    return VideoMap(
        mean_ap={name: mean_without_nan(column) for name, column in columns.items()},
        per_class={
            name: {key: float(column[row]) for key, column in columns.items()}
            for row, name in enumerate(names)
        },
        num_ground_truth=_counts(truth, names),
        num_detections=_counts(found, names),
        num_videos=len({video for _, video in truth}),
        linked=linked,
    )


def tube_ap(truth: dict[int, list[Tube]], found: list[tuple[int, Tube]], threshold: float) -> float:
    """Return the AP of (video, tube) detections of one class; NaN without ground truth."""
    total = sum(map(len, truth.values()))
    if not total:
        return float("nan")
    free = {video: list(tubes) for video, tubes in truth.items()}
    right = []
    for video, tube in sorted(found, key=lambda pair: -pair[1].score):
        overlaps = [overlap(other, tube) for other in free.get(video, [])]
        best = int(np.argmax(overlaps)) if overlaps else -1
        right.append(best >= 0 and overlaps[best] >= threshold)
        if right[-1]:
            del free[video][best]
    hits = np.cumsum(right)
    precision = np.append(1.0, hits / np.arange(1, len(right) + 1))
    recall = np.append(0.0, hits / total)
    return float((np.diff(recall) * (precision[1:] + precision[:-1]) / 2).sum())


def _of_class(
    truth: Tubes, found: Tubes, column: int
) -> tuple[dict[int, list[Tube]], list[tuple[int, Tube]]]:
    theirs = {video: tubes for (one, video), tubes in truth.items() if one == column}
    mine = [(v, tube) for (one, v), tubes in found.items() if one == column for tube in tubes]
    return theirs, mine


def _counts(tubes: Tubes, names: tuple[str, ...]) -> dict[str, int]:
    counts = dict.fromkeys(names, 0)
    for (column, _), members in tubes.items():
        counts[names[column]] += len(members)
    return counts
