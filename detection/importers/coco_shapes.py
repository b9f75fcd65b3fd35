"""What surrounds a person in a COCO annotation: a box, a rotated one, or the hull of a shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from detection.importers.run_lengths import box_of_mask

Box = tuple[float, float, float, float]
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
        raise FieldError(
            "bbox",
            f"bbox must be [x, y, width, height], found {str(values)[:40]}; "
            "a turn goes into attributes.rotation",
        )
    x, y, width, height = (number_of(value, "bbox") for value in values)
    if width <= 0 or height <= 0:
        raise FieldError(
            "bbox", f"bbox has width {width:g} and height {height:g}, both above 0 are required"
        )
    attributes = annotation.get("attributes")
    named = attributes if isinstance(attributes, dict) else {}
    stated = annotation.get("rotation", named.get("rotation", 0))
    degrees = number_of(0 if stated is None else stated, "rotation") % 360
    if not degrees:
        return (x, y, x + width, y + height), False
    turn = math.radians(degrees)
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
    half = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    middle = x + width / 2, y + height / 2
    return (
        middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]
    ), True  # fmt: skip


def hull_of(annotation: Mapping[str, Any], shape: str) -> Box:
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
