"""What a search found: a table, a plot and a page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection.expansion.axes import SYMBOLS, axis_value
from detection.expansion.scheduler import name_of
from detection.expansion.search import Candidate, Outcome, Step
from detection.files import write_text
from detection.models.x3d import X3DDescription
from detection.reports.evaluation_page import document, html_table, text
from detection.reports.figures import Point, SearchPlot, search_figure, write_png

HEADS = ("step", "axis", "network", "cost", "of asked", "score", "spread", "")


@dataclass(frozen=True)
class Units:
    """What the numbers mean.  scale: what a cost is divided by.  cost, score: in words."""

    scale: float
    cost: str
    score: str


@dataclass(frozen=True)
class Finalist:
    """A network trained again.  way: how it was found."""

    way: str
    description: X3DDescription
    cost: float
    outcome: Outcome


def candidate_rows(steps: Iterable[Step], units: Units) -> Iterator[tuple[str, ...]]:
    """Yield the cells of every candidate and of every axis left out, under `HEADS`."""
    for step in steps:
        for index, one in enumerate(step.candidates):
            words = "contracted" if step.contraction else "chosen" if index == step.chosen else ""
            if one.outcome.failure is not None:
                words = f"failed: {one.outcome.failure}"
            yield (
                str(step.number),
                _axis(one),
                name_of(one.description),
                f"{one.cost / units.scale:.4g}",
                f"{one.cost / one.asked:.2f}" if one.axis is not None else "",
                _score(one.outcome),
                f"{one.outcome.spread:.4f}" if len(one.outcome.scores) > 1 else "",
                words,
            )
        for axis in step.left_out:
            words = f"left out: {axis.reason}"
            yield (str(step.number), axis.axis, "", "", "", "", "", words)


def text_table(rows: Sequence[Sequence[str]], heads: Sequence[str] = HEADS) -> str:
    """Lay rows out in columns."""
    everything = [heads, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(heads))]
    widths[-1] = 0
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in everything
    )


def write_report(
    folder: Path,
    steps: Sequence[Step],
    *,
    units: Units,
    title: str,
    remarks: Sequence[str] = (),
    finalists: Sequence[Finalist] = (),
) -> None:
    """Write search.csv, search.json, search.png and search.html, each whole."""
    rows = list(candidate_rows(steps, units))
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows([(*HEADS[:-1], "remark"), *rows])
    write_text(folder / "search.csv", content.getvalue())
    values = {
        "cost": units.cost,
        "score": units.score,
        "steps": [
            {
                "number": step.number,
                "contraction": step.contraction,
                "chosen": step.chosen,
                "candidates": [
                    {"axis": one.axis} | _as_json(one, units) for one in step.candidates
                ],
                "left_out": [{"axis": one.axis, "reason": one.reason} for one in step.left_out],
            }
            for step in steps
        ],
        "finalists": [{"way": one.way} | _as_json(one, units) for one in finalists],
    }
    write_text(folder / "search.json", json.dumps(values, indent=1) + "\n")
    plot = plot_of(steps, units=units, title=title, finalists=finalists)
    write_png(folder / "search.png", search_figure(plot))
    write_text(folder / "search.html", page(plot, rows, finalists, units, title, remarks))


def plot_of(
    steps: Sequence[Step], *, units: Units, title: str, finalists: Sequence[Finalist] = ()
) -> SearchPlot:
    """Return the plot's numbers: every candidate a point, the path a line, its axes named."""
    points: list[Point] = []
    path: list[int] = []
    for step in steps:
        for index, one in enumerate(step.candidates):
            if not one.outcome.scores or one.outcome.failure is not None:
                continue
            chosen = index == step.chosen
            if chosen:
                path.append(len(points))
            points.append(_point(one, units, _axis(one), _axis(one) if chosen else ""))
    again = [
        _point(one, units, one.way, one.way.partition(" (")[0])
        for one in best_first(finalists)
        if one.outcome.failure is None and one.outcome.scores
    ]
    return SearchPlot(points, path, f"cost, {units.cost}", units.score, title, again)


def _point(one: Candidate | Finalist, units: Units, words: str, label: str) -> Point:
    cost, outcome = one.cost / units.scale, one.outcome
    title = f"{words}: {name_of(one.description)}, {_score(outcome)}"
    return Point(cost, outcome.mean, outcome.scores, label=label, title=title)


def page(
    plot: SearchPlot,
    rows: Sequence[Sequence[str]],
    finalists: Sequence[Finalist],
    units: Units,
    title: str,
    remarks: Sequence[str],
) -> str:
    """Return the page: plot, finalists, every candidate."""
    key = "Blue: the chosen path, its axes named. Grey: candidates that were not chosen."
    if finalists:
        key += " Orange: networks trained again, the best first, with the range over their seeds."
    cells = [[text(cell) for cell in row] for row in rows]
    words = frozenset({1, 2, 7})
    return document(
        title,
        [
            f"<h1>{text(title)}</h1>",
            "".join(f'<div class="soft">{text(remark)}</div>' for remark in remarks),
            plot.svg(),
            f'<p class="soft">{text(key)} The axes: '
            + text(", ".join(f"{name} {symbol}" for name, symbol in SYMBOLS.items()))
            + ".</p>",
            _finalist_table(finalists, units),
            "<h2>Every candidate</h2>",
            html_table([text(head) for head in HEADS], cells, words),
        ],
    )


def best_first(finalists: Sequence[Finalist]) -> list[Finalist]:
    """Return networks trained again by their mean score, failed ones last."""
    return sorted(finalists, key=lambda one: one.outcome.mean, reverse=True)


def finalist_rows(finalists: Sequence[Finalist], units: Units) -> list[tuple[str, ...]]:
    """Return (way, network, cost, mean, range, seeds) of networks trained again, the best first."""
    return [
        (
            one.way,
            name_of(one.description),
            f"{one.cost / units.scale:.4g}",
            _score(one.outcome),
            f"{min(one.outcome.scores):.4f} to {max(one.outcome.scores):.4f}"
            if one.outcome.scores
            else "",
            str(len(one.outcome.scores)),
        )
        for one in best_first(finalists)
    ]


def finalist_heads(units: Units) -> tuple[str, ...]:
    """Return the heads of `finalist_rows`."""
    return ("found by", "network", units.cost, units.score, "range", "seeds")


def _finalist_table(finalists: Sequence[Finalist], units: Units) -> str:
    if not finalists:
        return ""
    cells = [[text(cell) for cell in row] for row in finalist_rows(finalists, units)]
    heads = [text(head) for head in finalist_heads(units)]
    return "<h2>Trained again</h2>" + html_table(heads, cells, frozenset({1, 4}))


def _as_json(one: Candidate | Finalist, units: Units) -> dict[str, Any]:
    return {
        "network": name_of(one.description),
        "cost": one.cost / units.scale,
        "scores": list(one.outcome.scores),
        "failure": one.outcome.failure,
    }


def _axis(one: Candidate) -> str:
    if one.axis is None:
        return "basis"
    return f"{one.axis.replace('_', ' ')}: {axis_value(one.description, one.axis)}"


def _score(outcome: Outcome) -> str:
    if outcome.failure is not None:
        return "failed"
    return f"{outcome.mean:.4f}" if outcome.scores else ""
