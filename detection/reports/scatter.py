"""Scores over costs: points, the path through them and its labels, as PNG and as inline SVG.

The x axis is logarithmic. Networks trained again cost about the same, so they stand side by side in
columns of their own, right of the axis, on the same scale of scores.

Legend: pictures are (H, W, 3) uint8 RGB; places are pixels from the upper left corner.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.drawing.text import BOLD, Color, draw_text, fit, width_of
from detection.reports.chart import GRID, INK, PAPER, SOFT, dot, stroke, write_png

WIDTH, HEIGHT = 940, 520
LEFT, RIGHT, TOP, BOTTOM = 74, 30, 52, 64
COLUMN, GAP = 46, 26  # of a network trained again; between the axis and the first of them
Box = tuple[float, float, float, float]
BLUE, ORANGE = (37, 99, 168), (217, 130, 43)


@dataclass(frozen=True)
class Point:
    """A network.  y: its score.  scores: by seed.  label, title: beside it, on hovering."""

    x: float
    y: float
    scores: Sequence[float] = ()
    label: str = ""
    title: str = ""


@dataclass(frozen=True)
class Mark:
    """A point as it is drawn.  bar: the ends of its range over seeds; text: where the label is."""

    point: Point
    place: tuple[float, float]
    bar: tuple[tuple[float, float], tuple[float, float]]
    color: Color
    radius_px: int
    text: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scatter:
    """All points, the path as positions among them, and the names of the axes.

    again: networks trained again; their labels are in the key below.
    """

    points: Sequence[Point]
    path: Sequence[int]
    x_name: str
    y_name: str
    title: str = ""
    again: Sequence[Point] = ()
    _range: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a plot without a point")
        if min(point.x for point in self.points) <= 0:
            raise ValueError("costs must be above 0, the axis is logarithmic")
        xs = [math.log(point.x) for point in self.points]
        ys = [y for point in [*self.points, *self.again] for y in (point.y, *point.scores)]
        margin_x = max(0.12, 0.06 * (max(xs) - min(xs)))
        margin_y = max(0.01, 0.08 * (max(ys) - min(ys)))
        bounds = (min(xs) - margin_x, max(xs) + margin_x, min(ys) - margin_y, max(ys) + margin_y)
        object.__setattr__(self, "_range", bounds)

    @property
    def right(self) -> int:
        """Where the axis of costs ends, in pixels."""
        columns = GAP + COLUMN * len(self.again) if self.again else 0
        return WIDTH - RIGHT - columns

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a cost and a score lie, in pixels."""
        low_x, high_x, low_y, high_y = self._range
        across = (math.log(x) - low_x) / (high_x - low_x)
        up = (y - low_y) / (high_y - low_y)
        return (
            LEFT + (self.right - LEFT) * across,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up,
        )

    def column(self, index: int) -> float:
        """Return the middle of a column, in pixels."""
        return self.right + GAP + COLUMN * (index + 0.5)

    def path_places(self) -> list[tuple[float, float]]:
        """Return the corners of the path, in pixels."""
        return [self.place(self.points[index].x, self.points[index].y) for index in self.path]

    def marks(self) -> list[Mark]:
        """Return every point as it is drawn, those of the path on top of the others."""
        chosen = set(self.path)
        # The path from its end on: a contraction lies left of the step that it takes back.
        order = [index for index in range(len(self.points)) if index not in chosen]
        order += reversed(self.path)
        marks: list[Mark] = []
        taken, labels = self._covered(), list[Box]()
        for index in order:
            point = self.points[index]
            place = self.place(point.x, point.y)
            text = None
            if point.label:
                text = _label_place(place, width_of(point.label, 13), self.right, taken, labels)
            color, radius = (BLUE, 5) if index in chosen else (SOFT, 3)
            marks.append(Mark(point, place, self._bar(place[0], point), color, radius, text))
        for index, point in enumerate(self.again):
            place = self.column(index), self.place(self.points[0].x, point.y)[1]
            marks.append(Mark(point, place, self._bar(place[0], point), ORANGE, 5))
        return marks

    def _covered(self) -> list[Box]:
        """Return what labels keep off: the points and the path."""
        places = [self.place(point.x, point.y) for point in self.points]
        boxes = [(x - 3, y - 3, x + 3, y + 3) for x, y in places]
        path = self.path_places()
        for (x1, y1), (x2, y2) in itertools.pairwise(path):
            shares = np.linspace(0, 1, 2 + int(math.hypot(x2 - x1, y2 - y1) / 4)).tolist()
            spots = [(x1 + share * (x2 - x1), y1 + share * (y2 - y1)) for share in shares]
            boxes += [(x - 1, y - 1, x + 1, y + 1) for x, y in spots]
        return boxes

    def key(self) -> str:
        """Say what the columns are; empty without any."""
        names = [f"{index} {point.label}" for index, point in enumerate(self.again, start=1)]
        return f"trained again: {', '.join(names)}" if names else ""

    def _bar(self, across: float, point: Point) -> tuple[tuple[float, float], tuple[float, float]]:
        ends = [self.place(point.x, y)[1] for y in (point.y, *point.scores)]
        return (across, max(ends)), (across, min(ends))

    def x_ticks(self) -> list[float]:
        """Return round costs inside the axis: 1, 2 and 5 times powers of ten, or more if few."""
        low, high = math.exp(self._range[0]), math.exp(self._range[1])
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found: list[float] = []
        for bases in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
            ticks = [base * 10.0**power for power in powers for base in bases]
            found = [tick for tick in ticks if low <= tick <= high]
            if len(found) > 3:
                break
        return found

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
    """Return the picture: grey candidates, the path in blue, networks trained again in orange."""
    picture = np.full((HEIGHT, WIDTH, 3), PAPER, np.uint8)
    title = fit(scatter.title, WIDTH - LEFT - RIGHT, 18, BOLD)
    draw_text(picture, title, LEFT, 20, size=18, color=INK, weight=BOLD)

    def centred(name: str, across: float, down: int) -> None:
        start = round(across) - width_of(name, 13) // 2
        draw_text(picture, name, start, down, size=13, color=SOFT)

    for tick in scatter.x_ticks():
        across, _ = scatter.place(tick, 0)
        stroke(picture, [(across, TOP), (across, HEIGHT - BOTTOM)], GRID, 1)
        centred(_number(tick), across, HEIGHT - BOTTOM + 16)
    for number in range(len(scatter.again)):
        centred(str(number + 1), scatter.column(number), HEIGHT - BOTTOM + 16)
    for tick in scatter.y_ticks():
        _, down = scatter.place(scatter.points[0].x, tick)
        for start, end in _rows(scatter):
            stroke(picture, [(start, down), (end, down)], GRID, 1)
        name = _number(tick)
        draw_text(picture, name, LEFT - 8 - width_of(name, 13), round(down), size=13, color=SOFT)
    draw_text(picture, scatter.y_name, LEFT, TOP - 10, size=13, color=SOFT)
    start = scatter.right - width_of(scatter.x_name, 13)
    draw_text(picture, scatter.x_name, start, HEIGHT - BOTTOM + 34, size=13, color=SOFT)
    key = fit(scatter.key(), WIDTH - LEFT - RIGHT, 13)
    draw_text(picture, key, WIDTH - RIGHT - width_of(key, 13), HEIGHT - 12, size=13, color=SOFT)
    stroke(picture, scatter.path_places(), BLUE, 2)
    for mark in scatter.marks():
        stroke(picture, mark.bar, mark.color, 2)
        dot(picture, mark.place, mark.radius_px, mark.color)
        if mark.text is not None:
            x, y = mark.text
            draw_text(picture, mark.point.label, round(x), round(y), size=13, color=INK)
    return picture


def scatter_svg(scatter: Scatter) -> str:
    """Return the same as an SVG element; every text is escaped, points have titles."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" '
        f'aria-label="{_text(scatter.title or scatter.y_name)}" font-size="13" '
        'font-family="system-ui, sans-serif">'
    ]
    below = HEIGHT - BOTTOM + 20
    for tick in scatter.x_ticks():
        across, _ = scatter.place(tick, 0)
        parts.append(_svg_line([(across, TOP), (across, HEIGHT - BOTTOM)], GRID, 1))
        parts.append(_svg_text(across, below, _number(tick), "middle", SOFT))
    for number in range(len(scatter.again)):
        parts.append(_svg_text(scatter.column(number), below, str(number + 1), "middle", SOFT))
    for tick in scatter.y_ticks():
        _, down = scatter.place(scatter.points[0].x, tick)
        parts += [_svg_line([(start, down), (end, down)], GRID, 1) for start, end in _rows(scatter)]
        parts.append(_svg_text(LEFT - 8, down + 4, _number(tick), "end", SOFT))
    parts.append(_svg_text(LEFT, TOP - 12, scatter.y_name, "start", SOFT))
    parts.append(_svg_text(scatter.right, below + 19, scatter.x_name, "end", SOFT))
    parts.append(_svg_text(WIDTH - RIGHT, HEIGHT - 6, scatter.key(), "end", SOFT))
    parts.append(_svg_line(scatter.path_places(), BLUE, 2))
    for mark in scatter.marks():
        (across, down), point = mark.place, mark.point
        parts.append(_svg_line(mark.bar, mark.color, 2))
        parts.append(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{mark.radius_px}" '
            f'fill="{_hex(mark.color)}"><title>{_text(point.title or point.label)}</title></circle>'
        )
        if mark.text is not None:
            x, y = mark.text
            parts.append(_svg_text(x, y + 4, point.label, "start", INK))
    return "".join([*parts, "</svg>"])


def _rows(scatter: Scatter) -> list[tuple[float, float]]:
    """Return from where to where a grid line goes: over the axis of costs, and the columns."""
    rows: list[tuple[float, float]] = [(LEFT, scatter.right)]
    if scatter.again:
        rows.append((scatter.right + GAP, WIDTH - RIGHT))
    return rows


def _label_place(
    place: tuple[float, float],
    width: int,
    right: int,
    taken: Sequence[Box],
    labels: list[Box],
) -> tuple[float, float]:
    """Return where a label begins and its middle's height; note in `labels` what it covers.

    Left above its point, away from a rising path, where there is room; else around it, over no
    other label and as little else as can be.
    """
    across, down = place
    left, beside = across - 8 - width, across + 8
    tries = [(left, down - 11), (beside, down + 13), (left, down + 13), (beside, down - 11)]
    tries.append((min(across - width / 2, right - width - 4), down + 22))
    tries += [(left, down - 11 - 16 * more) for more in (1, 2, 3)]
    boxes = [(x - 3, y - 8, x + width + 3, y + 8) for x, y in tries]
    inside = [
        number
        for number, (x, _, end, _) in enumerate(boxes)
        if x >= LEFT and end <= right and TOP <= tries[number][1] <= HEIGHT - BOTTOM
    ]

    def covers(number: int) -> int:
        return sum(
            weight * _overlap(boxes[number], other)
            for weight, others in ((1000, labels), (1, taken))
            for other in others
        )

    best = min(inside, key=covers, default=0)
    labels.append(boxes[best])
    return tries[best]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


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
