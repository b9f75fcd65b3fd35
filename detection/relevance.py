"""Relevance: the probability that a detected box is of a person whom the annotators label.

Many data sets label some of the people in a frame (the large ones, those in its middle) and leave
the rest. A detector finds them all, and each of the rest is a false positive of every action. Where
a box lies, how large it is and who is beside it tells the two apart, in the data and for the
detector that it was fitted to and nowhere else: `Relevance.check_detector` refuses another one.

Legend: N boxes of a keyframe, F features. Plain numpy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.boxes import areas, iou_matrix
from detection.errors import UserError
from detection.structures import ActorBoxes

# Left and right count alike: a mirrored frame has the same features.
FEATURES = (
    "width",  # share of the frame's
    "height",
    "log_area",  # of the share of the frame
    "log_aspect",  # of height by width
    "off_middle",  # of the centre, sideways; 0 to 0.5
    "centre_y",
    "off_centre",  # distance of the centre from the frame's
    "touches_side",  # how many of left and right, 0 to 2
    "touches_top",
    "touches_bottom",
    "log_people",  # of the number of boxes
    "larger_share",  # boxes with a larger area, of the others
    "surer_share",  # boxes with a higher score, of the others
    "of_largest",  # area by that of the largest box
    "of_surest",  # score by the highest score
    "overlap",  # the highest IoU with another box
    "score",
    "logit_score",
)
OVERLAP_OF_LABELLED = 0.5  # least IoU with a labelled person's box, as frame-mAP matches
_TOUCHES_01 = 0.01
_LEAST = 1e-4  # areas, sides and scores below are taken for it before a logarithm
_LARGEST_LOGIT = 30.0
_DIGEST = re.compile("[0-9a-f]{64}")


def relevance_features(boxes: ActorBoxes) -> NDArray[np.float64]:
    """Return the (N, F) features of all boxes of a keyframe, in the order of `FEATURES`.

    They do not depend on the order of the boxes; boxes of equal area or score rank alike.
    """
    x1, y1, x2, y2 = boxes.xyxy_01.astype(np.float64).T
    score = boxes.score.astype(np.float64)
    width, height = np.maximum(x2 - x1, 0), np.maximum(y2 - y1, 0)
    area = np.asarray(areas(boxes.xyxy_01.astype(np.float64)), np.float64)
    centre_y, off_middle = (y1 + y2) / 2, np.abs((x1 + x2) / 2 - 0.5)
    bounded = np.clip(score, _LEAST, 1 - _LEAST)
    columns = (
        width,
        height,
        np.log(np.maximum(area, _LEAST)),
        np.log(np.maximum(height, _LEAST) / np.maximum(width, _LEAST)),
        off_middle,
        centre_y,
        np.hypot(off_middle, centre_y - 0.5),
        (x1 <= _TOUCHES_01) * 1.0 + (x2 >= 1 - _TOUCHES_01),
        y1 <= _TOUCHES_01,
        y2 >= 1 - _TOUCHES_01,
        np.full(len(boxes), np.log(max(1, len(boxes)))),
        _share_above(area),
        _share_above(score),
        area / max(area.max(initial=0), _LEAST),
        score / max(score.max(initial=0), _LEAST),
        _overlap_with_others(boxes),
        score,
        np.log(bounded / (1 - bounded)),
    )
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def _share_above(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N,) the share of the others that have a higher value; 0 for one alone."""
    above = (values[None] > values[:, None]).sum(1)
    return np.asarray(above / max(1, len(values) - 1))


def _overlap_with_others(boxes: ActorBoxes) -> NDArray[np.float64]:
    """Return (N,) the highest IoU with another box; 0 for one alone."""
    overlap = iou_matrix(boxes.xyxy_01, boxes.xyxy_01)
    np.fill_diagonal(overlap, 0)
    return np.asarray(overlap.max(axis=1, initial=0))


def are_labelled(boxes: ActorBoxes, labelled: ActorBoxes) -> NDArray[np.bool_]:
    """Return (N,) whether each box overlaps a labelled person's by an IoU of at least 0.5."""
    overlap = iou_matrix(boxes.xyxy_01, labelled.xyxy_01)
    return np.asarray(overlap.max(axis=1, initial=0) >= OVERLAP_OF_LABELLED)


@dataclass(frozen=True)
class BoxOrigin:
    """Which people detector made boxes.

    boxes: what they are called: a name in dataset.yaml, or how the detector was given.
    detector: its digest and what else decides its boxes; None where nothing says so.
    """

    boxes: str
    detector: str | None = None

    def __str__(self) -> str:
        if self.detector is None:
            return f"boxes '{self.boxes}', of which no file says whose they are"
        return f"boxes '{self.boxes}' of {_DIGEST.sub(_shortened, self.detector)}"

    def is_same(self, other: BoxOrigin) -> bool:
        """Say whether the same detector made both; where nothing tells either's, their names do."""
        if self.detector is None and other.detector is None:
            return self.boxes == other.boxes
        return self.detector == other.detector


@dataclass(frozen=True)
class Relevance:
    """A fitted model of whom annotators label; it holds for one data set and detector alone.

    features: names of the F features.
    weights: (F,) float64 of features as they are.
    bias: beside them; the sigmoid of the sum is the probability.
    origin: the detector of the boxes that it was fitted to.
    least_score: boxes below were left out, from the company of others too.
    num_boxes, num_labelled: boxes that it was fitted to, and those of labelled people.
    num_videos: that they are of.
    """

    features: tuple[str, ...]
    weights: NDArray[np.float64]
    bias: float
    origin: BoxOrigin
    least_score: float
    num_boxes: int
    num_labelled: int
    num_videos: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", np.asarray(self.weights, np.float64).reshape(-1))
        if self.features != FEATURES:
            raise ValueError(f"features {self.features}, {FEATURES} are required")
        if len(self.weights) != len(self.features):
            raise ValueError(f"{len(self.weights)} weights for {len(self.features)} features")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias)):
            raise ValueError("weights and bias must be finite")
        if not 0 <= self.least_score <= 1:
            raise ValueError(f"least_score must be from 0 to 1, got {self.least_score}")
        if not 0 < self.num_labelled < self.num_boxes or not 0 < self.num_videos <= self.num_boxes:
            raise ValueError(
                f"{self.num_boxes} boxes of {self.num_videos} videos, {self.num_labelled} of them "
                "labelled: some of both kinds are required"
            )

    def __str__(self) -> str:
        return (
            f"relevance fitted to {self.num_boxes:,} boxes of {self.num_videos:,} videos, "
            f"{self.num_labelled:,} of them of labelled people ({self.origin})"
        )

    def probabilities(self, boxes: ActorBoxes) -> NDArray[np.float64]:
        """Return (N,) the probability that each of a keyframe's boxes is of a labelled person.

        boxes: all of the keyframe from `least_score` on.
        """
        logits = relevance_features(boxes) @ self.weights + self.bias
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT))))

    def weigh(self, boxes: ActorBoxes) -> ActorBoxes:
        """Return a keyframe's boxes, in their order, with scores multiplied by `probabilities`."""
        return ActorBoxes(boxes.xyxy_01, boxes.score * self.probabilities(boxes).astype(np.float32))

    def check_detector(self, origin: BoxOrigin, *, source: str, by_name: bool = True) -> None:
        """Raise `UserError` unless the same detector made other boxes.

        source: what holds this one.  by_name: where nothing tells either detector, their names do.
        """
        both = (self.origin.detector, origin.detector)
        if self.origin.is_same(origin) and (by_name or None not in both):
            return
        why = "that is another detector, for which it would be wrong"
        if None in both:
            why = "the two detectors cannot be compared"
        raise UserError(
            f"{source}: its relevance was fitted to {self.origin}, and {origin} are given: {why}; "
            "relevance is for the detector that it was fitted to alone"
        )

    def check_least_score(self, least_score: float, *, source: str) -> None:
        """Raise `UserError` unless boxes are left out below the same score."""
        if least_score != self.least_score:
            raise UserError(
                f"{source}: its relevance was fitted to boxes with scores from {self.least_score:g}"
                f" on, and not from {least_score:g} on: others change who is beside whom"
            )


def _shortened(digest: re.Match[str]) -> str:
    return f"{digest[0][:12]}..."


def stack_features(keyframes: Sequence[ActorBoxes]) -> NDArray[np.float64]:
    """Return the (R, F) features of the boxes of several keyframes, R in all."""
    nothing = np.zeros((0, len(FEATURES)))
    return np.concatenate([nothing, *map(relevance_features, keyframes)])
