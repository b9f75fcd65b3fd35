"""The planes of yuv420p frames, and how colours are written in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

Plane = NDArray[np.uint8]

BT_709, UNSPECIFIED, BT_601 = 1, 2, 6  # as H.264 numbers its matrices
# From so many lines on players take BT.709 where a video does not say.
_HD_LINES = 720
# Shares of red and blue in the luma, by H.264's number (2020: 9, 10); BT.601's of all others.
_SHARES = {1: (0.2126, 0.0722), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}


@dataclass(frozen=True)
class YuvCoding:
    """How RGB is written as YUV.

    red, blue: their shares of the luma.
    is_full: whether values use all of 0 to 255, and not 16 to 235 (U, V: 240).
    """

    red: float = 0.299
    blue: float = 0.114
    is_full: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> YuvCoding:
        """Return that of a frame whose matrix and range are stated."""
        red, blue = _SHARES.get(int(frame.colorspace), (cls.red, cls.blue))
        return cls(red, blue, frame.color_range == ColorRange.JPEG)

    def yuv(self, color: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return Y, U and V of an RGB colour."""
        return _yuv_of(color, self)


@lru_cache(maxsize=256)
def _yuv_of(color: tuple[int, int, int], coding: YuvCoding) -> tuple[int, int, int]:
    red, green, blue = (value / 255 for value in color)
    luma = coding.red * red + (1 - coding.red - coding.blue) * green + coding.blue * blue
    u, v = (blue - luma) / (2 - 2 * coding.blue), (red - luma) / (2 - 2 * coding.red)
    if coding.is_full:
        return round(255 * luma), min(255, round(128 + 255 * u)), min(255, round(128 + 255 * v))
    return round(16 + 219 * luma), round(128 + 224 * u), round(128 + 224 * v)


def planes_of(frame: VideoFrame) -> tuple[Plane, Plane, Plane]:
    """Return Y (H, W), U and V (H / 2, W / 2) of a yuv420p frame; what is written changes it."""
    luma, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    )
    return luma, blue, red


def assumed_matrix(frame: VideoFrame) -> int:
    """Return the matrix by which players show a decoded frame, as H.264 numbers it."""
    if frame.format.is_rgb:
        return BT_601  # what swscale converts to
    if frame.colorspace != UNSPECIFIED:
        return int(frame.colorspace)
    return BT_601 if frame.height < _HD_LINES else BT_709
