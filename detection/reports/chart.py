"""What charts share: colours, lines between pixels, and the way to a PNG file.

Legend: pictures are (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.drawing.text import Color
from detection.errors import UserError
from detection.files import replacing

INK, SOFT, GRID, PAPER = (27, 31, 36), (91, 101, 112), (216, 221, 227), (255, 255, 255)
_FRACTION_BITS = 4


def write_png(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture as PNG, whole or not at all."""
    done, content = cv2.imencode(".png", np.ascontiguousarray(picture[:, :, ::-1]))
    if not done:
        raise UserError(f"{path}: cannot be written as PNG")
    with replacing(path) as temporary:
        temporary.write_bytes(content.tobytes())


def stroke(
    picture: NDArray[np.uint8],
    places: Sequence[tuple[float, float]],
    color: Color,
    thickness: int,
) -> None:
    """Draw a line through places in pixels; fewer than two draw nothing."""
    if len(places) < 2:
        return
    fixed = np.round(np.array(places) * (1 << _FRACTION_BITS)).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(picture, [fixed], False, color, thickness, cv2.LINE_AA, _FRACTION_BITS)


def dot(
    picture: NDArray[np.uint8], place: tuple[float, float], radius_px: int, color: Color
) -> None:
    """Draw a filled circle around a place in pixels."""
    x, y = (round(value * (1 << _FRACTION_BITS)) for value in place)
    cv2.circle(picture, (x, y), radius_px << _FRACTION_BITS, color, -1, cv2.LINE_AA, _FRACTION_BITS)
