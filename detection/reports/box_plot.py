"""A report on person boxes as one picture: figures over the threshold, precision over recall.

Legend: pictures are (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.drawing.text import BOLD, Color, draw_text, fit, width_of
from detection.evaluation.box_report import BoxReport
from detection.reports.boxes_page import Line, by_threshold, precision_over_recall
from detection.reports.chart import GRID, INK, PAPER, SOFT, stroke, write_png

PANEL_PX = (640, 460)  # width, height
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 52, 84


def write_box_plot(path: str | Path, boxes: BoxReport, *, title: str) -> None:
    """Write the picture as PNG."""
    write_png(path, draw_box_plot(boxes, title=title))


def draw_box_plot(boxes: BoxReport, *, title: str) -> NDArray[np.uint8]:
    """Return two panels side by side; the suggested threshold and the one in use are marked."""
    marks = [(boxes.asked.threshold, "in use")]
    if boxes.best is not None:
        marks.append((boxes.best.threshold, "suggested"))
    left = _panel(by_threshold(boxes), title=title, x_name="score from", marks=marks)
    right = _panel(
        [precision_over_recall(boxes)], title="precision over recall", x_name="recall", marks=[]
    )
    picture: NDArray[np.uint8] = np.concatenate([left, right], axis=1)
    return picture


def _panel(
    lines: Sequence[Line], *, title: str, x_name: str, marks: Sequence[tuple[float, str]]
) -> NDArray[np.uint8]:
    width, height = PANEL_PX
    picture = np.full((height, width, 3), PAPER, np.uint8)
    title = fit(title, width - LEFT - RIGHT, 18, BOLD)
    draw_text(picture, title, LEFT, 26, size=18, color=INK, weight=BOLD)
    for tick in np.linspace(0, 1, 6).tolist():
        across, down = _place(tick, tick)
        stroke(picture, [(across, TOP), (across, height - BOTTOM)], GRID, 1)
        stroke(picture, [(LEFT, down), (width - RIGHT, down)], GRID, 1)
        name = f"{tick:.1f}"
        half = width_of(name, 13) // 2
        below = height - BOTTOM + 14
        draw_text(picture, name, round(across) - half, below, size=13, color=SOFT)
        draw_text(picture, name, LEFT - 8 - 2 * half, round(down), size=13, color=SOFT)
    for level, (threshold, name) in enumerate(marks):
        across, _ = _place(threshold, 0)
        stroke(picture, [(across, TOP), (across, height - BOTTOM)], SOFT, 1)
        start = min(round(across) + 4, width - RIGHT - width_of(name, 12))
        draw_text(picture, name, start, height - BOTTOM - 10 - 16 * level, size=12, color=SOFT)
    middle = (LEFT + width - RIGHT - width_of(x_name, 14)) // 2
    draw_text(picture, x_name, middle, height - BOTTOM + 36, size=14, color=SOFT)
    start = LEFT
    for line in lines:
        color = _rgb(line.color)
        there = ~np.isnan(line.y)
        spots = zip(line.x[there].tolist(), line.y[there].tolist(), strict=True)
        stroke(picture, [_place(x, y) for x, y in spots], color, 2)
        stroke(picture, [(start, height - 18), (start + 22, height - 18)], color, 4)
        start = draw_text(picture, line.name, start + 28, height - 18, size=14, color=INK) + 22
    return picture


def _place(x: float, y: float) -> tuple[float, float]:
    """Return a point of the unit square in the panel's pixels."""
    width, height = PANEL_PX
    across = LEFT + (width - LEFT - RIGHT) * x
    return across, TOP + (height - TOP - BOTTOM) * (1 - y)


def _rgb(text: str) -> Color:
    """Return `#rrggbb` as numbers."""
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue
