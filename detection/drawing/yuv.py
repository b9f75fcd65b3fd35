"""YUV frames to draw on: what is drawn on an RGB frame, in the form that the encoder takes.

Every operation of drawing mixes a colour into a part of the frame, value by value, so that it is
the same in RGB and in Y, U and V. A colour's U and V belong to every second pixel of every second
row; lines and letters are taken at these pixels.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.drawing.palette import Color
from detection.video.planes import YuvCoding

Plane = NDArray[np.uint8]


class YuvFrame:
    """A frame of planes, drawn on in place by the functions that draw on (H, W, 3) RGB arrays.

    planes: Y (H, W), U and V (H / 2, W / 2) uint8; H and W are even.
    """

    def __init__(self, planes: tuple[Plane, Plane, Plane], coding: YuvCoding) -> None:
        self._planes, self._coding = planes, coding
        self.shape = planes[0].shape

    def fill(self, x1: int, y1: int, x2: int, y2: int, color: Color) -> None:
        """Fill x1 to x2 and y1 to y2 (ends excluded) with a colour, clipped to the frame."""
        for part, value in zip(self._parts(x1, y1, x2, y2), self._coding.yuv(color), strict=True):
            part[:] = value

    def darken(self, x: int, y: int, w: int, h: int, color: Color, share: float) -> None:
        """Mix `share` of a dark colour into part of the frame."""
        tables = _mixing(self._coding.yuv(color), share)
        for part, table in zip(self._parts(x, y, x + w, y + h), tables, strict=True):
            if part.size:
                part[:] = cv2.LUT(part, table)

    def blend(self, mask: Plane, x: int, y: int, color: Color) -> None:
        """Paint `color` through an 8-bit mask whose corner lies at (x, y)."""
        height, width = mask.shape
        top, left = max(0, y), max(0, x)
        masks = [mask[top - y :, left - x :]]
        masks += [mask[top + top % 2 - y :: 2, left + left % 2 - x :: 2]] * 2
        parts = self._parts(x, y, x + width, y + height)
        for part, value, own in zip(parts, self._coding.yuv(color), masks, strict=True):
            if not part.size:
                continue
            share = own[: part.shape[0], : part.shape[1]].astype(np.uint16)
            mixed = share * np.uint16(value)
            mixed += part * (255 - share)
            mixed += 127
            part[:] = mixed // 255

    def _parts(self, x1: int, y1: int, x2: int, y2: int) -> list[Plane]:
        """Return the part of each plane; of U and V the values of pixels inside."""
        x1, y1, x2, y2 = (max(0, value) for value in (x1, y1, x2, y2))
        luma, blue, red = self._planes
        x3, y3, x4, y4 = ((value + 1) // 2 for value in (x1, y1, x2, y2))
        return [luma[y1:y2, x1:x2], blue[y3:y4, x3:x4], red[y3:y4, x3:x4]]


Canvas = NDArray[np.uint8] | YuvFrame
"""What is drawn on: an (H, W, 3) RGB frame, or its planes."""


@lru_cache(maxsize=64)
def _mixing(yuv: tuple[int, int, int], share: float) -> list[NDArray[np.uint8]]:
    """Return for each plane (256,): what becomes of each value."""
    values = np.arange(256)
    return [np.round(values * (1 - share) + value * share).astype(np.uint8) for value in yuv]
