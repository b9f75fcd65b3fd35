"""Bounding boxes (hulls) of CVAT's shapes, in pixels, and their interpolation between frames.

https://docs.cvat.ai/docs/other/xml_format; a rotation is in degrees, clockwise around the centre.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detection.formats.csv_rows import finite_number

Box = tuple[float, float, float, float]
SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")
_CUBOID = [f"{corner}{side}" for side in (1, 2) for corner in ("tl", "bl", "tr", "br")]


@dataclass(frozen=True, slots=True)
class CvatBox:
    """One shape of a track.

    frame: frame number from 0.
    box_px: x1, y1, x2, y2 of a box before its rotation, of any other shape its bounding box.
    outside: the person is not in the frame.
    occluded: the person is occluded.
    attributes: values by name.
    line: line of the file.
    shape: "box", or CVAT's name of another shape.
    rotation: of a box, in degrees.
    """

    frame: int
    box_px: Box
    outside: bool
    occluded: bool
    attributes: Mapping[str, str]
    line: int
    shape: str = "box"
    rotation: float = 0.0

    @property
    def hull_px(self) -> Box:
        """The bounding box of the rotated box."""
        return rotated_hull(self.box_px, self.rotation)


def rotated_hull(box: Box, degrees: float) -> Box:
    """Return the bounding box of a box that is rotated around its centre."""
    if degrees % 360 == 0:
        return box
    x1, y1, x2, y2 = box
    cosine, sine = (abs(f(math.radians(degrees))) for f in (math.cos, math.sin))
    half_w = ((x2 - x1) * cosine + (y2 - y1) * sine) / 2
    half_h = ((x2 - x1) * sine + (y2 - y1) * cosine) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return (x - half_w, y - half_h, x + half_w, y + half_h)


def interpolated(before: CvatBox, after: CvatBox, frame: int) -> CvatBox:
    """Interpolate a shape linearly at a frame between two listed ones (the shorter rotation).

    Attributes and line are those of `before`.
    """
    share = (frame - before.frame) / (after.frame - before.frame)
    x1, y1, x2, y2 = (a + share * (b - a) for a, b in zip(before.box_px, after.box_px, strict=True))
    turn = (after.rotation - before.rotation + 180) % 360 - 180
    return CvatBox(
        frame, (x1, y1, x2, y2), False, before.occluded, before.attributes, before.line,
        before.shape, before.rotation + share * turn,
    )  # fmt: skip


def shape_of(
    name: str,
    values: Mapping[str, str],
    line: int,
    attributes: Mapping[str, str],
    elements: Sequence[CvatBox] = (),
) -> CvatBox:
    """Parse one shape of a track; raises ValueError naming what is wrong.

    elements: the parts of a skeleton; without any it is outside.
    """
    frame = values.get("frame")
    if frame is None:
        raise ValueError(f"<{name}> without frame")
    if not (frame.isascii() and frame.isdigit() and len(frame) < 10):
        raise ValueError(f"frame must be a whole number from 0, found {frame[:40]!r}")
    outside, occluded = flag_of(values, "outside"), flag_of(values, "occluded")
    rotation = 0.0
    if name == "skeleton":
        shown = [part.hull_px for part in elements if not part.outside]
        outside = outside or not shown
        box = _around(shown) if shown else (0.0, 0.0, 0.0, 0.0)
    else:
        box, rotation = box_and_rotation(name, values)
    return CvatBox(int(frame), box, outside, occluded, attributes, line, name, rotation)


def flag_of(values: Mapping[str, str], name: str) -> bool:
    """Return the value of a flag, False where it is absent."""
    text = values.get(name, "0").strip().lower()
    if text not in ("0", "1", "true", "false"):
        raise ValueError(f"{name} must be 0 or 1, found {text[:40]!r}")
    return text in ("1", "true")


def box_and_rotation(name: str, values: Mapping[str, str]) -> tuple[Box, float]:
    """Return the bounding box of a shape other than a skeleton, and a box's rotation in degrees."""

    def number(key: str) -> float:
        if key not in values:
            raise ValueError(f"<{name}> without {key}")
        return finite_number(values[key], key)

    if name == "box":
        x1, y1, x2, y2 = (number(key) for key in ("xtl", "ytl", "xbr", "ybr"))
        return (x1, y1, x2, y2), finite_number(values.get("rotation", "0"), "rotation")
    if name == "ellipse":
        x, y, rx, ry = (number(key) for key in ("cx", "cy", "rx", "ry"))
        angle = math.radians(finite_number(values.get("rotation", "0"), "rotation"))
        half_w = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
        half_h = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
        return (x - half_w, y - half_h, x + half_w, y + half_h), 0.0
    if name == "mask":
        left, top, width, height = (number(key) for key in ("left", "top", "width", "height"))
        return (left, top, left + width, top + height), 0.0
    if name == "cuboid":
        corners = [(number(f"x{c}"), number(f"y{c}")) for c in _CUBOID]
        return _around([(x, y, x, y) for x, y in corners]), 0.0
    if not values.get("points"):
        raise ValueError(f"<{name}> without points")
    places = []
    for pair in values["points"].split(";"):
        x_text, comma, y_text = pair.partition(",")
        if not comma:
            raise ValueError(f"points must be x,y;x,y;..., found {pair[:40]!r}")
        places.append((finite_number(x_text, "points"), finite_number(y_text, "points")))
    return _around([(x, y, x, y) for x, y in places]), 0.0


def _around(boxes: Sequence[Box]) -> Box:
    """Return the bounding box of at least one box."""
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return (min(x1), min(y1), max(x2), max(y2))
