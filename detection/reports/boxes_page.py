"""A report on person boxes as one HTML file: inline charts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from detection.evaluation.box_report import BoxReport
from detection.reports import boxes_text
from detection.reports.evaluation_page import document, html_table, text
from detection.reports.evaluation_text import fraction
from detection.reports.figures import BLUE, GREEN, INK, ORANGE, Line, UnitPanel, svg, unit_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 200


def page(boxes: BoxReport, *, title: str, files: Sequence[str]) -> str:
    """Return the whole page; `files` is what was read."""
    figure = draw_boxes(boxes, title="From each score on")
    labels = boxes.ceiling.num_ground_truth
    classes = [
        (text(name), fraction(ap), f"{labels[name]:,}")
        for name, ap in boxes.ceiling.per_class.items()
    ]
    parts = [
        f"<h1>{text(title)}</h1>",
        f'<p><span class="big">{fraction(boxes.ap.ap50)}</span>AP50 of the boxes<br>'
        f'<span class="soft">{text(boxes_text.basis(boxes))}</span></p>',
        "".join(f'<div class="soft">{text(name)}</div>' for name in files),
        "".join(f"<p><b>{text(remark)}</b></p>" for remark in boxes_text.remarks(boxes)),
        f"<p>{text(boxes_text.ap_line(boxes))}</p>",
        "".join(f"<div>{text(line)}</div>" for line in boxes_text.suggestions(boxes)),
        f"<p><b>{text(boxes_text.ceiling_line(boxes))}</b></p>",
        "<h2>By score</h2>",
        f"<figure>{svg(figure, label='figures by score, and precision over recall')}</figure>",
        html_table(*boxes_text.threshold_table(boxes)),
        "<h2>People a keyframe</h2>",
        html_table(*boxes_text.people_table(boxes)),
        "<h2>Ceiling by class</h2>",
        html_table(("class", "highest AP, all boxes", "labels"), classes),
    ]
    return document(title, parts)


def draw_boxes(boxes: BoxReport, *, title: str) -> Figure:
    """Return two panels; the suggested thresholds and the one in use are marked."""
    marks = [(boxes.asked.threshold, "in use")]
    if boxes.best is not None:
        marks.append((boxes.best.threshold, "suggested"))
    if boxes.floor is not None and boxes.floor.threshold != boxes.asked.threshold:
        marks.append((boxes.floor.threshold, "multiplied"))
    over_recall = UnitPanel("precision over recall", "recall", [precision_over_recall(boxes)])
    return unit_panels([UnitPanel(title, "score from", by_threshold(boxes), marks), over_recall])


def by_threshold(boxes: BoxReport) -> list[Line]:
    """Return precision, recall, F1 and ceiling over the threshold."""
    rows = [(at.threshold, at.precision, at.recall, at.f1, at.ceiling) for at in boxes.table]
    x, *columns = np.array(rows, np.float64).reshape(-1, 5).T
    lines = (("precision", BLUE), ("recall", ORANGE), ("F1", INK), ("ceiling", GREEN))
    return [Line(name, color, x, y) for (name, color), y in zip(lines, columns, strict=True)]


def precision_over_recall(boxes: BoxReport) -> Line:
    """Return the curve, with as many points as can be told apart, evenly in recall."""
    curve = boxes.curve
    if not len(curve.recall) or np.isnan(curve.recall).any():
        return Line("precision", BLUE, np.zeros(0), np.zeros(0))
    last = len(curve.recall) - 1
    evenly = np.linspace(0, curve.recall[-1], POINTS)
    places = np.minimum(np.searchsorted(curve.recall, evenly), last)
    chosen = np.unique(np.append(places, last))
    return Line("precision", BLUE, curve.recall[chosen], curve.precision[chosen])
