"""A report on person boxes as one HTML file: inline drawings, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.box_report import BoxReport
from detection.reports import boxes_text
from detection.reports.evaluation_page import document, table, text
from detection.reports.evaluation_text import number

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 330, 40, 10, 10, 60
POINTS = 200
BLUE, ORANGE, GREEN, DARK = "#2563a8", "#d9822b", "#2f855a", "#1b1f24"


@dataclass(frozen=True)
class Line:
    """A line of a drawing within the unit square. x, y: (points,); NaN where there is a gap."""

    name: str
    color: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def page(boxes: BoxReport, *, title: str, files: Sequence[str]) -> str:
    """Return the whole page; `files` is what was read."""
    parts = [
        f"<h1>{text(title)}</h1>",
        f'<p><span class="big">{number(boxes.ap.ap50)}</span>AP50 of the boxes<br>'
        f'<span class="soft">{text(boxes_text.basis(boxes))}</span></p>',
        "".join(f'<div class="soft">{text(name)}</div>' for name in files),
        "".join(f"<p><b>{text(remark)}</b></p>" for remark in boxes_text.remarks(boxes)),
        f"<p>{text(boxes_text.ap_line(boxes))}</p>",
        "".join(f"<div>{text(line)}</div>" for line in boxes_text.suggestions(boxes)),
        f"<p><b>{text(boxes_text.ceiling_line(boxes))}</b></p>",
        "<h2>By score</h2>",
        '<div class="grid" style="grid-template-columns: repeat(auto-fill, minmax(480px, 1fr))">'
        + _figure("From each score on", drawing(by_threshold(boxes), "score from"))
        + _figure("Precision over recall", drawing([precision_over_recall(boxes)], "recall"))
        + "</div>",
        table(*boxes_text.threshold_table(boxes)),
        "<h2>People a keyframe</h2>",
        table(*boxes_text.people_table(boxes)),
        "<h2>Ceiling by class</h2>",
        _classes(boxes),
    ]
    return document(title, parts)


def by_threshold(boxes: BoxReport) -> list[Line]:
    """Return precision, recall, F1 and ceiling over the threshold."""
    x = np.array([at.threshold for at in boxes.table])
    columns = (
        ("precision", BLUE, [at.precision for at in boxes.table]),
        ("recall", ORANGE, [at.recall for at in boxes.table]),
        ("F1", DARK, [at.f1 for at in boxes.table]),
        ("ceiling", GREEN, [at.ceiling for at in boxes.table]),
    )
    return [Line(name, color, x, np.array(y, np.float64)) for name, color, y in columns]


def precision_over_recall(boxes: BoxReport) -> Line:
    """Return the curve, with as many points as can be told apart, evenly in recall."""
    curve = boxes.curve
    if not len(curve.recall) or np.isnan(curve.recall).any():
        return Line("precision", BLUE, np.zeros(0), np.zeros(0))
    last = len(curve.recall) - 1
    wanted = np.linspace(0, curve.recall[-1], POINTS)
    places = np.minimum(np.searchsorted(curve.recall, wanted), last)
    chosen = np.unique(np.append(places, last))
    return Line("precision", BLUE, curve.recall[chosen], curve.precision[chosen])


def drawing(lines: Sequence[Line], x_name: str) -> str:
    """Return lines within axes from 0 to 1 as SVG."""
    shapes = []
    for tick in np.linspace(0, 1, 6):
        x, y = _place(tick, tick)
        shapes.append(
            f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}M{LEFT} {y:.1f}H{WIDTH - RIGHT}" '
            f'stroke="#d8dde3"/><text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" '
            f'text-anchor="middle">{tick:.1f}</text>'
            f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{tick:.1f}</text>'
        )
    for place, line in enumerate(lines):
        there = ~np.isnan(line.y)
        spots = zip(line.x[there].tolist(), line.y[there].tolist(), strict=True)
        points = " ".join("{:.1f},{:.1f}".format(*_place(x, y)) for x, y in spots)
        left = LEFT + 100 * place
        shapes.append(
            f'<polyline points="{points}" fill="none" stroke="{line.color}" stroke-width="2"/>'
            f'<path d="M{left} {HEIGHT - 10}h18" stroke="{line.color}" stroke-width="3"/>'
            f'<text x="{left + 23}" y="{HEIGHT - 6}">{text(line.name)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="11" '
        f'fill="#5b6570" role="img" aria-label="{text(x_name)}">{"".join(shapes)}'
        f'<text x="{middle}" y="{HEIGHT - 28}" text-anchor="middle">{text(x_name)}</text></svg>'
    )


def _place(x: float, y: float) -> tuple[float, float]:
    """Return a point of the unit square in the drawing's pixels."""
    across = LEFT + (WIDTH - LEFT - RIGHT) * x
    return across, TOP + (HEIGHT - TOP - BOTTOM) * (1 - y)


def _figure(caption: str, inside: str) -> str:
    return f"<figure><figcaption><b>{text(caption)}</b></figcaption>{inside}</figure>"


def _classes(boxes: BoxReport) -> str:
    ceiling = boxes.ceiling
    rows = [
        (text(name), number(ap), f"{ceiling.num_ground_truth[name]:,}")
        for name, ap in ceiling.per_class.items()
    ]
    return table(("class", "highest AP, all boxes", "labels"), rows)
