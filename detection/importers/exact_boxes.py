"""Boxes between fractions and a tool's own unit, so that both ways give the same numbers.

A box 0.077 from the left of a frame 1280 wide is written as 98.56, which read back is
0.07700000000000001: numbers within rounding of six decimals are taken as those.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEAR_01 = 1e-11  # of a frame; a pixel written with nine decimals is off by less
_DIGITS = (2, 3, 6, 9, 12)

Box = tuple[float, float, float, float]


def snapped(boxes_01: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return fractions of the frame with those next to a number of six decimals on it."""
    near = np.round(boxes_01, 6)
    return np.where(np.abs(boxes_01 - near) <= _NEAR_01, near, boxes_01)


def corner_and_size(box_01: Box, scale: tuple[float, float]) -> tuple[Box, bool]:
    """Return x, y, width, height in a tool's unit, and whether they read back as the same box.

    scale: width and height of the frame in that unit. The fewest decimals that read back are taken.
    """
    x, width, exact_x = _edges(box_01[0], box_01[2], scale[0])
    y, height, exact_y = _edges(box_01[1], box_01[3], scale[1])
    return (x, y, width, height), exact_x and exact_y


def _edges(low_01: float, high_01: float, scale: float) -> tuple[float, float, bool]:
    tried = [
        (first, round(high_01 * scale - first, digits))
        for digits in _DIGITS
        for first in [round(low_01 * scale, digits)]
    ]
    for first in _around(low_01 * scale):
        tried += [(first, extent) for extent in _around(high_01 * scale - first)]
    low, extent = np.array(tried).T
    back = snapped(np.stack([low / scale, (low + extent) / scale]))
    same = np.flatnonzero((back[0] == low_01) & (back[1] == high_01) & (extent > 0))
    best = int(same[0]) if len(same) else len(_DIGITS)  # else the nearest doubles
    return float(low[best]), float(extent[best]), bool(len(same))


def _around(value: float) -> list[float]:
    """Return a number and the doubles next to it."""
    step = float(np.spacing(value))
    return [value, *(value + n * step for n in (-1, 1, -2, 2))]
