"""Scores over costs: points, the path through them and its labels, as PNG and as inline SVG.

The x axis is logarithmic. Legend: pictures are (H, W, 3) uint8 RGB; places are pixels from the
upper left corner.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.visualize.chart import GRID, INK, PAPER, SOFT, dot, stroke, write_png
from detection.visualize.text import BOLD, Color, draw_text, fit, width_of

WIDTH, HEIGHT = 940, 520
LEFT, RIGHT, TOP, BOTTOM = 74, 30, 52, 64
BLUE, ORANGE = (37, 99, 168), (217, 130, 43)


@dataclass(frozen=True)
class Point:
    """A network.  spread: half the range of y over seeds.  label, title: beside it, on hovering."""

    x: float
    y: float
    spread: float = 0.0
    label: str = ""
    title: str = ""
    rival: bool = False


@dataclass(frozen=True)
class Scatter:
    """All points, the path as positions among them, and the names of the axes."""

    points: Sequence[Point]
    path: Sequence[int]
    x_name: str
    y_name: str
    title: str = ""
    _range: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a plot without a point")
        if min(point.x for point in self.points) <= 0:
            raise ValueError("costs must be above 0, the axis is logarithmic")
        xs = [math.log(point.x) for point in self.points]
        lows = [point.y - point.spread for point in self.points]
        highs = [point.y + point.spread for point in self.points]
        margin_x = max(0.12, 0.06 * (max(xs) - min(xs)))
        margin_y = max(0.01, 0.08 * (max(highs) - min(lows)))
        bounds = (
            min(xs) - margin_x,
            max(xs) + margin_x,
            min(lows) - margin_y,
            max(highs) + margin_y,
        )
        object.__setattr__(self, "_range", bounds)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a cost and a score lie, in pixels."""
        low_x, high_x, low_y, high_y = self._range
        across = (math.log(x) - low_x) / (high_x - low_x)
        up = (y - low_y) / (high_y - low_y)
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * across,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up,
        )

    def x_ticks(self) -> list[float]:
        """Return round costs inside the axis: 1, 2 and 5 times powers of ten."""
        low, high = math.exp(self._range[0]), math.exp(self._range[1])
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [base * 10.0**power for power in powers for base in (1, 2, 5)]
        return [tick for tick in ticks if low <= tick <= high]

    def y_ticks(self) -> list[float]:
        """Return about six round scores inside the axis."""
        low, high = self._range[2:]
        rough = (high - low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(base * power for base in (1, 2, 5, 10) if base * power >= rough)
        first = math.ceil(low / step)
        return [index * step for index in range(first, math.floor(high / step) + 1)]


def write_scatter(path: str | Path, scatter: Scatter) -> None:
    """Write the picture as PNG."""
    write_png(path, draw_scatter(scatter))


def draw_scatter(scatter: Scatter) -> NDArray[np.uint8]:
    """Return the picture: grey candidates, the path in blue, rivals in orange."""
    picture = np.full((HEIGHT, WIDTH, 3), PAPER, np.uint8)
    title = fit(scatter.title, WIDTH - LEFT - RIGHT, 18, BOLD)
    draw_text(picture, title, LEFT, 26, size=18, color=INK, weight=BOLD)
    for tick in scatter.x_ticks():
        across, _ = scatter.place(tick, 0)
        stroke(picture, [(across, TOP), (across, HEIGHT - BOTTOM)], GRID, 1)
        name = _number(tick)
        start = round(across) - width_of(name, 13) // 2
        draw_text(picture, name, start, HEIGHT - BOTTOM + 16, size=13, color=SOFT)
    for tick in scatter.y_ticks():
        _, down = scatter.place(scatter.points[0].x, tick)
        stroke(picture, [(LEFT, down), (WIDTH - RIGHT, down)], GRID, 1)
        name = _number(tick)
        start = LEFT - 8 - width_of(name, 13)
        draw_text(picture, name, start, round(down), size=13, color=SOFT)
    draw_text(picture, scatter.y_name, LEFT, TOP - 6, size=13, color=SOFT)
    start = WIDTH - RIGHT - width_of(scatter.x_name, 14)
    draw_text(picture, scatter.x_name, start, HEIGHT - 20, size=14, color=SOFT)
    stroke(picture, _path_places(scatter), BLUE, 2)
    chosen = set(scatter.path)
    for index, point in enumerate(scatter.points):
        color = ORANGE if point.rival else BLUE if index in chosen else SOFT
        across, down = scatter.place(point.x, point.y)
        if point.spread:
            ends = [scatter.place(point.x, point.y + side * point.spread) for side in (-1, 1)]
            stroke(picture, ends, color, 1)
        size = 5 if index in chosen or point.rival else 3
        dot(picture, (across, down), size, color)
        if point.label:
            x, y = _label_place(across, down, width_of(point.label, 13))
            draw_text(picture, point.label, round(x), round(y), size=13, color=INK)
    return picture


def scatter_svg(scatter: Scatter) -> str:
    """Return the same as an SVG element; every text is escaped, points have titles."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" '
        f'aria-label="{_text(scatter.title or scatter.y_name)}" font-size="13" '
        'font-family="system-ui, sans-serif">'
    ]
    for tick in scatter.x_ticks():
        across, _ = scatter.place(tick, 0)
        parts.append(_svg_line([(across, TOP), (across, HEIGHT - BOTTOM)], GRID, 1))
        parts.append(_svg_text(across, HEIGHT - BOTTOM + 20, _number(tick), "middle", SOFT))
    for tick in scatter.y_ticks():
        _, down = scatter.place(scatter.points[0].x, tick)
        parts.append(_svg_line([(LEFT, down), (WIDTH - RIGHT, down)], GRID, 1))
        parts.append(_svg_text(LEFT - 8, down + 4, _number(tick), "end", SOFT))
    parts.append(_svg_text(LEFT, TOP - 12, scatter.y_name, "start", SOFT))
    parts.append(_svg_text(WIDTH - RIGHT, HEIGHT - 16, scatter.x_name, "end", SOFT))
    parts.append(_svg_line(_path_places(scatter), BLUE, 2))
    chosen = set(scatter.path)
    for index, point in enumerate(scatter.points):
        color = ORANGE if point.rival else BLUE if index in chosen else SOFT
        across, down = scatter.place(point.x, point.y)
        if point.spread:
            ends = [scatter.place(point.x, point.y + side * point.spread) for side in (-1, 1)]
            parts.append(_svg_line(ends, color, 1))
        size = 5 if index in chosen or point.rival else 3.5
        parts.append(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{size}" fill="{_hex(color)}">'
            f"<title>{_text(point.title or point.label)}</title></circle>"
        )
        if point.label:
            x, y = _label_place(across, down, 7 * len(point.label))
            parts.append(_svg_text(x, y + 4, point.label, "start", INK))
    return "".join([*parts, "</svg>"])


def _path_places(scatter: Scatter) -> list[tuple[float, float]]:
    return [
        scatter.place(scatter.points[index].x, scatter.points[index].y) for index in scatter.path
    ]


def _label_place(across: float, down: float, width: int) -> tuple[float, float]:
    """Return where a label begins: left above its point, away from a rising path; else below."""
    if across - 8 - width >= LEFT:
        return across - 8 - width, down - 11
    return across + 8, down + 15


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _svg_line(places: Sequence[tuple[float, float]], color: Color, thickness: int) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return (
        f'<polyline points="{points}" fill="none" stroke="{_hex(color)}" '
        f'stroke-width="{thickness}"/>'
    )


def _svg_text(x: float, y: float, text: str, anchor: str, color: Color) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{_hex(color)}">'
        f"{_text(text)}</text>"
    )


def _hex(color: Color) -> str:
    return "#" + bytes(color).hex()


def _text(value: str) -> str:
    return html.escape(value)
