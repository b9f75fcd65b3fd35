"""Colours, sizes and basic drawing operations.

Legend: frames are (H, W, 3) uint8 RGB, and those of type `Canvas` may be planes of YUV; they are
drawn on in place; `_px` are pixels of the frame. Ground
truth is blue, predicted people have the colours of `palette`; right and wrong differ by sign as
well as by colour (colours after Okabe and Ito's colour-blind safe palette).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.drawing.actors import Mark
from detection.drawing.palette import Color
from detection.drawing.text import BOLD, blend, draw_text
from detection.drawing.yuv import Canvas, YuvFrame

Frame = NDArray[np.uint8]

TRUTH: Color = (86, 180, 233)
RIGHT: Color = (52, 211, 153)
WRONG: Color = (244, 112, 52)
TEXT: Color = (238, 241, 246)
DIM: Color = (154, 161, 173)
DARK: Color = (16, 18, 24)
BAR: Color = (66, 71, 82)
MARK_COLOR: dict[Mark, Color] = {"right": RIGHT, "wrong": WRONG, "missed": WRONG, "none": TEXT}
_SUBPIXEL_BITS = 4
# Lines of a sign, as fractions of it.
_STROKES = {
    "right": [((0.08, 0.55), (0.36, 0.84)), ((0.36, 0.84), (0.94, 0.16))],
    "wrong": [((0.14, 0.14), (0.86, 0.86)), ((0.86, 0.14), (0.14, 0.86))],
}


@dataclass(frozen=True)
class Style:
    """Sizes in pixels, derived from the text size."""

    text_px: int

    @classmethod
    def for_panel(cls, short_side_px: int) -> Style:
        """Return text of a thirtieth of the panel's short side, 11 to 32 pixels."""
        return cls(int(np.clip(round(short_side_px / 30), 11, 32)))

    @property
    def row_px(self) -> int:
        """Height of a row of a card."""
        return round(1.4 * self.text_px)

    @property
    def padding_px(self) -> int:
        """Padding inside a card."""
        return round(0.4 * self.text_px)

    @property
    def line_px(self) -> int:
        """Line width of a box."""
        return max(2, round(self.text_px / 5.5))


def fill(frame: Canvas, x1: int, y1: int, x2: int, y2: int, color: Color) -> None:
    """Fill x1 to x2 and y1 to y2 (ends excluded) with a colour, clipped to the frame."""
    if isinstance(frame, YuvFrame):
        frame.fill(x1, y1, x2, y2, color)
        return
    frame[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)] = color


def darken(frame: Canvas, x: int, y: int, w: int, h: int, share: float = 0.82) -> None:
    """Darken part of the frame, for letters to be read on."""
    if isinstance(frame, YuvFrame):
        frame.darken(x, y, w, h, DARK, share)
        return
    part = frame[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)]
    if part.size:
        part[:] = cv2.LUT(part, _darkened(share))


@lru_cache(maxsize=16)
def _darkened(share: float) -> NDArray[np.uint8]:
    """Return (1, 256, 3): what becomes of each value of each channel."""
    values = np.arange(256)[None, :, None]
    mixed = values * (1 - share) + np.array(DARK, np.float32) * share
    return mixed.astype(np.uint8)


def draw_sign(frame: Canvas, mark: Mark, x: int, middle: int, text_px: int) -> None:
    """Draw a tick (right), a cross (wrong) or a ring (missed) in a square of `text_px`."""
    blend(frame, _sign(mark, text_px), x, middle - text_px // 2, MARK_COLOR[mark])


@lru_cache(maxsize=64)
def _sign(mark: Mark, text_px: int) -> NDArray[np.uint8]:
    """Return a sign as a mask of `text_px` and the width of a line."""
    size, line = 0.8 * text_px, max(1, round(text_px / 7))
    mask = np.zeros((text_px + line, text_px + line), np.uint8)
    left, top = 0.05 * text_px, text_px // 2 - size / 2
    scale = 1 << _SUBPIXEL_BITS

    def at(across: float, down: float) -> tuple[int, int]:
        return round((left + across * size) * scale), round((top + down * size) * scale)

    for start, end in _STROKES.get(mark, ()):
        cv2.line(mask, at(*start), at(*end), (255,), line, cv2.LINE_AA, _SUBPIXEL_BITS)
    if mark == "missed":
        radius = round(0.44 * size * scale)
        line = max(1, line - 1)
        cv2.circle(mask, at(0.5, 0.5), radius, (255,), line, cv2.LINE_AA, _SUBPIXEL_BITS)
    return mask


def draw_heading(frame: Canvas, text: str, x: int, middle: int, size: int, color: Color) -> int:
    """Draw bold letters; return where they end."""
    return draw_text(frame, text, x, middle, size=size, color=color, weight=BOLD)


def resized(frame: Frame, size: tuple[int, int]) -> Frame:
    """Return the frame scaled to (width, height); one of that size already is not copied."""
    if (frame.shape[1], frame.shape[0]) == size:
        return np.ascontiguousarray(frame)
    how = cv2.INTER_CUBIC if size[0] > frame.shape[1] else cv2.INTER_AREA
    scaled: Frame = np.asarray(cv2.resize(frame, size, interpolation=how), np.uint8)
    return scaled
