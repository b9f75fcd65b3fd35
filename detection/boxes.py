"""Boxes as arrays: areas, overlaps, clipping, and one rule for boxes that hold nothing.

A box is x1, y1, x2, y2 in one unit, pixels or fractions of the frame alike; areas are in that unit
squared, overlaps have none. A box whose x2 is not above x1, or y2 not above y1 (a line, a point, a
box turned inside out) is empty: its area is 0, and its IoU with any box is 0, with itself too.

Legend: N and M boxes of two sets. Pure numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Side of the square that shows a person, in longest sides of their boxes: chosen on JHMDB's
# training clips by benchmarks/zero_training.py (docs/results.md).
SQUARE_SCALE = 2.0


def areas(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the areas (...) of boxes (..., 4), in their precision."""
    width = np.maximum(boxes[..., 2] - boxes[..., 0], 0)
    height = np.maximum(boxes[..., 3] - boxes[..., 1], 0)
    return np.asarray(width * height)


def clipped(
    boxes: NDArray[np.floating], *, width: float = 1, height: float = 1
) -> NDArray[np.floating]:
    """Return boxes (..., 4) cut off at a frame's edges; what lies outside becomes empty."""
    inside: NDArray[np.floating] = np.clip(
        boxes, 0, np.asarray([width, height, width, height], boxes.dtype)
    )
    return inside


def paired_iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the IoU (...) of boxes (..., 4) with their partners (..., 4), in their precision.

    The shapes broadcast: (4,) against (N, 4) compares one box with N.
    """
    common, union = _intersection_and_union(first, second)
    iou: NDArray[np.floating] = np.zeros_like(union)
    np.divide(common, union, out=iou, where=union > 0)
    return iou


def iou_matrix(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Return the (N, M) IoU of two sets of boxes (N, 4) and (M, 4)."""
    return np.asarray(paired_iou(*_crossed(first, second)), np.float64)


def giou_matrix(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Return the (N, M) generalised IoU: IoU less the empty share of the hull, in -1 to 1.

    It tells near boxes from far ones where neither overlaps (H. Rezatofighi et al., "Generalized
    Intersection over Union", 2019).
    """
    a, b = _crossed(first, second)
    low, high = np.minimum(a[..., :2], b[..., :2]), np.maximum(a[..., 2:], b[..., 2:])
    hull = areas(np.concatenate([low, high], axis=-1))
    _, union = _intersection_and_union(a, b)
    empty = np.divide(hull - union, hull, out=np.zeros_like(hull), where=hull > 0)
    return np.asarray(paired_iou(a, b) - empty, np.float64)


def plain_iou(first: list[float], second: list[float]) -> float:
    """Return the IoU of two boxes; for a handful of them several times as fast as arrays."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    area = (first[2] - first[0]) * (first[3] - first[1])
    return common / (area + (second[2] - second[0]) * (second[3] - second[1]) - common)


def _intersection_and_union(
    first: NDArray[np.floating], second: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0])
    height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    return common, areas(first) + areas(second) - common


def _crossed(
    first: ArrayLike, second: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (first, second))
    return a[:, None], b[None]
