"""What surrounds a person in a COCO annotation: a box, a rotated one, or the hull of a shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.importers.cvat_shapes import Box, rotated_hull

_MOST_PIXELS = 1 << 32  # of a run-length encoded mask
SHAPES = ("segmentation", "keypoints", "rbbox", "polygon")


class FieldError(ValueError):
    """What is wrong with one field of an item."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def number_of(value: Any, name: str) -> float:
    """Return a finite number of JSON; raises ValueError."""
    number = float(value) if isinstance(value, int | float) and abs(value) < 1e15 else math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise FieldError(name, f"{name} must be a finite number, found {str(value)[:40]}")
    return number


def shape_without_box(annotation: Mapping[str, Any]) -> str | None:
    """Return the name of the shape that stands in for a box which is not there."""
    if annotation.get("bbox") not in (None, []):
        return None
    return next((name for name in SHAPES if annotation.get(name)), None)


def box_of(annotation: Mapping[str, Any]) -> tuple[Box, bool]:
    """Return x1, y1, x2, y2 of the upright box around a box, and whether it was rotated.

    A rotation (degrees, `attributes.rotation` or `rotation`) turns the box about its middle.
    """
    values = annotation.get("bbox")
    if not isinstance(values, list) or len(values) != 4:
        message = f"bbox must be [x, y, width, height], found {str(values)[:40]}"
        raise FieldError("bbox", f"{message}; a turn goes into attributes.rotation")
    x, y, width, height = (number_of(value, "bbox") for value in values)
    if width <= 0 or height <= 0:
        raise FieldError(
            "bbox", f"bbox has width {width:g} and height {height:g}, both above 0 are required"
        )
    attributes = annotation.get("attributes")
    named = attributes if isinstance(attributes, dict) else {}
    stated = annotation.get("rotation", named.get("rotation", 0))
    degrees = number_of(0 if stated is None else stated, "rotation") % 360
    return rotated_hull((x, y, x + width, y + height), degrees), bool(degrees)


def box_around(annotation: Mapping[str, Any], shape: str) -> Box:
    """Return the upright box around polygons, a mask or seen keypoints; raises ValueError."""
    value = annotation[shape]
    if shape == "keypoints":
        if not isinstance(value, list) or len(value) % 3:
            raise FieldError(shape, "keypoints must be [x, y, seen, ...]")
        flat = np.array([number_of(part, shape) for part in value]).reshape(-1, 3)
        points = flat[flat[:, 2] > 0, :2]
    elif shape in ("segmentation", "polygon") and isinstance(value, list):
        parts = value if all(isinstance(part, list) for part in value) else [value]
        if any(len(part) % 2 or len(part) < 6 for part in parts):
            raise FieldError(shape, f"{shape} must be polygons [x, y, x, y, x, y, ...]")
        points = np.array([number_of(n, shape) for part in parts for n in part]).reshape(-1, 2)
    elif shape == "segmentation" and isinstance(value, dict):
        return box_of_mask(value)
    else:
        raise FieldError(shape, f"{shape} of this form has no hull here: a bbox is required")
    if not len(points) or (np.ptp(points, axis=0) <= 0).any():
        raise FieldError(shape, f"{shape} encloses no area")
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x1, y1, x2, y2


def box_of_mask(mask: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 in pixels around the marked pixels of `{"size", "counts"}`.

    size: [height, width].  counts: lengths of runs down the columns, first unmarked, then marked,
    and so on: a list, or the text that COCO packs it into. Raises ValueError for a mask that does
    not fill its size, and for an empty one.
    """
    size = mask.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_whole(n, 1) for n in size):
        raise ValueError("a mask's size must be [height, width]")
    height, width = size
    ends = np.cumsum(_runs(mask.get("counts"), height * width))
    if not len(ends) or ends[-1] != height * width:
        total = int(ends[-1]) if len(ends) else 0
        raise ValueError(f"a mask's runs cover {total} of {width}x{height} pixels")
    starts, ends = ends[:-1:2], ends[1::2]  # of the marked runs
    starts = starts[: len(ends)]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        raise ValueError("a mask without pixels")
    first, last = starts // height, (ends - 1) // height
    tall = first < last  # continues at the top of the next column
    top = np.where(tall, 0, starts % height).min()
    bottom = np.where(tall, height - 1, (ends - 1) % height).max()
    return float(first.min()), float(top), float(last.max() + 1), float(bottom + 1)


def _runs(counts: Any, pixels: int) -> NDArray[np.int64]:
    """Return the lengths of the runs, none longer than the mask."""
    if pixels > _MOST_PIXELS:
        raise ValueError(f"a mask of {pixels:,} pixels")
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(_is_whole(run, 0) and run <= pixels for run in runs):
        raise ValueError("a mask's counts must be lengths of runs within its size")
    return np.array(runs, np.int64)


def _unpacked(text: str) -> list[int]:
    """Decode COCO's text: 6 bits a character; from the fourth run on, minus the run two before."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("a mask's counts are not COCO's encoding of run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError("a mask's counts end within a number")
    return runs


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
