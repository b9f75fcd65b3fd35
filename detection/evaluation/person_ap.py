"""AP and AR of person detections by COCO's rules (pycocotools), whatever the actions.

Legend: P frames, N boxes of a frame. Boxes are fractions of the frame: IoU is the same in any unit,
and COCO's size ranges are not used.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.boxes import iou_matrix
from detection.evaluation.finite import check_values_finite
from detection.structures import ActorBoxes

MAX_DETECTIONS = 100  # COCO's: boxes of a frame that count, by score


@dataclass(frozen=True)
class PersonAp:
    """COCO's metrics for one class; fractions, NaN without ground truth.

    ap: mean over IoU 0.5 to 0.95.
    ap50, ap75: at one IoU.
    ar: mean recall over the same IoUs.
    recall50: share of people found at IoU 0.5, at any score.
    num_pictures: frames scored.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float
    recall50: float
    num_pictures: int
    num_ground_truth: int
    num_detections: int


@dataclass(frozen=True)
class ScoreThreshold:
    """Precision and recall at IoU 0.5 of boxes with at least this score; NaN where undefined."""

    threshold: float
    precision: float
    recall: float


def person_ap(ground_truth: Sequence[ActorBoxes], detections: Sequence[ActorBoxes]) -> PersonAp:
    """Score the detections of P frames against the ground truth.

    Entry i of both is frame i. Raises `ValueError` for different lengths, and for boxes or scores
    that are not finite.
    """
    if len(ground_truth) != len(detections):
        raise ValueError(
            f"{len(ground_truth)} frames of ground truth, {len(detections)} of detections"
        )
    _check(ground_truth, detections)
    num_people, num_found = sum(map(len, ground_truth)), sum(map(len, detections))
    if num_people and num_found:
        figures = _coco_figures(ground_truth, detections)
    else:
        nothing = 0.0 if num_people else float("nan")
        figures = dict.fromkeys(("ap", "ap50", "ap75", "ar", "recall50"), nothing)
    return PersonAp(
        **figures,
        num_pictures=len(ground_truth),
        num_ground_truth=num_people,
        num_detections=num_found,
    )


def best_threshold(
    ground_truth: Sequence[ActorBoxes], detections: Sequence[ActorBoxes]
) -> ScoreThreshold | None:
    """Return the score with the highest F1 at IoU 0.5; None without people or without boxes."""
    scores, right, num_people = _right_by_score(ground_truth, detections)
    if not num_people or not len(scores):
        return None
    f1 = 2 * np.cumsum(right) / (np.arange(1, len(scores) + 1) + num_people)
    f1[:-1][scores[1:] == scores[:-1]] = -1  # boxes of one score stay or go together
    return threshold_at(float(scores[f1.argmax()]), ground_truth, detections)


def threshold_at(
    threshold: float, ground_truth: Sequence[ActorBoxes], detections: Sequence[ActorBoxes]
) -> ScoreThreshold:
    """Return precision and recall at IoU 0.5 of the boxes with at least this score."""
    scores, right, num_people = _right_by_score(ground_truth, detections)
    kept = int((scores >= threshold).sum())
    found = int(right[:kept].sum())
    return ScoreThreshold(
        threshold=threshold,
        precision=found / kept if kept else float("nan"),
        recall=found / num_people if num_people else float("nan"),
    )


def _right_by_score(
    ground_truth: Sequence[ActorBoxes], detections: Sequence[ActorBoxes]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], int]:
    """Return all scores, best first, a mask of true positives, and the number of people."""
    _check(ground_truth, detections)
    pairs = list(zip(ground_truth, detections, strict=True))
    right = np.concatenate([np.zeros(0, bool), *(match_boxes(t, d) for t, d in pairs)])
    scores = np.concatenate([np.zeros(0, np.float32), *(d.score for _, d in pairs)])
    order = np.argsort(-scores, kind="stable")
    return scores[order], right[order], sum(len(people) for people, _ in pairs)


def _check(ground_truth: Sequence[ActorBoxes], detections: Sequence[ActorBoxes]) -> None:
    """Raise `UserError` for boxes and scores that are not finite, naming the frame."""
    for what, frames in (("people", ground_truth), ("detections", detections)):
        for number, boxes in enumerate(frames):
            check_values_finite(boxes.xyxy_01, f"boxes of {what} of frame {number}")
            check_values_finite(boxes.score, f"scores of {what} of frame {number}")


def match_boxes(
    ground_truth: ActorBoxes, detections: ActorBoxes, iou_threshold: float = 0.5
) -> NDArray[np.bool_]:
    """Return a mask (N,) of true positives: best score first, each person once.

    Of equal overlaps the last person is matched, as in pycocotools.
    """
    right = np.zeros(len(detections), dtype=bool)
    overlap = iou_matrix(detections.xyxy_01, ground_truth.xyxy_01)
    free = np.ones(len(ground_truth), dtype=bool)
    for index in np.argsort(-detections.score, kind="stable"):
        candidates = np.where(free, overlap[index], -1)
        if len(candidates) and candidates.max() >= iou_threshold:
            right[index] = True
            free[len(candidates) - 1 - candidates[::-1].argmax()] = False
    return right


def _coco_figures(
    ground_truth: Sequence[ActorBoxes], detections: Sequence[ActorBoxes]
) -> dict[str, float]:
    truth = COCO()
    truth.dataset = {
        "images": [{"id": frame} for frame in range(len(ground_truth))],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": number + 1, "iscrowd": 0, **entry}
            for number, entry in enumerate(_entries(ground_truth))
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints progress
        truth.createIndex()
        found = truth.loadRes([*_entries(detections)])
        scoring = COCOeval(truth, found, iouType="bbox")
        scoring.params.maxDets = [1, 10, MAX_DETECTIONS]
        scoring.params.areaRng, scoring.params.areaRngLbl = [[0, 1e10]], ["all"]
        scoring.evaluate()
        scoring.accumulate()
    precision = scoring.eval["precision"][:, :, 0, 0, -1]  # (IoUs, recall points)
    recall = scoring.eval["recall"][:, 0, 0, -1]  # (IoUs,)
    return {
        "ap": float(precision.mean()),
        "ap50": float(precision[0].mean()),
        "ap75": float(precision[5].mean()),
        "ar": float(recall.mean()),
        "recall50": float(recall[0]),
    }


def _entries(frames: Sequence[ActorBoxes]) -> list[dict[str, object]]:
    """Return COCO's form: x, y, width, height."""
    return [
        {
            "image_id": frame,
            "category_id": 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "score": float(score),
        }
        for frame, boxes in enumerate(frames)
        for (x1, y1, x2, y2), score in zip(
            boxes.xyxy_01.astype(float).tolist(), boxes.score.tolist(), strict=True
        )
    ]
