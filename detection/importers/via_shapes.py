"""Boxes around VIA's regions, in pixels: of VIA 3 (`xy`, a number for the shape) and of VIA 2.

Shapes: https://gitlab.com/vgg/via/-/blob/master/via-3.x.y/src/js/_via_const.js and
https://gitlab.com/vgg/via/-/blob/master/via-2.x.y/CodeDoc.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detection.importers.coco_shapes import FieldError, number_of
from detection.importers.cvat_shapes import Box

POINT, RECT, CIRCLE, ELLIPSE, LINE, POLYLINE, POLYGON, EXTREME_RECT, EXTREME_CIRCLE = range(1, 10)
_NAMES = {
    POINT: "point", RECT: "rect", CIRCLE: "circle", ELLIPSE: "ellipse", LINE: "line",
    POLYLINE: "polyline", POLYGON: "polygon", EXTREME_RECT: "extreme rect",
    EXTREME_CIRCLE: "extreme circle",
}  # fmt: skip
_MOST_NUMBERS = 100_000


def box_of_xy(xy: Sequence[Any]) -> tuple[str, Box | None]:
    """Return the shape's name and x1, y1, x2, y2 around it, None for a point.

    xy: VIA 3's `[shape, number, ...]`. An extreme rectangle lists points on its edges. Raises
    ValueError.
    """
    if not isinstance(xy, list) or not 2 <= len(xy) <= _MOST_NUMBERS:
        raise FieldError("xy", f"[shape, number, ...] is required, found {str(xy)[:40]}")
    shape, *numbers = (number_of(value, "xy") for value in xy)
    name = _NAMES.get(int(shape)) if shape == int(shape) else None
    if name is None:
        raise FieldError("xy", f"shape {shape:g}: one of 1 to 9 is required")
    lengths = {"point": (2,), "rect": (4,), "circle": (3,), "ellipse": (4, 5), "line": (4,)}
    wrong = len(numbers) not in lengths.get(name, (len(numbers),)) or (
        name not in lengths and (len(numbers) % 2 or len(numbers) < 4)
    )
    if wrong:
        raise FieldError("xy", f"a {name} of {len(numbers)} numbers")
    if name == "point":
        return name, None
    if name == "rect":
        return name, _of_rect(*numbers)
    if name in ("circle", "ellipse"):
        return name, _of_ellipse(*numbers)
    return name, _around(numbers[::2], numbers[1::2])


def box_of_shape(shape: Mapping[str, Any]) -> tuple[str, Box | None]:
    """Return the same of VIA 2's `{"name": "rect", "x": ..., ...}`; raises ValueError."""
    name = shape.get("name")
    if not isinstance(name, str):
        raise FieldError("name", 'a shape with a name is required, as in {"name": "rect"}')

    def numbers(*keys: str) -> list[float]:
        for key in keys:
            if key not in shape:
                raise FieldError(key, f"'{key}' of a {name[:20]} is required and not there")
        return [number_of(shape[key], key) for key in keys]

    if name == "point":
        numbers("cx", "cy")
        return name, None
    if name == "rect":
        return name, _of_rect(*numbers("x", "y", "width", "height"))
    if name == "circle":
        return name, _of_ellipse(*numbers("cx", "cy", "r"))
    if name == "ellipse":
        turn = numbers("theta") if "theta" in shape else []
        return name, _of_ellipse(*numbers("cx", "cy", "rx", "ry"), *turn)
    if name in ("polygon", "polyline"):
        sides = []
        for key in ("all_points_x", "all_points_y"):
            values = shape.get(key)
            if not isinstance(values, list) or not 2 <= len(values) <= _MOST_NUMBERS:
                raise FieldError(key, f"a list of two numbers or more is required for a {name}")
            sides.append([number_of(value, key) for value in values])
        if len(sides[0]) != len(sides[1]):
            raise FieldError("all_points_y", f"{len(sides[1])} numbers beside {len(sides[0])}")
        return name, _around(*sides)
    raise FieldError("name", f"shape {name[:40]!r}: rect, circle, ellipse or polygon is required")


def _of_rect(x: float, y: float, width: float, height: float) -> Box:
    if width <= 0 or height <= 0:
        raise ValueError(f"width {width:g} and height {height:g}: both above 0 are required")
    return x, y, x + width, y + height


def _of_ellipse(x: float, y: float, rx: float, ry: float | None = None, turn: float = 0) -> Box:
    """Return the box around a circle or an ellipse; where that is turned, around its circle."""
    ry = rx if ry is None else ry
    if turn:
        rx = ry = max(rx, ry)
    if rx <= 0 or ry <= 0:
        raise ValueError(f"radius {min(rx, ry):g}: above 0 is required")
    return x - rx, y - ry, x + rx, y + ry


def _around(xs: Sequence[float], ys: Sequence[float]) -> Box:
    box = min(xs), min(ys), max(xs), max(ys)
    if box[0] == box[2] or box[1] == box[3]:
        raise ValueError("the shape encloses no area")
    return box
